"""Who watches what reaches the endpoints: P3, and P6 whatever a breaker, a person or a dead process did meanwhile."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

from attrs import define, field, frozen

from ordersync_core.testing.memory.transaction import MemoryDatabase
from ordersync_core.testing.memory.webhooks import ATTEMPTS, DELIVERIES, WEBHOOKS
from ordersync_core.testing.simulation.invariants import Broken, Written
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, Webhook, WebhookState
from ordersync_core.webhooks.ports import WebhookRequest

V = TypeVar("V")

NEVER: Final = datetime.max.replace(tzinfo=UTC)
RAMP: Final = 2
"""How many of those that were held back are let in for each one that has come to its end."""


@define
class History(Generic[V]):
    """What was so, from when on."""

    entries: list[tuple[datetime, V]] = field(factory=list)

    def note(self, at: datetime, value: V) -> None:
        self.entries.append((at, value))

    def since(self, moment: datetime) -> list[V]:
        """All that was so at some time from that moment on; in doubt, what was so just before it too."""
        first = max((place for place, (at, _) in enumerate(self.entries) if at < moment), default=0)
        return [value for _, value in self.entries[first:]]


@frozen
class Line:
    """The deliveries of one webhook. first: whose position is the lowest of those that wait; None: none waits."""

    is_open: bool
    first: UUID | None


@frozen
class _Moved:
    """What a commit makes of the deliveries of one webhook, as they were and as they are."""

    webhook: Webhook
    deliveries: Sequence[tuple[Delivery, Delivery]]

    def let_in(self) -> list[Delivery]:
        """Those that were held back and have a moment now, by position."""
        return sorted(
            (after for before, after in self.deliveries if _is_held(before) and _has_moment(after)),
            key=lambda delivery: delivery.position,
        )

    def ended(self) -> list[Delivery]:
        over = (DeliveryState.DELIVERED, DeliveryState.DEAD)
        return [after for before, after in self.deliveries if before.state not in over and after.state in over]


@define(eq=False)
class Deliveries:
    """Each request is held against what the rows said since the process that sends it took up its message: what changes
    while a message is in hand is for whoever records the outcome to find out.

    delays: the published waits before attempts 2, 3, ...
    tolerance: how far any two clocks may be apart.
    """

    delays: Sequence[timedelta]
    tolerance: timedelta
    accepted: set[UUID] = field(factory=set)
    disabled: set[UUID] = field(factory=set)
    """Webhooks that were out of service for a while: they are given nothing new then."""

    _due: dict[tuple[UUID, int], History[datetime]] = field(factory=lambda: defaultdict(History))
    """From when on an attempt may be made, by delivery and number."""

    _lines: dict[UUID, History[Line]] = field(factory=lambda: defaultdict(History))

    def sent(self, database: MemoryDatabase, request: WebhookRequest, *, taken_up: datetime, at: datetime) -> None:
        """A request has reached its endpoint."""
        delivery = database.row(DELIVERIES, request.delivery_id)
        if delivery is None:
            return
        self._check_moment(request, taken_up, at)
        self._check_step(database, delivery, request, at)
        self._check_probe(request, taken_up)

    def committed(self, database: MemoryDatabase, written: Written, at: datetime) -> None:
        webhooks: Mapping[UUID, Webhook | None] = written.get(WEBHOOKS.name, {})
        deliveries: Mapping[UUID, Delivery | None] = written.get(DELIVERIES.name, {})
        for id, delivery in deliveries.items():
            if delivery is not None and delivery.state is DeliveryState.DELIVERED and id not in self.accepted:
                raise Broken("P3", f"delivery {id} is marked as delivered and its endpoint accepted nothing")
            self._note_moment(database.row(DELIVERIES, id), delivery, at)
        self.disabled |= {id for id, webhook in webhooks.items() if webhook and webhook.state is WebhookState.DISABLED}
        moved = {*webhooks, *(delivery.webhook_id for delivery in deliveries.values() if delivery is not None)}
        for id in sorted(moved):
            webhook = webhooks[id] if id in webhooks else database.row(WEBHOOKS, id)
            if webhook is not None:
                self._move(database, webhook, written, at)

    def _note_moment(self, before: Delivery | None, after: Delivery | None, at: datetime) -> None:
        if before is not None and (after is None or after.attempts != before.attempts):
            self._due[_next_attempt(before)].note(at, NEVER)
        if after is not None:
            noted = self._due[_next_attempt(after)]
            noted.note(at, _not_before(after, noted, at))

    def _move(self, database: MemoryDatabase, webhook: Webhook, written: Written, at: datetime) -> None:
        rows = {**database.rows(DELIVERIES), **written.get(DELIVERIES.name, {})}
        after = [delivery for delivery in rows.values() if delivery is not None and delivery.webhook_id == webhook.id]
        waiting = [delivery for delivery in after if delivery.state is DeliveryState.WAITING]
        first = min(waiting, key=lambda delivery: delivery.position, default=None)
        self._lines[webhook.id].note(at, Line(webhook.health.is_open, None if first is None else first.id))
        changed = [(database.row(DELIVERIES, delivery.id), delivery) for delivery in after]
        moved = _Moved(webhook, [(was, now) for was, now in changed if was is not None])
        if let_in := moved.let_in():
            if webhook.health.is_open:
                self._check_takeover(database, written, moved, first)
            else:
                _check_ramp(moved, let_in)

    def _check_moment(self, request: WebhookRequest, taken_up: datetime, at: datetime) -> None:
        """No request comes before the moment that its row says, and none while its row has no moment."""
        allowed = self._due[request.delivery_id, request.attempt].since(taken_up)
        if allowed and min(allowed) > at + self.tolerance:
            when = "had no moment to come" if min(allowed) == NEVER else f"came {min(allowed) - at} early"
            raise Broken("P6", f"attempt {request.attempt} at {request.delivery_id} {when}")

    def _check_step(self, database: MemoryDatabase, delivery: Delivery, request: WebhookRequest, at: datetime) -> None:
        """A retry that kept its moment all along comes a published step after the attempt before it, or later."""
        before = database.row(ATTEMPTS, (request.delivery_id, request.attempt - 1))
        moments = [moment for _, moment in self._due[request.delivery_id, request.attempt].entries]
        tries = request.attempt - 1 - delivery.earlier_attempts
        if before is None or NEVER in moments or not 1 <= tries <= len(self.delays):
            return
        due = before.ended_at + self.delays[tries - 1]
        if at + self.tolerance < due:
            raise Broken("P6", f"attempt {request.attempt} at {request.delivery_id} came {due - at} early")

    def _check_probe(self, request: WebhookRequest, taken_up: datetime) -> None:
        """While a breaker is open the first one that waits probes, and nobody else."""
        lines = self._lines[request.webhook_id].since(taken_up)
        if lines and all(line.is_open and line.first != request.delivery_id for line in lines):
            raise Broken("P6", f"{request.delivery_id} was sent while another one probes for {request.url}")

    def _check_takeover(
        self, database: MemoryDatabase, written: Written, moved: _Moved, first: Delivery | None
    ) -> None:
        """While a breaker is open one probes; who takes over from one that has ended waits a step of its own first. One
        that a person asks for may get a moment too: it is held back when that comes."""
        let_in = moved.let_in()
        if not moved.ended() and len(let_in) == 1:
            return
        if len(let_in) > 1 or let_in[0] != first:
            raise Broken("P6", f"{moved.webhook.url}: others than the probe are let in while the breaker is open")
        due = self._last_attempt(database, written, moved.webhook.id) + self._step(let_in[0])
        if let_in[0].ticket_at is None or let_in[0].ticket_at + self.tolerance < due:
            raise Broken("P6", f"{let_in[0].id} takes over as probe and does not wait until {due}")

    def _last_attempt(self, database: MemoryDatabase, written: Written, webhook_id: UUID) -> datetime:
        ids = {id for id, delivery in database.rows(DELIVERIES).items() if delivery.webhook_id == webhook_id}
        attempts: Iterable[Attempt | None] = {**database.rows(ATTEMPTS), **written.get(ATTEMPTS.name, {})}.values()
        return max(each.ended_at for each in attempts if each is not None and each.delivery_id in ids)

    def _step(self, delivery: Delivery) -> timedelta:
        tries = delivery.attempts - delivery.earlier_attempts
        return self.delays[max(tries, 1) - 1]


def _check_ramp(moved: _Moved, let_in: Sequence[Delivery]) -> None:
    """When the breaker has closed, those that were held back come in order, a few for each that has come to its end;
    one comes because a person asked for it."""
    ended = moved.ended()
    if len(let_in) > max(1, RAMP * len(ended)):
        raise Broken("P6", f"{moved.webhook.url}: {len(let_in)} are let in at once, for {len(ended)} that have ended")
    held = [after.position for before, after in moved.deliveries if _is_held(before) and _waits(after)]
    if ended and [delivery.position for delivery in let_in] != sorted(held)[: len(let_in)]:
        raise Broken("P6", f"{moved.webhook.url}: who was held back is not let in in order")


def _not_before(delivery: Delivery, noted: History[datetime], at: datetime) -> datetime:
    if not _waits(delivery):
        return NEVER
    if delivery.tickets == 0:
        return delivery.ticket_at or NEVER
    latest = noted.entries[-1][1] if noted.entries else NEVER
    return at if latest == NEVER else latest


def _next_attempt(delivery: Delivery) -> tuple[UUID, int]:
    return delivery.id, delivery.attempts + 1


def _waits(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.WAITING


def _is_held(delivery: Delivery) -> bool:
    return _waits(delivery) and delivery.ticket_at is None


def _has_moment(delivery: Delivery) -> bool:
    return _waits(delivery) and delivery.ticket_at is not None
