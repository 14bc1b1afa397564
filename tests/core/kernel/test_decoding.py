"""Strict decoding: every violation at once, each with its JSON pointer."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.decoding import MAXIMUM_DEPTH, decode, parse
from ordersync_core.kernel.errors import InvalidInput


class Colour(StrEnum):
    RED = "Red"
    GREEN = "Green"


@frozen(kw_only=True)
class Part:
    text: str = "t"
    flag: bool = False


@frozen(kw_only=True)
class Thing:
    text: str = "t"
    number: int = 1
    flag: bool = False
    amount: Decimal = Decimal(1)
    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    id: UUID | None = None
    colour: Colour = Colour.RED
    more: tuple[Part, ...] = ()
    anything: Mapping[str, Any] = field(factory=dict)
    code: ItemCode = ItemCode("A")


REFUSED: list[tuple[str, Any]] = [
    ("text", 1),
    ("text", None),
    ("text", ["a"]),
    ("text", "a\x00b"),
    ("number", "1"),
    ("number", True),
    ("number", 1.5),
    ("flag", 1),
    ("flag", "true"),
    ("amount", 1),
    ("amount", 1.5),
    ("amount", "one"),
    ("amount", "NaN"),
    ("amount", "Infinity"),
    ("amount", "1e999"),
    ("moment", "2026-01-01"),
    ("moment", "2026-01-01T10:00:00"),
    ("moment", 1767225600),
    ("id", "not-a-uuid"),
    ("id", 7),
    ("colour", "Blue"),
    ("colour", "red"),
    ("colour", 1),
    ("anything", []),
    ("code", ""),
    ("code", 5),
    ("code", "x" * 61),
    ("unknown", 1),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=[f"{name}={value!r}" for name, value in REFUSED])
def test_each_broken_rule_is_reported_at_its_place(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as raised:
        decode({name: value}, Thing)
    assert [violation.pointer for violation in raised.value.violations] == [f"/{name}"]


def test_all_violations_come_at_once() -> None:
    broken = dict(REFUSED)
    with pytest.raises(InvalidInput) as raised:
        decode({**broken, "more": [{"text": 1}, {"flag": 0}]}, Thing)
    found = {violation.pointer for violation in raised.value.violations}
    assert found == {f"/{name}" for name in broken} | {"/more/0/text", "/more/1/flag"}


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidInput) as raised:
        decode({}, Item)
    assert [(v.pointer, v.message) for v in raised.value.violations] == [("/code", "is required")]


def test_a_pointer_escapes_what_json_pointers_escape() -> None:
    with pytest.raises(InvalidInput) as raised:
        decode({"a/b~c": 1}, Thing)
    assert raised.value.violations[0].pointer == "/a~1b~0c"


@pytest.mark.parametrize("value", [None, 1, "text", [], [{}]])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        decode(value, Thing)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nul", b'{"a": NaN}', b"\xff", b"[" * (MAXIMUM_DEPTH + 1) + b"]" * (MAXIMUM_DEPTH + 1)]
)
def test_text_that_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON | st.fixed_dictionaries({}, optional={name: JSON for name, _ in REFUSED}))
def test_any_json_is_decoded_or_refused_with_places(value: Any) -> None:
    violations = None
    try:
        decode(value, Thing)
    except InvalidInput as error:
        violations = error.violations
    assert violations is None or all(violation.message for violation in violations)
    assert violations != ()
