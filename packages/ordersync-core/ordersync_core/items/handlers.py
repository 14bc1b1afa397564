from ordersync_core.items.commands import DeleteItem, PutItem, PutItems
from ordersync_core.items.model import Item, ItemCode, delete, put, version_of
from ordersync_core.items.ports import ItemsUnitOfWork
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import Conflict, NotFound


class VersionMismatch(Conflict):
    """The caller's version is not the stored one."""


def put_item(command: PutItem, *, uow: ItemsUnitOfWork, clock: Clock) -> tuple[Item, bool]:
    """The stored item, and whether it was created. Putting what is there already changes and tells nothing.

    Raises:
        VersionMismatch: `if_match` or `if_none_match` does not hold.
    """
    with uow:
        kept = uow.items.find(command.item.code)
        _check_version(kept, command.if_match)
        if command.if_none_match and kept is not None:
            raise VersionMismatch(f"item {kept.code} exists already")
        change = put(kept, command.item, at=clock.now())
        if change is None or change.after is None:
            return kept or command.item, False
        uow.items.save([change.after])
        uow.tell(change)
        uow.commit()
        return change.after, kept is None


def put_items(command: PutItems, *, uow: ItemsUnitOfWork, clock: Clock) -> frozenset[ItemCode]:
    """Put them in one unit of work; answers the codes of those that were created. What is there already changes and
    tells nothing."""
    with uow:
        kept = uow.items.get(sorted(item.code for item in command.items))
        now = clock.now()
        changes = [put(kept.get(item.code), item, at=now) for item in command.items]
        made = [change for change in changes if change is not None]
        if made:
            uow.items.save([change.after for change in made if change.after is not None])
            uow.tell(*made)
            uow.commit()
    return frozenset(item.code for item in command.items) - frozenset(kept)


def delete_item(command: DeleteItem, *, uow: ItemsUnitOfWork) -> None:
    """Raises NotFound, or VersionMismatch when `if_match` does not hold."""
    with uow:
        kept = uow.items.find(command.code)
        if kept is None:
            raise NotFound(f"there is no item {command.code}")
        _check_version(kept, command.if_match)
        uow.items.delete([kept.code])
        uow.tell(delete(kept))
        uow.commit()


def _check_version(kept: Item | None, wanted: frozenset[str] | None) -> None:
    if wanted is None:
        return
    if kept is None or not ("*" in wanted or version_of(kept) in wanted):
        raise VersionMismatch("the item was changed meanwhile: read it again")
