from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ordersync_core.kernel.errors import InvalidInput, Violation
from ordersync_core.kernel.paging import Page, PageRequest

T = TypeVar("T")


def page_of(
    rows: Iterable[T], page: PageRequest, position: Callable[[T], tuple[Any, ...]], *, descending: bool = False
) -> Page[T]:
    """The rows in the order of their positions, which are distinct, from the one after `page.after` on."""
    placed = sorted(((position(row), row) for row in rows), key=lambda entry: entry[0], reverse=descending)
    if page.after is not None:
        after = tuple(page.after)
        if placed and len(placed[0][0]) != len(after):
            text = "the cursor belongs to another list or another order"
            raise InvalidInput(text, (Violation("/cursor", text),))
        placed = [entry for entry in placed if (entry[0] < after if descending else entry[0] > after)]
    shown = placed[: page.limit]
    return Page(rows=[row for _, row in shown], next=shown[-1][0] if len(placed) > len(shown) else None)
