"""Who holds which row: the one place of the in-memory databases where anybody waits."""

import threading
from collections.abc import Callable, Hashable
from datetime import timedelta

from ordersync_core.kernel.errors import ChangedMeanwhile

Wait = Callable[[Callable[[], bool]], bool]
"""Returns True once the condition has held, False when that took too long. Asking the condition may change what it
says: whoever is told True has the lock."""

Pause = Callable[[object], None]
"""Called with a transaction whose rows are written and not yet visible: here others may run."""

BOUND = timedelta(seconds=10)


class Locks:
    """Locks on rows, each held by one transaction until it ends.

    wait: how a transaction waits for a lock; None: its thread sleeps, at most for `bound`.
    pause: what happens inside a commit, after its rows have got their order and before anybody sees them.
    """

    def __init__(self, wait: Wait | None = None, pause: Pause | None = None, *, bound: timedelta = BOUND) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._wait = wait or self._sleep
        self._bound = bound
        self._owners: dict[Hashable, object] = {}
        self._held: dict[object, set[Hashable]] = {}
        self._awaited: dict[object, Hashable] = {}
        self.pause: Pause = pause or (lambda transaction: None)

    def acquire(self, owner: object, key: Hashable) -> None:
        """Wait for the lock; one that is held already is had at once.

        Raises:
            ChangedMeanwhile: whoever holds it waits for `owner`, or it was not given up in time.
        """
        with self._changed:
            if self.try_acquire(owner, key):
                return
            if self._waits_for(self._owners[key], owner):
                raise ChangedMeanwhile(f"two transactions wait for each other: {key} is one of the locks")
            self._awaited[owner] = key
        try:
            if not self._wait(lambda: self.try_acquire(owner, key)):
                raise ChangedMeanwhile(f"the lock on {key} was not given up in time")
        finally:
            with self._changed:
                del self._awaited[owner]

    def try_acquire(self, owner: object, key: Hashable) -> bool:
        with self._changed:
            if self._owners.setdefault(key, owner) is not owner:
                return False
            self._held.setdefault(owner, set()).add(key)
            return True

    def release_all(self, owner: object) -> None:
        with self._changed:
            for key in self._held.pop(owner, ()):
                del self._owners[key]
            self._changed.notify_all()

    def _waits_for(self, waiting: object, owner: object) -> bool:
        """Whether `waiting`, or whoever it waits for in turn, waits for a lock of `owner`."""
        while waiting in self._awaited:
            holder = self._owners.get(self._awaited[waiting])
            if holder is None:
                return False
            if holder is owner:
                return True
            waiting = holder
        return False

    def _sleep(self, taken: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(taken, self._bound.total_seconds())
