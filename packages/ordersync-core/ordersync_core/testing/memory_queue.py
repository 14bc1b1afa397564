"""The queues in memory: the same rules as the durable ones, without durability."""

import itertools
import threading
from bisect import insort
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from attrs import define, evolve

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import CLAIM_LIMIT, LOCK, SUSPECTS_TOGETHER, Claim, DeadLetter, Depth, Message


class MemoryQueues:
    """Locks run out by `clock`; only `wait` knows real time. Safe for use by many threads."""

    def __init__(self, clock: Clock) -> None:
        self._queues = {name: MemoryQueue(clock) for name in QUEUES}

    def __getitem__(self, name: str) -> "MemoryQueue":
        return self._queues[name]


@define
class _Entry:
    """A message in a queue.

    token: of the claim that holds it; None when nobody does.
    locked_until: None while ready. A message with an end but no token was given back by someone after its lock had
        run out before, and never comes with fresh ones.
    """

    message: Message
    deliveries: int = 0
    deaths: int = 0
    token: str | None = None
    locked_until: datetime | None = None

    @property
    def deaths_by_now(self) -> int:
        """For one whose lock has run out."""
        return self.deaths + (self.token is not None)


class MemoryQueue:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[int, _Entry] = {}
        self._ready: list[int] = []  # the numbers of those without an end, rising
        self._locked: dict[int, _Entry] = {}  # those with one
        self._dead: dict[int, DeadLetter] = {}
        self._numbers = itertools.count(1)
        self._tokens = itertools.count(1)
        self._condition = threading.Condition()
        self._sends = 0
        self._thread = threading.local()

    def send(self, messages: Sequence[Message]) -> None:
        with self._condition:
            for message in messages:
                number = next(self._numbers)
                self._entries[number] = _Entry(message)
                self._ready.append(number)
            self._tell()

    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        with self._condition:
            self._thread.seen = self._sends
            if limit < 1:
                return []
            chosen = self._suspects(limit)
            if not chosen:
                chosen, self._ready = self._ready[:limit], self._ready[limit:]
            return [self._claim(number, lock) for number in chosen]

    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        with self._condition:
            end = self._clock.now() + lock
            held = [claim for claim in claims if self._held(claim) is not None]
            for claim in held:
                self._entries[_number(claim)].locked_until = end
            return [evolve(claim, locked_until=end) for claim in held]

    def complete(self, claims: Sequence[Claim]) -> list[Claim]:
        with self._condition:
            lost = [claim for claim in claims if self._held(claim) is None]
            for claim in claims:
                if self._held(claim) is not None:
                    self._remove(_number(claim))
            return lost

    def abandon(self, claims: Sequence[Claim]) -> None:
        with self._condition:
            for claim in claims:
                if (entry := self._held(claim)) is not None:
                    entry.token = None
                    if entry.deaths:
                        entry.locked_until = self._clock.now()
                    else:
                        entry.locked_until = None
                        del self._locked[_number(claim)]
                        insort(self._ready, _number(claim))
            self._tell()

    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        with self._condition:
            entry = self._held(claim)
            if entry is None:
                return False
            self._remove(_number(claim))
            number = next(self._numbers)
            self._dead[number] = DeadLetter(
                id=str(number),
                message=entry.message,
                reason=reason,
                description=description,
                dead_at=self._clock.now(),
                deliveries=entry.deliveries,
            )
            return True

    def dead_letters(self, *, limit: int = 50, after: str | None = None) -> list[DeadLetter]:
        """As the port says; InvalidInput when `after` cannot be the id of a dead letter."""
        if after is not None and not after.isdecimal():
            raise InvalidInput(f"{after!r} is not the id of a dead letter")
        last = 0 if after is None else int(after)
        with self._condition:
            return [letter for number, letter in self._dead.items() if number > last][:limit]

    def find_dead_letter(self, id: str) -> DeadLetter | None:
        with self._condition:
            return next((letter for letter in self._dead.values() if letter.id == id), None)

    def remove_dead_letter(self, id: str) -> bool:
        with self._condition:
            found = self.find_dead_letter(id)
            return found is not None and self._dead.pop(int(found.id), None) is not None

    def purge_dead_letters(self, *, before: datetime, limit: int) -> int:
        with self._condition:
            old = [number for number, letter in self._dead.items() if letter.dead_at < before][:limit]
            for number in old:
                del self._dead[number]
            return len(old)

    def depth(self) -> Depth:
        with self._condition:
            now = self._clock.now()
            locked = sum(1 for entry in self._locked.values() if entry.locked_until and entry.locked_until > now)
            return Depth(ready=len(self._entries) - locked, locked=locked, dead=len(self._dead))

    def wait(self, timeout: timedelta) -> None:
        """As the port says. A thread that has neither claimed nor waited yet returns at once."""
        with self._condition:
            seen = getattr(self._thread, "seen", None)
            self._condition.wait_for(lambda: self._sends != seen, timeout.total_seconds())
            self._thread.seen = self._sends

    def _tell(self) -> None:
        self._sends += 1
        self._condition.notify_all()

    def _suspects(self, limit: int) -> list[int]:
        """Those that died once, together; when there are none, one that died more often."""
        expired = [number for _, number in sorted(self._expired())]
        once = [number for number in expired if self._entries[number].deaths_by_now == 1]
        return sorted(once[: min(limit, SUSPECTS_TOGETHER)]) or expired[:1]

    def _expired(self) -> Iterator[tuple[datetime, int]]:
        now = self._clock.now()
        for number, entry in self._locked.items():
            if entry.locked_until is not None and entry.locked_until <= now:
                yield entry.locked_until, number

    def _claim(self, number: int, lock: timedelta) -> Claim:
        entry = self._locked[number] = self._entries[number]
        entry.deaths = entry.deaths_by_now
        entry.deliveries += 1
        entry.token = f"{number}:{next(self._tokens)}"
        entry.locked_until = self._clock.now() + lock
        return Claim(
            message=entry.message,
            token=entry.token,
            deliveries=entry.deliveries,
            deaths=entry.deaths,
            locked_until=entry.locked_until,
        )

    def _remove(self, number: int) -> None:
        del self._entries[number], self._locked[number]

    def _held(self, claim: Claim) -> _Entry | None:
        """The entry while the claim is ours; None once it was settled, given to another or ran out."""
        entry = self._entries.get(_number(claim))
        if entry is None or entry.token != claim.token or entry.locked_until is None:
            return None
        return entry if entry.locked_until > self._clock.now() else None


def _number(claim: Claim) -> int:
    return int(claim.token.partition(":")[0])
