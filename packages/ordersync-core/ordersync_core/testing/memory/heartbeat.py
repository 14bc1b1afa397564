from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from attrs import define

from ordersync_core.kernel.clock import Clock


class NoHeartbeat:
    """Never beats: for work that ends long before a lease does."""

    @contextmanager
    def every(self, interval: timedelta, beat: Callable[[], None]) -> Iterator[None]:
        yield


@define(eq=False)
class _Beat:
    interval: timedelta
    beat: Callable[[], None]
    next_at: datetime


class MemoryHeartbeat:
    """Beats when it is told to look at the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: list[_Beat] = []

    @contextmanager
    def every(self, interval: timedelta, beat: Callable[[], None]) -> Iterator[None]:
        entry = _Beat(interval, beat, self._clock.now() + interval)
        self._open.append(entry)
        try:
            yield
        finally:
            self._open.remove(entry)

    def beat_due(self) -> int:
        """Call what is due in the blocks that are open, once each; answers how many were called."""
        now = self._clock.now()
        due = [entry for entry in self._open if entry.next_at <= now]
        for entry in due:
            entry.next_at = now + entry.interval
            with suppress(Exception):
                entry.beat()
        return len(due)
