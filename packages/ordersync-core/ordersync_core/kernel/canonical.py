"""One spelling for equal content, so that a hash tells whether something changed.

The hash does not depend on the order of fields, on the spelling of a number (1, 1.0, 1.00), on the Unicode
normal form or on the time zone in which a moment is written; null and absent are different.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import orjson

_BEYOND_ORJSON = 2**64
"""Whole numbers below it are spelled with all their digits, as orjson does with those of type int."""

_EXACT = 2**53
"""Whole floats below it are what their digits say."""

_BY_NAME = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME

_SPELLED_ONE_WAY = frozenset((str, bool, type(None)))
"""Types that orjson spells as we do, but for the normal form of texts."""

_WHOLE = re.compile(rb"\.0([],}]|$)")
_GREAT = re.compile(rb"\de\+1[6-9]([],}]|$)")
"""Where orjson may have spelled 1.0 or 1e+16, and we spell 1 or 10000000000000000; a text may look like it."""


def canonical_bytes(value: Any) -> bytes:
    spelled = _spelled_bytes(value)
    return spelled if _is_normal(spelled) else _spelled_bytes(_normalised(value))


def content_hash(value: Any) -> str:
    """32 hexadecimal digits (BLAKE2b-128) over the canonical spelling of JSON-like content."""
    return blake2b(canonical_bytes(value), digest_size=16).hexdigest()


def spelling(value: Any) -> str:
    """JSON with its fields in the order in which they are: costs a fifth of a hash, and what is spelled alike has the
    same one."""
    return orjson.dumps(value).decode()


def _is_normal(spelled: bytes) -> bool:
    # to look at all texts at once costs far less than to look at each
    return spelled.isascii() or unicodedata.is_normalized("NFC", spelled.decode())


def _may_be_respelled(spelled: bytes) -> bool:
    return _WHOLE.search(spelled) is not None or (b"+" in spelled and _GREAT.search(spelled) is not None)


def _spelled_bytes(value: Any) -> bytes:
    # what orjson makes of a content is nearly always right: to look it over costs far less than to look at each entry
    try:
        spelled = orjson.dumps(value, option=_BY_NAME)
    except TypeError:
        return orjson.dumps(_spelled(value), option=_BY_NAME)
    return orjson.dumps(_spelled(value), option=_BY_NAME) if _may_be_respelled(spelled) else spelled


def _spelled(value: Any) -> Any:
    """The value with numbers and moments as they are to be written."""
    kind = type(value)
    if kind in _SPELLED_ONE_WAY:
        return value
    if kind is dict:
        strange = {key: _spelled(entry) for key, entry in value.items() if type(entry) not in _SPELLED_ONE_WAY}
        return value | strange if strange else value
    if kind is float and not value.is_integer():
        return value
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < _BEYOND_ORJSON // 2):
        return value
    if isinstance(value, int | float | Decimal):
        return orjson.Fragment(_number(value))
    if isinstance(value, datetime):
        # as no JSON value begins, so that nothing else is spelled like it
        return orjson.Fragment(f"@{value.astimezone(UTC).isoformat()}")
    if isinstance(value, Mapping):
        return _spelled(dict(value))
    return [_spelled(entry) for entry in value]


def _normalised(value: Any) -> Any:
    """The value with all its texts in normal form C."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {unicodedata.normalize("NFC", key): _normalised(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_normalised(entry) for entry in value]
    return value


def _number(value: int | float | Decimal) -> str | bytes:
    """A whole number in digits, as far as orjson does; what a float means, the way orjson writes that float; anything
    else with all its digits and no zero too many."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    exact = Decimal(str(value))
    if exact == exact.to_integral_value() and abs(exact) < _BEYOND_ORJSON:
        return str(int(exact))
    nearest = float(exact)
    if Decimal(str(nearest)) == exact:
        return orjson.dumps(nearest)
    digits = format(exact, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
