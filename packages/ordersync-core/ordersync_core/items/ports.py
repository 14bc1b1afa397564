from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import Queries, UnitOfWork


class ItemRepository(Protocol):
    def find(self, code: ItemCode) -> Item | None:
        """The item, locked until the end of the transaction; None when there is none."""
        ...

    def get(self, codes: Sequence[ItemCode]) -> Mapping[ItemCode, Item]:
        """Those of the codes that exist, locked."""
        ...

    def save(self, items: Sequence[Item]) -> None:
        """Add or replace them, each with its `updated_at`.

        A twin that added the same code first shows as ChangedMeanwhile, here or at commit, unless the twin's row
        could be seen by `find` or `get` in this transaction.
        """
        ...

    def delete(self, codes: Sequence[ItemCode]) -> None: ...


class ItemsUnitOfWork(UnitOfWork, Protocol):
    @property
    def items(self) -> ItemRepository: ...


class ItemQueries(Queries, Protocol):
    def item(self, code: ItemCode) -> Item | None: ...

    def items(
        self,
        page: PageRequest,
        *,
        sort: str = "code",
        search: str | None = None,
        updated_after: datetime | None = None,
        code: str | None = None,
    ) -> Page[Item]:
        """A page of items.

        sort: "code", "-code", "updated_at" or "-updated_at"; ties by code, so that the order is total. The position
            in `page` is (code,) or (updated_at in RFC 3339, code).
        search: a part of the code or of any name, letter case not regarded.
        """
        ...

    def count_items(self) -> int: ...
