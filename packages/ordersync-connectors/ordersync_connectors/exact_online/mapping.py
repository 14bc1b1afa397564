"""From Exact Online's rows to OrderSync's values: read this first. The field names are Exact's."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ordersync_core.connections.ports import SourceRecord, Tombstone
from ordersync_core.items.model import Item, ItemCode, VatTariff
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.localised import localised_text

ITEM_ENTITY_TYPE = 9
"""What `sync/Deleted` calls an item."""

ITEM_FIELDS = (
    "ID",
    "Code",
    "Description",
    "ExtraDescription",
    "Barcode",
    "Unit",
    "ItemGroupCode",
    "SalesVatCode",
    "IsSalesItem",
    "IsStockItem",
    "IsWebshopItem",
    "StartDate",
    "EndDate",
    "NetWeight",
    "GrossWeight",
    "NetWeightUnit",
    "SearchCode",
)
"""What is read of an item. `Timestamp` comes beside it and is no content."""

ITEM_ASPECTS = ("name", "family_code", "unit", "vat_tariff", "attributes")

_ATTRIBUTES = {
    "ExtraDescription": "extra_description",
    "Barcode": "barcode",
    "IsSalesItem": "is_sales_item",
    "IsStockItem": "is_stock_item",
    "IsWebshopItem": "is_webshop_item",
    "StartDate": "start_date",
    "EndDate": "end_date",
    "NetWeight": "net_weight",
    "GrossWeight": "gross_weight",
    "NetWeightUnit": "weight_unit",
    "SearchCode": "search_code",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BYTE_FLAGS = {"IsWebshopItem"}
_DATES = {"StartDate", "EndDate"}


def source_record(row: Mapping[str, Any]) -> SourceRecord:
    """A row of `sync/Logistics/Items` or `logistics/Items`; InvalidInput when it cannot be told which item it is."""
    key = row.get("ID")
    if not isinstance(key, str) or not key:
        raise InvalidInput("the row has no ID")
    return SourceRecord(
        key=key, version=_timestamp(row), raw={name: row.get(name) for name in ITEM_FIELDS if name in row}
    )


def tombstone(row: Mapping[str, Any]) -> Tombstone | None:
    """A row of `sync/Deleted`; None when it is not about an item."""
    if row.get("EntityType") != ITEM_ENTITY_TYPE:
        return None
    return Tombstone(key=str(row["EntityKey"]), version=_timestamp(row))


def _timestamp(row: Mapping[str, Any]) -> int | None:
    """An Int64: a string of digits, and None on resources that have none."""
    value = row.get("Timestamp")
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"the row's Timestamp {value!r} is not a number") from None


def item(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> Item:
    """An item from a row. Fixed-length columns are padded with blanks, so every text is trimmed."""
    code, description = _text(raw, "Code"), _text(raw, "Description")
    if code is None:
        raise InvalidInput("the item has no Code")
    if description is None:
        raise InvalidInput("the item has no Description")
    try:
        return Item(
            code=ItemCode(code),
            name=localised_text({settings.get("language", "en"): description}),
            family_code=_text(raw, "ItemGroupCode"),
            unit=_text(raw, "Unit"),
            vat_tariff=_vat_tariff(raw, settings),
            attributes=_attributes(raw),
        )
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _vat_tariff(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> VatTariff | None:
    tariff = settings.get("vat_tariffs", {}).get(_text(raw, "SalesVatCode"))
    return None if tariff is None else VatTariff(tariff)


def _attributes(raw: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: _attribute(raw, source) for source, name in _ATTRIBUTES.items()}
    return {name: value for name, value in values.items() if value is not None}


def _attribute(raw: Mapping[str, Any], name: str) -> Any:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool):
        return value
    if name in _BYTE_FLAGS:
        return value == 1
    if name in _DATES:
        return date(value)
    if isinstance(value, int | float):
        return format(Decimal(str(value)), "f")
    return _text(raw, name)


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name} {value!r} is not a text")
    return value.strip() or None


def date(value: Any) -> str:
    """`/Date(1782345600000)/` as 2026-06-25: the milliseconds are the site's wall time written as if it were UTC."""
    digits = str(value).removeprefix("/Date(").removesuffix(")/").split("+")[0]
    try:
        milliseconds = int(digits)
    except ValueError:
        raise InvalidInput(f"{value!r} is not a date") from None
    return (_EPOCH + timedelta(milliseconds=milliseconds)).date().isoformat()
