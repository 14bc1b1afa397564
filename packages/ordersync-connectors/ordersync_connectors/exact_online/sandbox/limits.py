"""The limits of the data API: calls a minute and a day for each division, and errors an hour for each endpoint."""

from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import frozen

from .clock import SandboxClock

_MINUTE, _DAY = 60, 24 * 3600
COUNTED_ERRORS = frozenset({400, 401, 403, 404})


@frozen
class Admission:
    """Whether a call goes on, and the headers its answer carries.

    A refused one carries only those of the limit that was hit.
    """

    admitted: bool
    headers: Mapping[str, str]


class CallLimits:
    """Counts of admitted calls, one pair for each app and division. The sandbox knows one app."""

    def __init__(self, *, minutely: int, daily: int, clock: SandboxClock) -> None:
        self._limits = {_MINUTE: minutely, _DAY: daily}
        self._clock = clock
        self._used: dict[tuple[str, int], dict[int, tuple[int, int]]] = defaultdict(dict)

    def admit(self, app: str, division: int) -> Admission:
        """Count a call, or refuse it: a refused call is not counted."""
        used = self._used[app, division]
        for window in (_MINUTE, _DAY):
            if self._count(used, window) >= self._limits[window]:
                return Admission(admitted=False, headers=self._headers(used, window))
        for window in (_MINUTE, _DAY):
            used[window] = (self._start(window), self._count(used, window) + 1)
        return Admission(admitted=True, headers=self._headers(used, _DAY) | self._headers(used, _MINUTE))

    def headers(self, app: str, division: int) -> Mapping[str, str]:
        """All six, for an answer to a call that is not counted."""
        used = self._used[app, division]
        return self._headers(used, _DAY) | self._headers(used, _MINUTE)

    def minutely_headers(self, app: str, division: int) -> Mapping[str, str]:
        return self._headers(self._used[app, division], _MINUTE)

    def _start(self, window: int) -> int:
        now = self._clock.epoch_milliseconds() // 1000
        return now - now % window

    def _count(self, used: Mapping[int, tuple[int, int]], window: int) -> int:
        start, count = used.get(window, (0, 0))
        return count if start == self._start(window) else 0

    def _headers(self, used: Mapping[int, tuple[int, int]], window: int) -> dict[str, str]:
        """Reset is in milliseconds; the minute's falls on a whole minute, the day's on midnight UTC."""
        prefix = "X-RateLimit-Minutely" if window == _MINUTE else "X-RateLimit"
        limit = self._limits[window]
        return {
            f"{prefix}-Limit": str(limit),
            f"{prefix}-Remaining": str(max(limit - self._count(used, window), 0)),
            f"{prefix}-Reset": str((self._start(window) + window) * 1000),
        }


class ErrorVelocity:
    """Blocks an endpoint of a division for an hour after too many errors in an hour, for longer each time.

    Exact names neither the length of the longer blocks nor the status of a blocked call; here each block is twice
    as long as the one before it, and the answer is 429 without any limit headers.
    """

    def __init__(self, *, errors: int, clock: SandboxClock) -> None:
        self._errors = errors
        self._clock = clock
        self._seen: dict[tuple[int, str], deque[datetime]] = defaultdict(deque)
        self._blocked_until: dict[tuple[int, str], datetime] = {}
        self._blocks: dict[tuple[int, str], int] = defaultdict(int)

    def blocked(self, division: int, endpoint: str) -> bool:
        until = self._blocked_until.get((division, endpoint))
        return until is not None and self._clock.now() < until

    def note(self, division: int, endpoint: str, status: int) -> None:
        if status not in COUNTED_ERRORS:
            return
        key, now = (division, endpoint), self._clock.now()
        seen = self._seen[key]
        seen.append(now)
        while seen[0] <= now - timedelta(hours=1):
            seen.popleft()
        if len(seen) >= self._errors:
            self._blocked_until[key] = now + timedelta(hours=2 ** self._blocks[key])
            self._blocks[key] += 1
            seen.clear()
