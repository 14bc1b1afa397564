"""Who watches what no commit shows: the claims on messages, and what reaches the endpoints."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from attrs import define, field, frozen

from ordersync_core.messaging.queue import CLAIM_LIMIT, LOCK, Claim, Message
from ordersync_core.testing.memory.transaction import MemoryDatabase
from ordersync_core.testing.memory.webhooks import ATTEMPTS, DELIVERIES, WEBHOOKS
from ordersync_core.testing.memory_queue import MemoryQueue, MemoryQueues
from ordersync_core.testing.simulation.invariants import Broken, Written
from ordersync_core.testing.simulation.process import Process
from ordersync_core.testing.simulation.scheduler import Scheduler
from ordersync_core.webhooks.model import DeliveryState, WebhookState
from ordersync_core.webhooks.ports import WebhookRequest


@frozen
class _Hold:
    claim: Claim
    process: Process
    touched: int


@define(eq=False)
class Claims:
    """P7: a message has one holder at a time. P8: who loses it was dead, or had met a fault."""

    scheduler: Scheduler
    holds: dict[tuple[str, str], _Hold] = field(factory=dict)

    def claimed(self, queue: str, claims: Sequence[Claim], process: Process) -> None:
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


@define(eq=False)
class Deliveries:
    """P3 and P6, for the deliveries of one administration.

    delays: the published waits before attempts 2, 3, ...
    tolerance: how far the processes' clocks may be apart.
    """

    delays: Sequence[timedelta]
    tolerance: timedelta
    accepted: set[UUID] = field(factory=set)
    drained: set[UUID] = field(factory=set)
    """Webhooks whose breaker has been open: what waited is let in when it closes."""

    disabled: set[UUID] = field(factory=set)
    """Webhooks that were out of service for a while: they are given nothing new then."""

    def sent(self, database: MemoryDatabase, request: WebhookRequest, scheduler: Scheduler) -> None:
        """No attempt comes before its time, but for those that a recovering webhook's breaker lets in."""
        delivery = database.row(DELIVERIES, request.delivery_id)
        before = database.row(ATTEMPTS, (request.delivery_id, request.attempt - 1))
        if delivery is None or before is None or delivery.webhook_id in self.drained | self.disabled:
            return
        tries = request.attempt - 1 - delivery.earlier_attempts
        if 1 <= tries <= len(self.delays):
            due = before.ended_at + self.delays[tries - 1] - self.tolerance
            if scheduler.now < due:
                raise Broken(
                    "P6", f"attempt {request.attempt} at {request.delivery_id} came {due - scheduler.now} early"
                )

    def committed(self, database: MemoryDatabase, written: Written) -> None:
        for id, webhook in written.get(WEBHOOKS.name, {}).items():
            if webhook is not None and webhook.health.is_open:
                self.drained.add(id)
            if webhook is not None and webhook.state is WebhookState.DISABLED:
                self.disabled.add(id)
        for id, delivery in written.get(DELIVERIES.name, {}).items():
            if delivery is not None and delivery.state is DeliveryState.DELIVERED and id not in self.accepted:
                raise Broken("P3", f"delivery {id} is marked as delivered and its endpoint accepted nothing")
