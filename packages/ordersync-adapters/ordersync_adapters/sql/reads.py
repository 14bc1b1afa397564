"""Reads without a unit of work, and pages of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection

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
