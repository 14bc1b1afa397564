"""Items as rows of the table `items`."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, TypeVar

from orjson import loads
from sqlalchemy import ColumnElement, Connection, Dialect, Select, Text, delete, func, select, tuple_, type_coerce

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import Stored, among
from ordersync_adapters.sql.metadata import JsonText
from ordersync_adapters.sql.reads import SqlReads, page_of
from ordersync_adapters.sql.tables.items import items as item_rows
from ordersync_adapters.sql.types import POSTGRES, stored_moment, to_json
from ordersync_core.items.model import (
    Attachment,
    Factor,
    Image,
    Item,
    ItemCode,
    RelatedUnit,
    RestockOrder,
    Stock,
    VatTariff,
)
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest, position_of

T = TypeVar("T")

_BETWEEN_NAMES = "\x1f"
_NONE = "[]"
"""What most items have of units, images, attachments, stocks and restock orders."""


_COLUMNS = tuple(column.name for column in item_rows.c)


def to_row(item: Item, dialect: Dialect) -> Stored:
    """All columns, in the order of the table; ValueError for an item without `updated_at`."""
    if item.updated_at is None:
        raise ValueError(f"item {item.code} has no moment at which it was changed")
    content = item.content()
    return (
        content["code"],
        to_json(content["name"]),
        item.family_code,
        item.unit,
        _list(content["units"]),
        content["vat_tariff"],
        to_json(content["attributes"]),
        _list(content["images"]),
        _list(content["attachments"]),
        _list(content["stocks"]),
        _list(content["restock_orders"]),
        _BETWEEN_NAMES.join((item.code, *item.name.values())).casefold(),
        stored_moment(item.updated_at, dialect),
    )


def _list(entries: list[Any]) -> str:
    return to_json(entries) if entries else _NONE


_STORED = [
    type_coerce(column, Text).label(column.name) if isinstance(column.type, JsonText) else column
    for column in item_rows.c
    if column is not item_rows.c.searchable
]
"""What `to_item` reads: JSON comes as text, because most of it need not be parsed."""


def to_item(row: Sequence[Any]) -> Item:
    """From `_STORED`; to ask a row for each by name costs as much as all the rest."""
    (
        code,
        name,
        family_code,
        unit,
        units,
        vat_tariff,
        attributes,
        images,
        attachments,
        stocks,
        restock_orders,
        updated_at,
    ) = row
    return Item(
        code=_known_code(code),
        name=loads(name),
        family_code=family_code,
        unit=unit,
        units=_each(units, _to_unit),
        vat_tariff=None if vat_tariff is None else VatTariff(vat_tariff),
        attributes=loads(attributes),
        images=_each(images, _to_image),
        attachments=_each(attachments, _to_attachment),
        stocks=_each(stocks, _to_stock),
        restock_orders=_each(restock_orders, _to_restock_order),
        updated_at=updated_at,
    )


def _each(entries: str, to_entry: Callable[[Any], T]) -> tuple[T, ...]:
    return () if entries == _NONE else tuple([to_entry(entry) for entry in loads(entries)])


def _to_unit(unit: Mapping[str, str]) -> RelatedUnit:
    return RelatedUnit(unit=unit["unit"], factor=Factor(Decimal(unit["factor"])))


def _to_image(image: Mapping[str, Any]) -> Image:
    return Image(**image)


def _to_attachment(attachment: Mapping[str, Any]) -> Attachment:
    return Attachment(**attachment)


def _to_stock(stock: Mapping[str, str]) -> Stock:
    return Stock(warehouse=stock["warehouse"], quantity=Decimal(stock["quantity"]))


def _to_restock_order(order: Mapping[str, str]) -> RestockOrder:
    return RestockOrder(
        warehouse=order["warehouse"],
        quantity=Decimal(order["quantity"]),
        expected_date=datetime.fromisoformat(order["expected_date"]),
    )


def _known_code(code: str) -> ItemCode:
    """A code as it was stored: checked when it came in, and not again for each row."""
    return str.__new__(ItemCode, code)


class SqlItems:
    """Knows which codes this transaction has looked for in vain: an item saved under one of these is new, and must not
    take the place of a twin's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._absent: set[str] = set()

    def find(self, code: ItemCode) -> Item | None:
        return self.get([code]).get(code)

    def get(self, codes: Sequence[ItemCode]) -> Mapping[ItemCode, Item]:
        if not codes:
            return {}
        statement = select(*_STORED).where(among(item_rows.c.code, codes)).order_by(item_rows.c.code).with_for_update()
        found = {item.code: item for item in map(to_item, self._connection.execute(statement).all())}
        self._absent.difference_update(found)
        self._absent.update(code for code in codes if code not in found)
        return found

    def save(self, items: Sequence[Item]) -> None:
        dialect = self._connection.dialect
        rows = sorted([to_row(item, dialect) for item in items], key=itemgetter(0))
        new = [row for row in rows if row[0] in self._absent]
        bulk.insert_stored(self._connection, item_rows, _COLUMNS, new)
        present = [row for row in rows if row[0] not in self._absent] if len(new) < len(rows) else []
        bulk.upsert_stored(self._connection, item_rows, _COLUMNS, present, key=["code"])
        self._absent.difference_update(row[0] for row in new)

    def delete(self, codes: Sequence[ItemCode]) -> None:
        if codes:
            self._connection.execute(delete(item_rows).where(among(item_rows.c.code, codes)))


_SORTS = {
    "code": (item_rows.c.code,),
    "updated_at": (item_rows.c.updated_at, item_rows.c.code),
}


class ItemSqlQueries(SqlReads):
    def item(self, code: ItemCode) -> Item | None:
        with self._connect() as connection:
            row = connection.execute(select(*_STORED).where(item_rows.c.code == code)).one_or_none()
        return None if row is None else to_item(row)

    def items(
        self,
        page: PageRequest,
        *,
        sort: str = "code",
        search: str | None = None,
        updated_after: datetime | None = None,
        code: str | None = None,
    ) -> Page[Item]:
        statement = _sorted(select(*_STORED), page, sort)
        if updated_after is not None:
            statement = statement.where(item_rows.c.updated_at > updated_after)
        if code is not None:
            statement = statement.where(item_rows.c.code == code)
        with self._connect() as connection:
            if search is not None:
                statement = statement.where(_holds(connection, unicodedata.normalize("NFC", search).casefold()))
            rows = connection.execute(statement.limit(page.limit + 1)).all()
        by_moment = sort.endswith("updated_at")
        return page_of(
            rows,
            page,
            build=to_item,
            position=lambda row: (rfc3339(row.updated_at), row.code) if by_moment else (row.code,),
        )

    def count_items(self) -> int:
        with self._connect() as connection:
            return connection.execute(select(func.count()).select_from(item_rows)).scalar_one()


def _sorted(statement: Select[Any], page: PageRequest, sort: str) -> Select[Any]:
    """In the order of `sort`, from the position on that `page` names."""
    descending = sort.startswith("-")
    columns = _SORTS.get(sort.removeprefix("-"))
    if columns is None:
        raise InvalidInput(f"items cannot be sorted by {sort!r}")
    kinds = (str,) if len(columns) == 1 else (datetime.fromisoformat, str)
    position = position_of(page, *kinds)
    if position is not None:
        place = tuple_(*columns)
        statement = statement.where(place < position if descending else place > position)
    return statement.order_by(*(column.desc() if descending else column for column in columns))


def _holds(connection: Connection, part: str) -> ColumnElement[bool]:
    within = func.strpos if connection.dialect.name == POSTGRES else func.instr
    return within(item_rows.c.searchable, part) > 0
