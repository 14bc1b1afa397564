"""Scripted faults: which calls go wrong, and how.

A fault script is a JSON list of objects:

    {"match": "sync/Logistics/Items", "method": "GET", "nth": 2, "times": 1, "do": "status", "status": 503}

match     regular expression, searched in the path without regard to case
query     another one, searched in the decoded query (optional)
method    only calls by this method (optional)
nth       the first call that fails, counting matching calls from 1 (default 1); or "every"
every     instead of nth: each n-th matching call
times     how many calls fail (default 1; with "every": all)
do        status        answer `status` and nothing else happened
          half_json     the answer's JSON text stops in the middle, with status 200
          error_glued   half of the answer, then {"error": ...} right behind it, with status 200
          hang          nothing for `seconds`, then the connection closes
          drop          the connection closes at once, and nothing else happened
          slow          the answer comes `seconds` late
          short_page    a page of half the usual size, still with `__next`
          answer_lost, token_answer_lost   the call did its work, then the connection closes without an answer
status    for "status": the code; 401 has an empty body, 502 and 503 are HTML, 429 shows the minute limit's headers
seconds   for "hang" and "slow": real seconds, at most 600
retry_after   for "status": seconds for a Retry-After header (Exact does not send one)
text      for "status": the text inside the error body (the error_description of OAuth)
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote_plus

import orjson
from attrs import define, field, frozen

from .answers import Call

Kind = Literal[
    "status",
    "half_json",
    "error_glued",
    "hang",
    "drop",
    "slow",
    "short_page",
    "answer_lost",
    "token_answer_lost",
]
_KEYS = frozenset(
    {"match", "query", "method", "nth", "every", "times", "do", "status", "seconds", "retry_after", "text"}
)
_TOKEN_PATH = "/api/oauth2/token"


class FaultError(ValueError):
    """One line: which entry of the script is wrong, and why."""


@frozen(kw_only=True)
class Fault:
    """Attributes are those of the script; `first`, `step` and `times` say which matching calls fail."""

    match: re.Pattern[str]
    query: re.Pattern[str] | None
    method: str | None
    do: Kind
    first: int
    step: int
    times: int | None
    status: int = 500
    seconds: float = 0
    retry_after: int | None = None
    text: str | None = None
    source: Mapping[str, Any] = field(factory=dict)

    def concerns(self, call: Call) -> bool:
        return (
            (self.method is None or self.method == call.method)
            and self.match.search(call.path) is not None
            and (self.query is None or self.query.search(unquote_plus(call.query)) is not None)
        )

    def strikes(self, matching_call: int) -> bool:
        """Whether the n-th matching call, counted from 1, fails."""
        since_first = matching_call - self.first
        if since_first < 0 or since_first % self.step:
            return False
        return self.times is None or since_first // self.step < self.times


@define
class _Counted:
    fault: Fault
    calls: int = 0


class FaultScript:
    """The faults of a sandbox and how many calls each has seen."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._counted = [_Counted(fault) for fault in faults]

    def add(self, faults: Sequence[Fault]) -> None:
        self._counted.extend(_Counted(fault) for fault in faults)

    def clear(self) -> None:
        self._counted.clear()

    def struck(self, call: Call) -> Fault | None:
        """The first fault that this call meets; every fault that the call concerns counts it."""
        struck = None
        for counted in self._counted:
            if counted.fault.concerns(call):
                counted.calls += 1
                if struck is None and counted.fault.strikes(counted.calls):
                    struck = counted.fault
        return struck

    def shown(self) -> list[Mapping[str, Any]]:
        return [{**counted.fault.source, "calls": counted.calls} for counted in self._counted]


def read_faults(path: Path) -> list[Fault]:
    """The script in a file; FaultError, naming the file, when it cannot be read."""
    try:
        script = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise FaultError(f"{path}: not a readable JSON file: {error}") from error
    try:
        return parse_faults(script)
    except FaultError as error:
        raise FaultError(f"{path}: {error}") from None


def parse_faults(script: Any) -> list[Fault]:
    """A decoded script, or one fault alone; FaultError on the first entry that is wrong."""
    entries = script if isinstance(script, list) else [script]
    return [_fault(number, entry) for number, entry in enumerate(entries, start=1)]


def _fault(number: int, entry: Any) -> Fault:
    try:
        return _parsed(entry)
    except (ValueError, TypeError, re.error) as error:
        raise FaultError(f"fault {number}: {error}") from None


def _parsed(entry: Any) -> Fault:
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise ValueError("not an object")
    if unknown := sorted(set(entry) - _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r}")
    do: Kind | None = next((kind for kind in get_args(Kind) if kind == entry.get("do")), None)
    if do is None:
        raise ValueError(f"do is one of {', '.join(get_args(Kind))}")
    if "match" not in entry and do != "token_answer_lost":
        raise ValueError("match is missing")
    first, step, times = _calls(entry)
    return Fault(
        match=re.compile(entry.get("match", _TOKEN_PATH), re.IGNORECASE),
        query=re.compile(entry["query"], re.IGNORECASE) if "query" in entry else None,
        method=str(entry["method"]).upper() if "method" in entry else None,
        do=do,
        first=first,
        step=step,
        times=times,
        status=_whole(entry, "status", 500, low=400, high=599),
        seconds=_seconds(entry, required=do in ("hang", "slow")),
        retry_after=_whole(entry, "retry_after", 0, low=0, high=86_400) if "retry_after" in entry else None,
        text=entry.get("text"),
        source=entry,
    )


def _calls(entry: Mapping[str, Any]) -> tuple[int, int, int | None]:
    """First matching call that fails, distance to the next one, and how many fail (None: without end)."""
    endless = entry.get("nth") == "every" or "every" in entry
    times = _whole(entry, "times", 1, low=1, high=10**9) if "times" in entry or not endless else None
    if "every" in entry:
        step = _whole(entry, "every", 1, low=1, high=10**9)
        return step, step, times
    return (1 if endless else _whole(entry, "nth", 1, low=1, high=10**9)), 1, times


def _whole(entry: Mapping[str, Any], name: str, default: int, *, low: int, high: int) -> int:
    value = entry.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} is a whole number from {low} to {high}")
    return value


def _seconds(entry: Mapping[str, Any], *, required: bool) -> float:
    value = entry.get("seconds", None if required else 0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 600:
        raise ValueError("seconds is a number from 0 to 600")
    return float(value)
