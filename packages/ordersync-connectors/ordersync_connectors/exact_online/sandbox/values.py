"""Values as people and programs send them, made into what the sandbox holds."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from .clock import from_wall_milliseconds, wall_milliseconds
from .fields import PADDED, TEXT_LENGTHS, Edm, Field, Value

ZERO_GUID = "00000000-0000-0000-0000-000000000000"

_RANGES: Mapping[str, tuple[int, int]] = {
    "Byte": (0, 255),
    "Int16": (-(2**15), 2**15 - 1),
    "Int32": (-(2**31), 2**31 - 1),
    "Int64": (-(2**63), 2**63 - 1),
}
_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0"}
_OLD_DATE = re.compile(r"/Date\((-?\d+)(?:[+-]\d{4})?\)/")


class BadValue(ValueError):
    """The text of it says what is wrong with the value, without naming the property."""


def checked(field: Field, value: Any) -> Value:
    """A JSON value as `field` holds it; BadValue when it has the wrong type, range or length."""
    if value is None:
        return None
    held = _FROM_JSON[field.edm](value)
    if isinstance(held, str):
        return _fitting(field.name, held)
    return held


def checked_text(field: Field, text: str) -> Value:
    """A cell of a text file as `field` holds it: an empty one is null, numbers and flags are spelled out."""
    if not text or (field.edm != "String" and not text.strip()):
        return None
    if field.edm == "String":
        return _fitting(field.name, text)
    return _FROM_TEXT[field.edm](text.strip())


def old_date(milliseconds: int) -> str:
    return f"/Date({milliseconds})/"


def wall_date(text: str) -> int:
    """ISO 8601 without a zone, or with one that is dropped; a plain date is its midnight. BadValue otherwise."""
    try:
        return wall_milliseconds(datetime.fromisoformat(text))
    except ValueError:
        raise BadValue(f"{text!r} is not a date") from None


def _fitting(name: str, text: str) -> str:
    longest = TEXT_LENGTHS.get(name)
    kept = text.rstrip(" ") if name in PADDED else text
    if longest is not None and len(kept) > longest:
        raise BadValue(f"{len(kept)} characters, at most {longest} are allowed")
    return kept.ljust(PADDED[name]) if name in PADDED else text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue(f"{value!r} is not a text")
    return value


def _guid(value: Any) -> str:
    try:
        return str(UUID(_text(value)))
    except ValueError:
        raise BadValue(f"{value!r} is not a guid") from None


def _whole(edm: Edm) -> Callable[[Any], int]:
    low, high = _RANGES[edm]

    def whole(value: Any) -> int:
        if not isinstance(value, int) or not low <= value <= high:
            raise BadValue(f"{value!r} is not a whole number from {low} to {high}")
        return int(value)

    return whole


def _whole_text(edm: Edm) -> Callable[[str], int]:
    whole = _whole(edm)

    def parse(text: str) -> int:
        if edm == "Byte" and text.lower() in _TRUE | _FALSE:
            return int(_flag(text))
        if not re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
            raise BadValue(f"{text!r} is not a whole number")
        return whole(int(text))

    return parse


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadValue(f"{value!r} is not a number")
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)


def _number_text(text: str) -> float | int:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text, re.ASCII):
        raise BadValue(f"{text!r} is not a number (a decimal point, no thousands separator)")
    return _number(float(text))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValue(f"{value!r} is not true or false")
    return value


def _flag(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise BadValue(f"{text!r} is not true or false")
    return text.lower() in _TRUE


def _date(value: Any) -> int:
    return wall_date(_text(value))


def _date_text(text: str) -> int:
    old = _OLD_DATE.fullmatch(text)
    if old is None:
        return wall_date(text)
    try:
        return wall_milliseconds(from_wall_milliseconds(int(old[1])))
    except OverflowError:
        raise BadValue(f"{text!r} is not a date") from None


_FROM_JSON: Mapping[Edm, Callable[[Any], Value]] = {
    "String": _text,
    "Binary": _text,
    "Guid": _guid,
    "Byte": _whole("Byte"),
    "Int16": _whole("Int16"),
    "Int32": _whole("Int32"),
    "Int64": _whole("Int64"),
    "Double": _number,
    "Boolean": _boolean,
    "DateTime": _date,
}
_FROM_TEXT: Mapping[Edm, Callable[[str], Value]] = {
    "Binary": _text,
    "Guid": _guid,
    "Byte": _whole_text("Byte"),
    "Int16": _whole_text("Int16"),
    "Int32": _whole_text("Int32"),
    "Int64": _whole_text("Int64"),
    "Double": _number_text,
    "Boolean": _flag,
    "DateTime": _date_text,
}


def iso_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
