"""Who watches the claims on messages, which no commit shows."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import define, field, frozen

from ordersync_core.messaging.queue import CLAIM_LIMIT, LOCK, Claim, Message
from ordersync_core.testing.memory_queue import MemoryQueue, MemoryQueues
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.process import Process
from ordersync_core.testing.simulation.scheduler import Scheduler


@frozen
class _Hold:
    claim: Claim
    process: Process
    touched: int


@define(eq=False)
class Claims:
    """P7: a message has one holder at a time. P8: who loses it was dead, or had met a fault. P12: who is asked to end
    gives it back."""

    scheduler: Scheduler
    holds: dict[tuple[str, str], _Hold] = field(factory=dict)
    latest: dict[tuple[str, Process], datetime] = field(factory=dict)
    """When a process last took up messages of a queue."""

    def claimed(self, queue: str, claims: Sequence[Claim], process: Process) -> None:
        self.latest[queue, process] = self.scheduler.now
        for claim in claims:
            before = self.holds.get(_key(queue, claim))
            if before is not None:
                self._check_lost(queue, before)
            self.holds[_key(queue, claim)] = _Hold(claim, process, process.touched)

    def renewed(self, queue: str, claims: Sequence[Claim]) -> None:
        for claim in claims:
            held = self.holds.get(_key(queue, claim))
            if held is not None and held.claim.token == claim.token:
                self.holds[_key(queue, claim)] = _Hold(claim, held.process, held.touched)

    def settled(self, queue: str, claims: Sequence[Claim]) -> None:
        for claim in claims:
            held = self.holds.get(_key(queue, claim))
            if held is not None and held.claim.token == claim.token:
                del self.holds[_key(queue, claim)]

    def stopped(self, process: Process) -> None:
        """To be told when it has ended in good order."""
        for (queue, _), hold in self.holds.items():
            if hold.process is process and hold.touched == process.touched:
                raise Broken("P12", f"{process.name} was asked to end and kept a message of {queue}")

    def _check_lost(self, queue: str, hold: _Hold) -> None:
        if hold.claim.locked_until > self.scheduler.now:
            raise Broken("P7", f"a message of {queue} that {hold.process.name} holds was claimed a second time")
        if hold.process.lives and hold.process.touched == hold.touched:
            raise Broken("P8", f"{hold.process.name} lives and lost its lock on a message of {queue}")


def _key(queue: str, claim: Claim) -> tuple[str, str]:
    return queue, claim.token.partition(":")[0]


@define(eq=False)
class MonitoredQueues:
    """The queues as one process sees them."""

    queues: MemoryQueues
    claims: Claims
    process: Process | None = None

    def __getitem__(self, name: str) -> "MonitoredQueue":
        if self.process is None:
            raise RuntimeError("these queues belong to no process yet")
        return MonitoredQueue(self.queues[name], name, self.claims, self.process)


@define(eq=False)
class MonitoredQueue:
    queue: MemoryQueue
    name: str
    claims: Claims
    process: Process

    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        claims = self.queue.claim(limit, lock)
        self.claims.claimed(self.name, claims, self.process)
        return claims

    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        renewed = self.queue.renew(claims, lock)
        self.claims.renewed(self.name, renewed)
        return renewed

    def complete(self, claims: Sequence[Claim]) -> list[Claim]:
        lost = self.queue.complete(claims)
        self.claims.settled(self.name, claims)
        return lost

    def abandon(self, claims: Sequence[Claim]) -> None:
        self.queue.abandon(claims)
        self.claims.settled(self.name, claims)

    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        done = self.queue.dead_letter(claim, reason=reason, description=description)
        self.claims.settled(self.name, [claim])
        return done

    def send(self, messages: Sequence[Message]) -> None:
        self.queue.send(messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)
