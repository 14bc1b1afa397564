"""From Exact Online's rows to OrderSync's values: read this first. The field names are Exact's."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

from ordersync_core.connections.ports import SourceRecord, Tombstone
from ordersync_core.items.model import Item, ItemCode, VatTariff
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.localised import localised_text

T = TypeVar("T")

ITEM_FIELDS = (
    "Barcode",
    "Code",
    "Description",
    "EndDate",
    "ExtraDescription",
    "GrossWeight",
    "ID",
    "IsSalesItem",
    "IsStockItem",
    "IsWebshopItem",
    "ItemGroupCode",
    "NetWeight",
    "NetWeightUnit",
    "SalesVatCode",
    "SearchCode",
    "StartDate",
    "Unit",
)
"""What is read of an item, in the order of the alphabet: a hash wants it, and sorts faster what is sorted. `Timestamp`
comes beside it and is no content."""

_DIGITS = 18
"""So many always fit an Int64."""

_WALL_TIME = re.compile(r"/Date\((-?\d{1,15})([+-]\d{4})?\)/", re.ASCII)

DELETED_FIELDS = ("Timestamp", "EntityKey", "EntityType")

ITEM_ENTITY_TYPE = 9
"""What `sync/Deleted` calls an item."""

ITEM_ASPECTS = ("name", "family_code", "unit", "vat_tariff", "attributes")


def source_record(row: Mapping[str, Any]) -> SourceRecord:
    """A row of `sync/Logistics/Items` or `logistics/Items`; InvalidInput when it cannot be told which item it is."""
    try:
        raw = {name: row[name] for name in ITEM_FIELDS}
    except KeyError:
        raw = {name: row[name] for name in ITEM_FIELDS if name in row}
    return SourceRecord.of(
        key=_guid(row, "ID"), version=timestamp(row) if row.get("Timestamp") is not None else None, raw=raw
    )


def is_deleted_item(row: Mapping[str, Any]) -> bool:
    """Whether a row of `sync/Deleted`, which tells of everything a company keeps, is about an item."""
    return row.get("EntityType") == ITEM_ENTITY_TYPE


def tombstone(row: Mapping[str, Any]) -> Tombstone:
    """A row of `sync/Deleted`; InvalidInput when it cannot be told what was deleted."""
    return Tombstone(key=_guid(row, "EntityKey"), version=timestamp(row))


def timestamp(row: Mapping[str, Any]) -> int:
    """The row's place in the history of the company; an Int64, so a string of digits."""
    digits = str(row.get("Timestamp"))
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS):
        raise InvalidInput(f"the row's Timestamp {digits!r} is not a number")
    return int(digits)


def _guid(row: Mapping[str, Any], name: str) -> str:
    key = row.get(name)
    if not isinstance(key, str) or not key:
        raise InvalidInput(f"the row has no {name}")
    return key


def item(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> Item:
    """An item from a row; InvalidInput naming what is wrong with it."""
    code, description = _read(_text, raw, "Code"), _read(_text, raw, "Description")
    if code is None:
        raise InvalidInput("the item has no Code")
    if description is None:
        raise InvalidInput("the item has no Description")
    try:
        return Item(
            code=ItemCode(code),
            name=localised_text({settings.get("language", "en"): description}),
            family_code=_read(_text, raw, "ItemGroupCode"),
            unit=_read(_text, raw, "Unit"),
            vat_tariff=_vat_tariff(raw, settings),
            attributes=_attributes(raw),
        )
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _vat_tariff(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> VatTariff | None:
    tariff = settings.get("vat_tariffs", {}).get(_read(_text, raw, "SalesVatCode"))
    return None if tariff is None else VatTariff(tariff)


def _attributes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the row has no value for is left out."""
    attributes = {}
    for field, (name, read) in _ATTRIBUTES.items():
        value = raw.get(field)
        if value is not None:
            value = read(value, field)
        if value is not None:
            attributes[name] = value
    return attributes


def _read(read: Callable[[Any, str], T], raw: Mapping[str, Any], name: str) -> T | None:
    value = raw.get(name)
    return None if value is None else read(value, name)


def _text(value: Any, name: str) -> str | None:
    """Fixed-length columns are padded with blanks, so every text is trimmed; an empty one is none."""
    if not isinstance(value, str) or "\x00" in value:
        raise InvalidInput(f"{name} {value!r} is not a text")
    return value.strip() or None


def _flag(value: Any, name: str) -> bool:
    """A Boolean, or a Byte of 0 or 1: which of them a flag is differs from field to field."""
    if value not in (0, 1) or isinstance(value, float):
        raise InvalidInput(f"{name} {value!r} is neither true nor false")
    return bool(value)


def _number(value: Any, name: str) -> str:
    """A Double, spelled the same however it came: 100, 100.0 and 1e2 are "100"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{name} {value!r} is not a number")
    digits = str(value)
    if "e" in digits:
        digits = format(Decimal(digits), "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def _date(value: Any, name: str) -> str:
    try:
        return _day(str(value))
    except ValueError as error:
        raise InvalidInput(f"{name} {value!r} is not a date") from error


@lru_cache(maxsize=1024)
def _day(wall_time: str) -> str:
    """`/Date(1782345600000)/` as 2026-06-25: the milliseconds are the site's wall time written as if it were UTC.
    Old data has an offset such as +0200 behind them, which changes nothing. ValueError for anything else."""
    found = _WALL_TIME.fullmatch(wall_time)
    if found is None:
        raise ValueError(wall_time)
    try:
        return (_EPOCH + timedelta(milliseconds=int(found[1]))).date().isoformat()
    except OverflowError as error:
        raise ValueError(wall_time) from error


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ATTRIBUTES: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "ExtraDescription": ("extra_description", _text),
    "Barcode": ("barcode", _text),
    "IsSalesItem": ("is_sales_item", _flag),
    "IsStockItem": ("is_stock_item", _flag),
    "IsWebshopItem": ("is_webshop_item", _flag),
    "StartDate": ("start_date", _date),
    "EndDate": ("end_date", _date),
    "NetWeight": ("net_weight", _number),
    "GrossWeight": ("gross_weight", _number),
    "NetWeightUnit": ("weight_unit", _text),
    "SearchCode": ("search_code", _text),
}
