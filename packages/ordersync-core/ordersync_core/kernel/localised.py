import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NewType

from ordersync_core.kernel.decoding import mapping, register
from ordersync_core.kernel.decoding import text as json_text

LocalisedText = NewType("LocalisedText", Mapping[str, str])
"""Text by language tag (BCP 47, such as "en" or "nl-BE"); at least one language is not required."""

_TAG = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
MAXIMUM_LENGTH = 4000


def localised_text(texts: Mapping[str, str]) -> LocalisedText:
    """Trimmed and in normal form C, languages in alphabetical order.

    Raises:
        ValueError: a key is not a language tag, or a text is longer than 4,000 characters.
    """
    return LocalisedText({tag: _text(tag, texts[tag]) for tag in sorted(texts)})


def _text(tag: str, text: str) -> str:
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is not a language tag such as 'en' or 'nl-BE'")
    trimmed = unicodedata.normalize("NFC", text).strip()
    if len(trimmed) > MAXIMUM_LENGTH:
        raise ValueError(f"the text in {tag!r} is longer than {MAXIMUM_LENGTH} characters")
    if "\x00" in trimmed:
        raise ValueError(f"the text in {tag!r} holds a null character")
    return trimmed


def _from_json(value: Any) -> LocalisedText:
    return localised_text({tag: json_text(entry) for tag, entry in mapping(value).items()})


register(LocalisedText, _from_json)
