from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest, position_of

T = TypeVar("T")


def page_of(
    rows: Iterable[T],
    page: PageRequest,
    position: Callable[[T], tuple[Any, ...]],
    *kinds: Callable[[Any], Any],
    descending: bool = False,
) -> Page[T]:
    """The rows in the order of their positions, which are distinct, from the one after `page.after` on.

    kinds: read the parts of a position from what stands in a cursor.
    """
    after = position_of(page, *kinds)
    placed = sorted(((position(row), row) for row in rows), key=lambda entry: entry[0], reverse=descending)
    if after is not None:
        placed = [entry for entry in placed if (entry[0] < after if descending else entry[0] > after)]
    shown = placed[: page.limit]
    more = len(placed) > len(shown)
    return Page(rows=[row for _, row in shown], next=tuple(map(_written, shown[-1][0])) if more else None)


def _written(part: Any) -> Any:
    """As it stands in a cursor."""
    if isinstance(part, datetime):
        return rfc3339(part)
    return part if isinstance(part, int) else str(part)
