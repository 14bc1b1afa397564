"""Reads without a unit of work, and pages of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection

from ordersync_core.kernel.errors import InvalidInput, Violation
from ordersync_core.kernel.paging import Page, PageRequest

T = TypeVar("T")
R = TypeVar("R")


class SqlReads:
    """What the query classes of the features share: each call reads on a connection of its own.

    connect: opens one for a single statement; on Postgres it has no transaction around it.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._connect = connect


def page_of(
    rows: Sequence[R], request: PageRequest, *, build: Callable[[R], T], position: Callable[[R], tuple[Any, ...]]
) -> Page[T]:
    """A page from the rows of a statement that asked for one more than `request.limit`: the extra one says that there
    is a next page."""
    shown = rows[: request.limit]
    return Page(
        rows=[build(row) for row in shown],
        next=position(shown[-1]) if len(rows) > request.limit else None,
    )


def position_of(request: PageRequest, *kinds: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Where to go on, each part read by its kind; None on the first page.

    Raises:
        InvalidInput: the position is one of another list or another order.
    """
    if request.after is None:
        return None
    try:
        return tuple(kind(part) for kind, part in zip(kinds, request.after, strict=True))
    except (TypeError, ValueError, AttributeError):
        text = "the cursor belongs to another list or another order"
        raise InvalidInput(text, (Violation("/cursor", text),)) from None
