"""Domain rule 5: the hash depends on what is said, and not on how it is spelled."""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ordersync_core.kernel.canonical import content_hash, spelling
from ordersync_core.testing.strategies import json_objects, json_values, moments

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
IN_INDIA = timezone(timedelta(hours=5, minutes=30))

# Few enough to meet each other, and alike enough to be mistaken for each other.
TRICKY: list[Any] = [
    None,
    True,
    False,
    0,
    -0.0,
    1,
    1.0,
    Decimal("1.00"),
    "1",
    "1.0",
    1.5,
    Decimal("1.50"),
    Decimal("1.00000000000000000000000000000000000001"),
    Decimal("1.00000000000000000000000000000000000002"),
    10**30,
    1e30,
    1e-7,
    Decimal("0.0000001"),
    "",
    "null",
    "caf\u00e9",
    "cafe\u0301",
    NOON,
    NOON.astimezone(IN_INDIA),
    "2026-01-31T12:00:00+00:00",
    [],
    {},
    {"number": "1"},
    {"moment": "2026-01-31T12:00:00+00:00"},
]


def contents() -> st.SearchStrategy[Any]:
    keys = st.sampled_from(("a", "b", "number", "moment", "\u00e9"))
    return st.recursive(
        st.sampled_from(TRICKY),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=5,
    )


def meaning(value: Any) -> Any:
    """What a content says, in a form that Python compares; written apart from the code under test."""
    match value:
        case None | bool():
            return ("constant", value)
        case str():
            return ("text", unicodedata.normalize("NFC", value))
        case int() | float() | Decimal():
            return ("number", Fraction(str(value)))
        case datetime():
            return ("moment", value.timestamp())
        case list():
            return ("list", tuple(meaning(entry) for entry in value))
        case _:
            return ("fields", frozenset((unicodedata.normalize("NFC", key), meaning(value[key])) for key in value))


@given(one=contents(), other=contents())
@example(one=1, other={"number": "1"})
@example(one=NOON, other={"moment": "2026-01-31T12:00:00+00:00"})
@example(one=TRICKY[12], other=TRICKY[13])
@example(one={"a": None}, other={})
@example(one=True, other=1)
@example(one=[1, 2], other=[2, 1])
def test_equal_hashes_mean_equal_contents_and_the_other_way_round(one: Any, other: Any) -> None:
    assert (content_hash(one) == content_hash(other)) == (meaning(one) == meaning(other))


@pytest.mark.parametrize("one", TRICKY, ids=repr)
def test_what_is_alike_is_told_apart(one: Any) -> None:
    for other in TRICKY:
        assert (content_hash(one) == content_hash(other)) == (meaning(one) == meaning(other)), other


def shuffled(value: Any, data: st.DataObject) -> Any:
    if isinstance(value, Mapping):
        return {key: shuffled(value[key], data) for key in data.draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(entry, data) for entry in value]
    return value


@given(content=json_objects(leaves=20), data=st.data())
def test_the_order_of_fields_is_no_matter(content: dict[str, Any], data: st.DataObject) -> None:
    assert content_hash(shuffled(content, data)) == content_hash(content)


@given(content=json_values())
@example(content={"b": 1.0, "a": [1e16, 1.5e300, 1e-7, "1.0", "e+16"], "e\u0301": "cafe\u0301"})
def test_a_spelling_says_all_that_a_hash_is_made_of(content: Any) -> None:
    assert content_hash(orjson.loads(spelling(content))) == content_hash(content)


@given(digits=st.integers(-(10**20), 10**20), places=st.integers(0, 12), zeros=st.integers(0, 12))
def test_the_spelling_of_a_number_is_no_matter(digits: int, places: int, zeros: int) -> None:
    number = Decimal(digits).scaleb(-places)
    padded = Decimal(
        f"{number:f}" + ("." if number == number.to_integral_value() and places == 0 else "") + "0" * zeros
    )
    assert padded == number
    assert content_hash(padded) == content_hash(number)
    if number == int(number):
        assert content_hash(int(number)) == content_hash(number)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_decimal_that_it_is_written_as(number: float) -> None:
    assert content_hash(number) == content_hash(Decimal(str(number)))


@given(text=st.text())
def test_the_normal_form_of_a_text_is_no_matter(text: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert content_hash(composed) == content_hash(decomposed) == content_hash(text)
    assert content_hash({composed: 1}) == content_hash({decomposed: 1})


@given(moment=moments(), ahead=st.integers(-23 * 60, 23 * 60))
def test_the_zone_in_which_a_moment_is_written_is_no_matter(moment: datetime, ahead: int) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(minutes=ahead)))
    assert content_hash({"at": elsewhere}) == content_hash({"at": moment})


@given(content=json_objects(), name=st.text(max_size=5), one=json_values(), other=json_values())
def test_every_field_matters(content: dict[str, Any], name: str, one: Any, other: Any) -> None:
    plain = unicodedata.normalize("NFC", name)
    rest = {key: value for key, value in content.items() if unicodedata.normalize("NFC", key) != plain}
    hashes = content_hash(rest | {plain: one}), content_hash(rest | {plain: other})
    assert (hashes[0] == hashes[1]) == (meaning(one) == meaning(other))
    assert content_hash(rest) not in hashes
