"""What a person reads in place of a value: short, in their own time zone, and nothing that commands a terminal."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

NOTHING = "-"
ANOTHER_YEAR = timedelta(days=300)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
"""The one spelling of a moment on the wire: `kernel.moments.rfc3339`."""

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str) -> str:
    """The text with control characters made visible, so that data cannot colour, move or rename a terminal."""
    if text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character == "\t":
        return " "
    if character in _REORDERING or (unicodedata.category(character) in ("Cc", "Cs") and character != "\n"):
        return "\ufffd"
    return character


def readable(value: Any, *, now: datetime | None = None) -> str:
    """now: moments of its day are shown without their date, others without their year; None shows them in full."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            return _moment(value, now) if _MOMENT.fullmatch(value) else plain(value)
        case Mapping():
            return ", ".join(f"{plain(str(key))} {readable(part, now=now)}" for key, part in value.items()) or NOTHING
        case Sequence():
            separator = "; " if any(isinstance(part, Mapping) for part in value) else ", "
            return separator.join(readable(part, now=now) for part in value) or NOTHING
        case _:
            return plain(str(value))


def _moment(text: str, now: datetime | None) -> str:
    moment = datetime.fromisoformat(text).astimezone()
    if now is None:
        return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
    today = now.astimezone().date()
    if moment.date() == today:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%d %b %H:%M}" if abs(moment.date() - today) < ANOTHER_YEAR else f"{moment:%Y-%m-%d}"


def lines_of(row: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """What is set of a row, one line for each value, those of nested objects too: (name, text)."""
    lines: list[tuple[str, str]] = []
    for key, value in row.items():
        name = (*path, plain(str(key)).replace("_", " "))
        if isinstance(value, Mapping):
            lines += lines_of(value, name)
        elif value is not None and value not in ("", [], ()):
            lines.append((" ".join(name), readable(value)))
    return lines


def counts(result: Mapping[str, Any]) -> str:
    """A job's result in a few words: what is not zero, such as "40 read, 40 updated"."""
    return ", ".join(f"{count} {plain(name).replace('_', ' ')}" for name, count in result.items() if count) or "nothing"


def outcome(run: Mapping[str, Any]) -> str:
    """How a job run came out, or how far it is: of a run as it is shown on the wire."""
    if run["reason"] is not None:
        return plain(run["reason"])
    if run["result"] is not None:
        return counts(run["result"])
    progress = run["progress"]
    if not progress["done"]:
        return NOTHING
    total = "" if progress["total"] is None else f" of {progress['total']}"
    return plain(f"{progress['done']}{total} {progress['text']}").strip()
