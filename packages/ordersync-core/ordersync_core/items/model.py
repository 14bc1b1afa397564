"""Items: what they hold, how they read on the wire, and what a change of them is."""

import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any, NewType, Self

from attrs import astuple, evolve, field, fields_dict, frozen

from ordersync_core.items.notifications import (
    ItemCreatedNotification,
    ItemDeletedNotification,
    ItemUpdatedNotification,
)
from ordersync_core.kernel.canonical import canonical_bytes, content_hash
from ordersync_core.kernel.change import Change
from ordersync_core.kernel.decoding import decimal, register, text
from ordersync_core.kernel.localised import LocalisedText, localised_text
from ordersync_core.kernel.moments import rfc3339

MAXIMUM_CODE = 60


class ItemCode(str):
    """The key of an item: trimmed, in normal form C, 1 to 60 printable characters, compared exactly.

    ValueError for anything else.
    """

    __slots__ = ()

    def __new__(cls, code: str) -> Self:
        trimmed = code.strip() if code.isascii() else unicodedata.normalize("NFC", code).strip()
        if not 1 <= len(trimmed) <= MAXIMUM_CODE or not trimmed.isprintable():
            raise ValueError(f"an item code has 1 to {MAXIMUM_CODE} printable characters")
        return super().__new__(cls, trimmed)


class VatTariff(StrEnum):
    NORMAL = "Normal"
    LOW1 = "Low1"
    LOW2 = "Low2"
    SUPER_LOW = "SuperLow"
    PARKING_TARIFF = "ParkingTariff"
    NO_VAT = "NoVat"


Factor = NewType("Factor", Decimal)
"""How many of an item's own unit go into one of a related unit; above zero."""


def factor(number: Decimal) -> Factor:
    if number <= 0:
        raise ValueError("must be above zero")
    return Factor(number)


@frozen(kw_only=True)
class RelatedUnit:
    unit: str
    factor: Factor


@frozen(kw_only=True)
class Image:
    """`content_hash` is the SHA-256 of the content in hexadecimal; `blob` names where the content lies."""

    position: int
    file_name: str
    content_type: str
    content_hash: str
    blob: str


@frozen(kw_only=True)
class Attachment:
    file_name: str
    content_type: str
    content_hash: str
    blob: str


@frozen(kw_only=True)
class Stock:
    """`quantity` counts the item's own unit; it may be below zero where the source says so."""

    warehouse: str
    quantity: Decimal


@frozen(kw_only=True)
class RestockOrder:
    warehouse: str
    quantity: Decimal
    expected_date: datetime


