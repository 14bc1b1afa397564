from attrs import frozen

from ordersync_core.items.model import Item, ItemCode


@frozen(kw_only=True)
class PutItem:
    """Create or replace an item.

    if_match: the version the caller saw (`*`: any existing one); None: whatever is there.
    if_none_match: True: only when there is no such item yet.
    """

    item: Item
    if_match: frozenset[str] | None = None
    if_none_match: bool = False


@frozen(kw_only=True)
class DeleteItem:
    code: ItemCode
    if_match: frozenset[str] | None = None


@frozen
class PutItems:
    """Create or replace items; each code occurs once."""

    items: tuple[Item, ...]
