"""Values that only requests hold, each with its rule, so that a violation is told at its own place."""

from typing import NewType
from urllib.parse import urlsplit

from ordersync_core.dispatch import EVENT_TYPES
from ordersync_core.kernel.decoding import register, text
from ordersync_core.kernel.paging import MAXIMUM_LIMIT
from ordersync_core.webhooks.model import MAXIMUM_URL, EventTypePattern

Limit = NewType("Limit", int)
"""Rows of a page, 1 to 500."""

SearchText = NewType("SearchText", str)
"""1 to 200 characters."""

EventType = NewType("EventType", str)
"""One of the event types that exist."""

EventTypePatterns = NewType("EventTypePatterns", tuple[EventTypePattern, ...])
"""1 to 50 of them."""

Name = NewType("Name", str)
"""What a person calls something: 1 to 100 printable characters."""

Url = NewType("Url", str)
"""An absolute http or https address."""

EventNumber = NewType("EventNumber", int)
"""The `sequence` of an event, or 0 for before the first."""

MAXIMUM_SEARCH = 200
MAXIMUM_NAME = 100
MAXIMUM_PATTERNS = 50
LARGEST_NUMBER = 2**63 - 1


def _limit(value: object) -> Limit:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAXIMUM_LIMIT:
        raise ValueError(f"must be a whole number from 1 to {MAXIMUM_LIMIT}")
    return Limit(value)


def _search_text(value: object) -> SearchText:
    if not 1 <= len(text(value)) <= MAXIMUM_SEARCH:
        raise ValueError(f"must have 1 to {MAXIMUM_SEARCH} characters")
    return SearchText(text(value))


def _event_type(value: object) -> EventType:
    if text(value) not in EVENT_TYPES:
        raise ValueError(f"must be one of {', '.join(sorted(EVENT_TYPES))}")
    return EventType(text(value))


def _event_type_patterns(value: object) -> EventTypePatterns:
    if not isinstance(value, list) or not 1 <= len(value) <= MAXIMUM_PATTERNS:
        raise ValueError(f"must be a list of 1 to {MAXIMUM_PATTERNS} event types")
    return EventTypePatterns(tuple(EventTypePattern(text(entry)) for entry in value))


def _name(value: object) -> Name:
    name = text(value).strip()
    if not 1 <= len(name) <= MAXIMUM_NAME or not name.isprintable():
        raise ValueError(f"must have 1 to {MAXIMUM_NAME} printable characters")
    return Name(name)


def _url(value: object) -> Url:
    url = text(value)
    if len(url) > MAXIMUM_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"must be an address of at most {MAXIMUM_URL} ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an absolute address that begins with https://")
    return Url(url)


def _event_number(value: object) -> EventNumber:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise ValueError("must be the sequence of an event: a whole number, 0 or above")
    return EventNumber(value)


register(Limit, _limit)
register(SearchText, _search_text)
register(EventType, _event_type)
register(EventTypePatterns, _event_type_patterns)
register(Name, _name)
register(Url, _url)
register(EventNumber, _event_number)
