from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from unicodedata import normalize

from attrs import evolve

from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.testing.memory.pages import page_of
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction, json_copy

ITEMS = Table[ItemCode, Item]("items")


class MemoryItemRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, code: ItemCode) -> Item | None:
        return self._transaction.find(ITEMS, code)

    def get(self, codes: Sequence[ItemCode]) -> Mapping[ItemCode, Item]:
        return self._transaction.get(ITEMS, sorted(set(codes)))

    def save(self, items: Sequence[Item]) -> None:
        for item in sorted(items, key=lambda item: item.code):
            if item.updated_at is None:
                raise ValueError(f"item {item.code} has no updated_at")
            self._transaction.save(ITEMS, item.code, evolve(item, attributes=json_copy(item.attributes)))

    def delete(self, codes: Sequence[ItemCode]) -> None:
        for code in sorted(set(codes)):
            self._transaction.delete(ITEMS, code)


class MemoryItemQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def item(self, code: ItemCode) -> Item | None:
        return self._database.row(ITEMS, code)

    def items(
        self,
        page: PageRequest,
        *,
        sort: str = "code",
        search: str | None = None,
        updated_after: datetime | None = None,
        code: str | None = None,
    ) -> Page[Item]:
        wanted = [
            item
            for item in self._database.rows(ITEMS).values()
            if (search is None or _mentions(item, search))
            and (updated_after is None or _updated_at(item) > updated_after)
            and (code is None or item.code == code)
        ]
        position = _POSITIONS.get(sort.removeprefix("-"))
        if position is None:
            raise InvalidInput(f"items cannot be sorted by {sort!r}")
        kinds = (str,) if position is _by_code else (datetime.fromisoformat, str)
        return page_of(wanted, page, position, *kinds, descending=sort.startswith("-"))

    def count_items(self) -> int:
        return len(self._database.rows(ITEMS))


def _mentions(item: Item, part: str) -> bool:
    wanted = normalize("NFC", part).casefold()
    return any(wanted in text.casefold() for text in (item.code, *item.name.values()))


def _updated_at(item: Item) -> datetime:
    if item.updated_at is None:
        raise ValueError(f"item {item.code} was never stored")
    return item.updated_at


def _by_code(item: Item) -> tuple[Any, ...]:
    return (str(item.code),)


def _by_update(item: Item) -> tuple[Any, ...]:
    return (_updated_at(item), str(item.code))


_POSITIONS = {"code": _by_code, "updated_at": _by_update}
