"""Who holds which row: the one place of the in-memory databases where anybody waits."""

import threading
from collections.abc import Callable, Hashable
from datetime import timedelta

from ordersync_core.kernel.errors import ChangedMeanwhile

Wait = Callable[[Callable[[], bool]], bool]
"""Returns True as soon as the condition holds, False when that took too long."""

Pause = Callable[[object], None]
"""Called with a transaction whose rows are written and not yet visible: here others may run."""

BOUND = timedelta(seconds=10)


class Locks:
    """Locks on rows, each held by one transaction until it ends.

    wait: how a transaction waits for a lock; None: its thread sleeps, at most for `bound`.
    pause: what happens inside a commit, after its rows have got their order and before anybody sees them.
    in_turn: True: who waits gets them first come, first served. False: whoever looks first has them, a newcomer too,
        and who waits for each other waits in vain, as on SQLite.
    """

    def __init__(
        self,
        wait: Wait | None = None,
        pause: Pause | None = None,
        *,
        bound: timedelta = BOUND,
        in_turn: bool = True,
    ) -> None:
        self.pause: Pause = pause or (lambda transaction: None)
        self._wait = wait or self._sleep
        self._bound = bound
        self._in_turn = in_turn
        self._changed = threading.Condition(threading.RLock())
        self._owners: dict[Hashable, object] = {}
        self._held: dict[object, set[Hashable]] = {}
        self._queues: dict[Hashable, list[object]] = {}
        self._awaited: dict[object, Hashable] = {}

    def acquire(self, owner: object, key: Hashable) -> None:
        """Wait for the lock; one that is held already is had at once.

        Raises:
            ChangedMeanwhile: whoever holds it waits for `owner`, or it was not given up in time.
        """
        if self._in_turn:
            self._queue_for(owner, key)
        else:
            self._wait(lambda: self.try_acquire(owner, key))
        if self._owners.get(key) is not owner:
            raise ChangedMeanwhile(f"the lock on {key} was not given up in time")

    def _queue_for(self, owner: object, key: Hashable) -> None:
        with self._changed:
            if self.try_acquire(owner, key):
                return
            if self._waits_for(self._owners[key], owner):
                raise ChangedMeanwhile(f"two transactions wait for each other: {key} is one of the locks")
            self._queues.setdefault(key, []).append(owner)
            self._awaited[owner] = key
        try:
            self._wait(lambda: self._owners.get(key) is owner)
        finally:
            with self._changed:
                if self._awaited.pop(owner, None) is not None:
                    self._queues[key].remove(owner)

    def try_acquire(self, owner: object, key: Hashable) -> bool:
        """False when somebody else holds it."""
        with self._changed:
            if key not in self._owners:
                self._give(key, owner)
            return self._owners[key] is owner

    def release_all(self, owner: object) -> None:
        """Each lock goes to whoever has waited for it longest."""
        with self._changed:
            for key in self._held.pop(owner, ()):
                del self._owners[key]
                if self._queues.get(key):
                    next_one = self._queues[key].pop(0)
                    del self._awaited[next_one]
                    self._give(key, next_one)
                else:
                    self._queues.pop(key, None)
            self._changed.notify_all()

    def _give(self, key: Hashable, owner: object) -> None:
        self._owners[key] = owner
        self._held.setdefault(owner, set()).add(key)

    def _waits_for(self, waiting: object, owner: object) -> bool:
        """Whether `waiting`, or whoever it waits for in turn, waits for a lock of `owner`."""
        while waiting in self._awaited:
            waiting = self._owners[self._awaited[waiting]]
            if waiting is owner:
                return True
        return False

    def _sleep(self, held: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(held, self._bound.total_seconds())
