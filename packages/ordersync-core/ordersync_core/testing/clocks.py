"""Time and ids that a test holds in its hand."""

import itertools
from datetime import datetime, timedelta
from uuid import UUID

_FIRST = 0x0190_0000_0000
"""The moment in the ids, in milliseconds: a day in June 2024."""


class ManualClock:
    """Stands still until it is advanced. `now` is timezone-aware."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, duration: timedelta) -> None:
        self._now += duration


class SteppingIds:
    """The same UUIDv7 in every run, each greater than the one before; safe for use by many threads.

    start: the number of the first one. Two series do not meet while their numbers differ.
    """

    def __init__(self, start: int = 1) -> None:
        self._numbers = itertools.count(start)

    def new(self) -> UUID:
        number = next(self._numbers)
        return UUID(int=(_FIRST + number) << 80 | 0x7 << 76 | 0b10 << 62 | number)
