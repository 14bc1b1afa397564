"""One spelling for equal content, so that a hash tells whether something changed.

The hash does not depend on the order of fields, on the spelling of a number (1, 1.0, 1.00), on the Unicode
normal form or on the time zone in which a moment is written; null and absent are different.
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import orjson

_BEYOND_ORJSON = 2**63
_SMALLEST, _GREATEST = 1e-4, 1e15
"""Between them orjson writes a float that is no whole number with all its digits, and without an exponent."""

_SPELLED_ONE_WAY = frozenset((str, bool, type(None)))
"""Types that orjson spells as we do, but for the normal form of texts."""


def canonical_bytes(value: Any) -> bytes:
    spelled = orjson.dumps(_spelled(value), option=orjson.OPT_SORT_KEYS)
    # nearly always: to look at all texts at once costs far less than to look at each
    if spelled.isascii() or unicodedata.is_normalized("NFC", spelled.decode()):
        return spelled
    return orjson.dumps(_spelled(_normalised(value)), option=orjson.OPT_SORT_KEYS)


def content_hash(value: Any) -> str:
    """32 hexadecimal digits (BLAKE2b-128) over the canonical spelling of JSON-like content."""
    return blake2b(canonical_bytes(value), digest_size=16).hexdigest()


def _spelled(value: Any) -> Any:
    """The value with numbers and moments as they are to be written."""
    kind = type(value)
    if kind in _SPELLED_ONE_WAY:
        return value
    if kind is dict:
        strange = {key: _spelled(entry) for key, entry in value.items() if type(entry) not in _SPELLED_ONE_WAY}
        return value | strange if strange else value
    if kind is float and _SMALLEST <= abs(value) < _GREATEST and not value.is_integer():
        return value
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < _BEYOND_ORJSON):
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


def _number(value: int | float | Decimal) -> str:
    """All its digits and no zero too many; a float is the shortest decimal that means it."""
    digits = str(value)
    if "e" in digits.lower():
        digits = format(Decimal(digits), "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits
