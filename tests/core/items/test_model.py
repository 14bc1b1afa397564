"""What counts as a change of an item. Law 5: not the spelling of a number, nor the normal form of a text."""

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from ordersync_core.items.model import Item, ItemCode, Stock, factor, put, version_of
from ordersync_core.kernel.localised import localised_text
from ordersync_core.testing.contracts.examples import a_full_item
from ordersync_core.testing.strategies import items, json_objects, names

T = TypeVar("T")

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ONE_CODE = items(codes=st.just(ItemCode("A")))


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Item, Item]:
    """Two items of which some fields are the same, others only spelled differently."""
    one, other = draw(ONE_CODE), draw(ONE_CODE)
    taken = draw(st.sets(st.sampled_from([name for name in one.content() if name != "code"])))
    mixed = evolve(one, **{name: getattr(other, name) for name in taken})
    return one, respelled(mixed) if draw(st.booleans()) else mixed


def respelled(item: Item) -> Item:
    """The same values written otherwise: with more zeros, in the other normal form, in another order of names."""

    def more_zeros(number: Decimal) -> Decimal:
        return Decimal(f"{number:f}" + ("00" if "." in f"{number:f}" else ".00"))

    def decomposed(text: str) -> str:
        return unicodedata.normalize("NFD", text)

    def each(entries: tuple[T, ...], change: Callable[[T], Any]) -> Any:
        return tuple(change(entry) for entry in entries)

    return evolve(
        item,
        name=localised_text(dict(reversed(list(item.name.items())))),
        family_code=None if item.family_code is None else decomposed(item.family_code),
        unit=None if item.unit is None else decomposed(item.unit),
        units=each(item.units, lambda u: evolve(u, unit=decomposed(u.unit), factor=factor(more_zeros(u.factor)))),
        attributes=dict(reversed(list(item.attributes.items()))),
        images=each(item.images, lambda i: evolve(i, file_name=decomposed(i.file_name))),
        stocks=each(item.stocks, lambda s: evolve(s, quantity=more_zeros(s.quantity))),
        restock_orders=each(item.restock_orders, lambda r: evolve(r, quantity=more_zeros(r.quantity))),
    )


@given(item=ONE_CODE)
@example(item=a_full_item())
def test_the_spelling_of_an_item_is_no_change_and_no_other_version(item: Item) -> None:
    assert put(item, respelled(item), at=NOON) is None
    assert version_of(respelled(item)) == version_of(item)


@given(pair=neighbours())
@example(pair=(evolve(a_full_item(), attributes={"a": 1}), evolve(a_full_item(), attributes={"a": True})))
@example(pair=(a_full_item(), evolve(a_full_item(), family_code="cafe\u0301")))
def test_two_items_have_one_version_exactly_when_putting_one_over_the_other_changes_nothing(
    pair: tuple[Item, Item],
) -> None:
    one, other = pair
    assert (version_of(one) == version_of(other)) is (put(one, other, at=NOON) is None)


@given(item=ONE_CODE, other=names(), attributes=json_objects(), quantity=st.integers(1, 10**6))
def test_every_field_is_part_of_the_version(item: Item, other: str, attributes: dict[str, Any], quantity: int) -> None:
    full = a_full_item()
    more = (Stock(warehouse="one more", quantity=Decimal(quantity)),)
    changed = [
        evolve(item, family_code=None if item.family_code == other else other),
        evolve(item, unit=None if item.unit == other else other),
        evolve(item, attributes={**attributes, "in none of them": other}),
        evolve(item, stocks=item.stocks + more),
        evolve(item, restock_orders=item.restock_orders + full.restock_orders),
        evolve(item, images=item.images + full.images),
        evolve(item, attachments=item.attachments + full.attachments),
        evolve(item, units=item.units + full.units),
        evolve(item, code=ItemCode("B")),
        evolve(item, name=localised_text({**item.name, "eo": "kromo"})),
        evolve(item, vat_tariff=None) if item.vat_tariff else evolve(item, vat_tariff=full.vat_tariff),
    ]
    versions = [version_of(one) for one in (item, *changed)]
    assert len(set(versions)) == len(versions)
