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


def canonical_bytes(value: Any) -> bytes:
    return orjson.dumps(_canonical(value), option=orjson.OPT_SORT_KEYS)


def content_hash(value: Any) -> str:
    """32 hexadecimal digits (BLAKE2b-128) over the canonical spelling of JSON-like content."""
    return blake2b(canonical_bytes(value), digest_size=16).hexdigest()


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, int) and abs(value) < _BEYOND_ORJSON:
        return value
    if isinstance(value, int | float | Decimal):
        return orjson.Fragment(_number(value))
    if isinstance(value, datetime):
        # as no JSON value begins, so that nothing else is spelled like it
        return orjson.Fragment(f"@{value.astimezone(UTC).isoformat()}")
    if isinstance(value, Mapping):
        return {_canonical_key(key): _canonical(entry) for key, entry in value.items()}
    return [_canonical(entry) for entry in value]


def _canonical_key(key: str) -> str:
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def _number(value: int | float | Decimal) -> str:
    """All its digits and no zero too many; a float is the shortest decimal that means it."""
    digits = format(Decimal(str(value)), "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits
