"""Webhooks, deliveries and attempts: what they hold and what becomes of them."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from attrs import evolve, field, frozen

from ordersync_core.kernel.decoding import register, text
from ordersync_core.kernel.ids import derived_id
from ordersync_core.webhooks.health import Health

_PATTERN = re.compile(r"\*|[a-z_]+(\.[a-z_]+)*(\.\*)?")
MAXIMUM_URL = 2_000


class EventTypePattern(str):
    """Which event types a webhook takes: `item.created`, `item.*`, or `*`. ValueError for anything else."""

    __slots__ = ()

    def __new__(cls, pattern: str) -> "EventTypePattern":
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r} is not an event type such as item.created, item.* or *")
        return super().__new__(cls, pattern)

    def selects(self, event_type: str) -> bool:
        if self == "*":
            return True
        if self.endswith(".*"):
            return event_type.startswith(self[:-1])
        return event_type == self


register(EventTypePattern, lambda value: EventTypePattern(text(value)))


class WebhookState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class DeliveryState(StrEnum):
    WAITING = "Waiting"
    DELIVERED = "Delivered"
    DEAD = "Dead"
    PARKED = "Parked"
    CANCELLED = "Cancelled"


@frozen(kw_only=True)
class Webhook:
    """A subscription.

    secrets: the valid signing secrets, encrypted; the newest first; two during a rotation.
    last_position: how many deliveries it was ever given.
    disabled_because: one sentence; None while it is enabled.
    """

    id: UUID
    url: str
    event_types: tuple[EventTypePattern, ...]
    secrets: tuple[bytes, ...] = field(repr=False)
    state: WebhookState = WebhookState.ENABLED
    disabled_because: str | None = None
    last_position: int = 0
    created_at: datetime
    health: Health = field(factory=Health)

    def selects(self, event_type: str) -> bool:
        return any(pattern.selects(event_type) for pattern in self.event_types)


@frozen(kw_only=True)
class Delivery:
    """One event for one webhook.

    position: its place in the webhook's own count, from 1 without a gap.
    attempts: finished tries so far.
    earlier_attempts: how many of them came before somebody asked to send it again; the schedule counts from there.
    first_attempt_at: when the present round's first attempt ended; None before.
    ticket_at: when it owes a ticket: the due time of its next attempt; None once it has an outcome, and while it is
        held back or parked.
    tickets: how many tickets were sent for the attempt that is due; above zero it counts into the window.
    """

    id: UUID
    webhook_id: UUID
    event_id: UUID
    event_type: str
    event_number: int
    position: int
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    earlier_attempts: int = 0
    first_attempt_at: datetime | None = None
    ticket_at: datetime | None = None
    tickets: int = 0
    created_at: datetime
    finished_at: datetime | None = None
    reason: str | None = None


@frozen(kw_only=True)
class Attempt:
    """One try at a delivery.

    status: the HTTP status; None when no answer came, and `error` says why then.
    response: the first 16 KiB of what was answered.
    """

    delivery_id: UUID
    number: int
    started_at: datetime
    ended_at: datetime
    status: int | None
    error: str | None = None
    response: bytes = b""


@frozen(kw_only=True)
class Event:
    """What fan-out needs to know of a numbered outbox row."""

    id: UUID
    number: int
    type: str


@frozen(kw_only=True)
class EventBody:
    """What a delivery sends of a numbered outbox row: the same bytes on every attempt."""

    triggered_by: str
    traceparent: str | None
    body: bytes


def deliveries_of(
    webhook: Webhook, events: Sequence[Event], *, room: int, at: datetime, first_ticket_at: datetime, reason: str
) -> tuple[Webhook, list[Delivery]]:
    """A delivery for each event that the webhook takes, at its next positions; and the webhook moved on.

    room: how many of them may have their ticket sent straight away; the others owe one at once and wait. While the
        webhook's breaker is open they owe none: whoever closes it lets them in.
    reason: part of the deliveries' ids, so that the same fan-out or replay meets its own earlier self.
    """
    if webhook.state is not WebhookState.ENABLED:
        return webhook, []
    selected = [event for event in events if webhook.selects(event.type)]
    held_back = webhook.health.is_open
    deliveries = []
    for place, event in enumerate(selected, start=1):
        sent = place <= room and not held_back
        deliveries.append(
            Delivery(
                id=derived_id("delivery", webhook.id, event.id, reason),
                webhook_id=webhook.id,
                event_id=event.id,
                event_type=event.type,
                event_number=event.number,
                position=webhook.last_position + place,
                ticket_at=None if held_back else first_ticket_at if sent else at,
                tickets=1 if sent else 0,
                created_at=at,
            )
        )
    return evolve(webhook, last_position=webhook.last_position + len(deliveries)), deliveries


def shown(webhook: Webhook) -> dict[str, Any]:
    """The webhook as JSON on the wire: without its secrets."""
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "event_types": [str(pattern) for pattern in webhook.event_types],
        "state": webhook.state.value,
        "disabled_because": webhook.disabled_because,
        "last_position": webhook.last_position,
    }