@frozen(kw_only=True)
class Item:
    """An item of one administration. None says that nothing is known, not that the value is empty.

    attributes: JSON values by attribute code; typed when attributes get definitions.
    updated_at: when its content last changed; None on one that was never stored.
    """

    code: ItemCode
    name: LocalisedText = field(factory=lambda: localised_text({}))
    family_code: str | None = None
    unit: str | None = None
    units: tuple[RelatedUnit, ...] = ()
    vat_tariff: VatTariff | None = None
    attributes: Mapping[str, Any] = field(factory=dict)
    images: tuple[Image, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    stocks: tuple[Stock, ...] = ()
    restock_orders: tuple[RestockOrder, ...] = ()
    updated_at: datetime | None = field(default=None, eq=False)

    def content(self) -> dict[str, Any]:
        """The item as JSON on the wire, without `updated_at`: what its hash and its changes are counted on."""
        return {
            "code": str(self.code),
            "name": dict(self.name),
            "family_code": self.family_code,
            "unit": self.unit,
            "units": [{"unit": u.unit, "factor": _decimal(u.factor)} for u in self.units] if self.units else [],
            "vat_tariff": None if self.vat_tariff is None else self.vat_tariff.value,
            "attributes": dict(self.attributes),
            "images": [_file(image) | {"position": image.position} for image in self.images] if self.images else [],
            "attachments": [_file(attachment) for attachment in self.attachments] if self.attachments else [],
            "stocks": [_stock(stock) for stock in self.stocks] if self.stocks else [],
            "restock_orders": [_restock_order(order) for order in self.restock_orders] if self.restock_orders else [],
        }

    def changed(self, at: datetime) -> Self:
        """The same content, changed at that moment. Field by field, for it costs half of `evolve` and an import of a
        catalogue does it for each item."""
        return type(self)(
            code=self.code,
            name=self.name,
            family_code=self.family_code,
            unit=self.unit,
            units=self.units,
            vat_tariff=self.vat_tariff,
            attributes=self.attributes,
            images=self.images,
            attachments=self.attachments,
            stocks=self.stocks,
            restock_orders=self.restock_orders,
            updated_at=at,
        )


register(ItemCode, lambda value: ItemCode(text(value)))
register(Factor, lambda value: factor(decimal(value)))


def _decimal(number: Decimal) -> str:
    return format(number, "f")


def _stock(stock: Stock) -> dict[str, Any]:
    return {"warehouse": stock.warehouse, "quantity": _decimal(stock.quantity)}


def _restock_order(order: RestockOrder) -> dict[str, Any]:
    return {
        "warehouse": order.warehouse,
        "quantity": _decimal(order.quantity),
        "expected_date": rfc3339(order.expected_date),
    }


def _file(file: Image | Attachment) -> dict[str, Any]:
    return {
        "file_name": file.file_name,
        "content_type": file.content_type,
        "content_hash": file.content_hash,
        "blob": file.blob,
    }


def version_of(item: Item) -> str:
    """What an ETag is made of: equal for what `put` takes for the same."""
    return content_hash({name: _value(item, name) for name in item.content()})


def put(kept: Item | None, wanted: Item, *, at: datetime) -> Change[Item] | None:
    """Create the item or replace its content; None when it holds that content already."""
    if kept is None:
        after = wanted.changed(at)
        return Change(
            before=None,
            after=after,
            notification=ItemCreatedNotification(key=str(wanted.code), after=after.content()),
        )
    changed = _changed_fields(kept, wanted)
    if not changed:
        return None
    after, before = wanted.changed(at), kept.content()
    return Change(
        before=kept,
        after=after,
        notification=ItemUpdatedNotification(
            key=str(wanted.code), after=after.content(), before={name: before[name] for name in changed}
        ),
    )


_FIELDS = tuple(name for name in fields_dict(Item) if name not in ("attributes", "updated_at"))
_values = attrgetter(*_FIELDS)


def _changed_fields(kept: Item, wanted: Item) -> list[str]:
    """By value and not by spelling: 1.0 is 1.00. JSON values of attributes are told apart strictly: 1 is not true."""
    changed = [
        name
        for name, old, new in zip(_FIELDS, _values(kept), _values(wanted), strict=True)
        if old != new and canonical_bytes(_value(kept, name)) != canonical_bytes(_value(wanted, name))
    ]
    if canonical_bytes(kept.attributes) != canonical_bytes(wanted.attributes):
        changed.append("attributes")
    return changed


def _value(item: Item, name: str) -> Any:
    """The field as the canonical spelling takes it: numbers count by their value, texts in whatever normal form."""
    value = getattr(item, name)
    return [astuple(entry) for entry in value] if isinstance(value, tuple) else value


def delete(kept: Item) -> Change[Item]:
    return Change(
        before=kept,
        after=None,
        notification=ItemDeletedNotification(key=str(kept.code), after=None, before=kept.content()),
    )


def supply(kept: Item | None, draft: Item, aspects: Iterable[str]) -> Item:
    """The item with the fields of these aspects from `draft`, and all others as they were."""
    if kept is None:
        return draft
    return evolve(kept, **{aspect: getattr(draft, aspect) for aspect in aspects})
