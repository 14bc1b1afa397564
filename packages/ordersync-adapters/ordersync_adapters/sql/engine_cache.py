"""The engines of many databases, of which only those in use hold connections."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from attrs import define, frozen
from sqlalchemy import Engine


@frozen
class Engines:
    """Both ways into one database."""

    writing: Engine
    reading: Engine

    def dispose(self) -> None:
        """Close the idle connections; the engines stay usable."""
        self.writing.dispose()
        self.reading.dispose()


@define
class _Entry:
    engines: Engines
    users: int = 0
    used_at: float = 0.0
    disposed: bool = False


class EngineCache:
    """Engines by name, opened on first use; thread-safe.

    open: makes the engines of a name; an error of it is the caller's, and nothing is remembered.
    size: how many are kept at most; the one whose last use is longest ago makes room, unless it is in use.
    idle: after so long without use its connections are closed, by a thread that exists only while there are any.
    """

    def __init__(self, open: Callable[[str], Engines], *, size: int, idle: timedelta) -> None:
        self._open = open
        self._size = size
        self._idle = idle.total_seconds()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    @contextmanager
    def use(self, name: str) -> Iterator[Engines]:
        """The engines; while the block runs nobody closes them."""
        entry = self._enter(name)
        try:
            yield entry.engines
        finally:
            with self._lock:
                entry.users -= 1
                entry.used_at = time.monotonic()
                self._sweep_later()

    def close(self) -> None:
        """Close everything that is idle."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
        for entry in entries:
            entry.engines.dispose()

    def _enter(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                surplus = self._used_by_one_more(name, entry)
        if entry is None:
            # outside of the lock: a server that does not answer keeps nobody else waiting
            opened = self._open(name)
            with self._lock:
                entry = self._entries.setdefault(name, _Entry(opened))
                surplus = self._used_by_one_more(name, entry)
            if entry.engines is not opened:
                surplus.append(opened)
        for engines in surplus:
            engines.dispose()
        return entry

    def _used_by_one_more(self, name: str, entry: _Entry) -> list[Engines]:
        """Within the lock that found the entry, or others could make room of it; answers what makes room for it."""
        entry.users += 1
        entry.disposed = False
        self._entries.move_to_end(name)
        return self._evict()

    def _evict(self) -> list[Engines]:
        idle = [name for name, entry in self._entries.items() if entry.users == 0]
        surplus = max(len(self._entries) - self._size, 0)
        return [self._entries.pop(name).engines for name in idle[:surplus]]

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = threading.Timer(self._idle, self._sweep)
            self._sweeper.daemon = True
            self._sweeper.start()

    def _sweep(self) -> None:
        with self._lock:
            self._sweeper = None
            now = time.monotonic()
            for entry in self._entries.values():
                if entry.users == 0 and not entry.disposed and now - entry.used_at >= self._idle:
                    entry.engines.dispose()
                    entry.disposed = True
            if not all(entry.disposed for entry in self._entries.values()):
                self._sweep_later()
