"""From numbered events to deliveries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.unit_of_work import Opens
from ordersync_core.messaging.queue import Queues
from ordersync_core.messaging.tickets import sent_straight_away
from ordersync_core.webhooks.commands import FanOut
from ordersync_core.webhooks.handlers.breaker import keep_probing
from ordersync_core.webhooks.handlers.tickets import send_tickets
from ordersync_core.webhooks.model import Delivery, Event, Webhook, deliveries_of
from ordersync_core.webhooks.ports import WebhooksUnitOfWork

FAN_OUT = "fan_out"


def fan_out(command: FanOut, *, uows: Opens[WebhooksUnitOfWork], queues: Queues, clock: Clock, context: Context) -> int:
    """Give each webhook its deliveries of these events, and send the tickets that fit its window; answers how many
    deliveries were created. A repeated event creates nothing."""
    ids = [message.id for message in command.messages]
    now = clock.now()
    with uows() as uow:
        repeated = uow.processed(FAN_OUT, ids)
        events = uow.event_log.handled(ids, now)
        if repeated:
            events = [event for event in events if event.id not in repeated]
        created = _deliver_to_all(uow, events, window=command.window, now=now)
        uow.commit()
    if created:
        send_tickets([delivery for delivery in created if delivery.tickets], command.messages, queues, context, now)
    return len(created)


def _deliver_to_all(uow: WebhooksUnitOfWork, events: Sequence[Event], *, window: int, now: datetime) -> list[Delivery]:
    webhooks = uow.webhooks.enabled() if events else []
    if not webhooks:
        return []
    room = _room(uow, webhooks, window=window, now=now)
    moved: list[Webhook] = []
    created: list[Delivery] = []
    for webhook in webhooks:
        after, deliveries = deliveries_of(
            webhook,
            events,
            room=room[webhook.id],
            at=now,
            first_ticket_at=sent_straight_away(now),
            reason=FAN_OUT,
        )
        if deliveries:
            moved.append(after)
            created += deliveries
    uow.deliveries.add(created)
    uow.webhooks.save(moved)
    for webhook in moved:
        keep_probing(uow, webhook, lambda probe: now)
    return created


def _room(uow: WebhooksUnitOfWork, webhooks: Sequence[Webhook], *, window: int, now: datetime) -> Mapping[UUID, int]:
    """What each window has room for besides the tickets that are out and the earlier deliveries that are due: new ones
    that came first would keep those waiting for ever."""
    in_queue = uow.deliveries.in_queue([webhook.id for webhook in webhooks])
    earlier = Counter(d.webhook_id for d in uow.deliveries.owed(now, window=window) if d.tickets == 0)
    return {webhook.id: window - in_queue.get(webhook.id, 0) - earlier[webhook.id] for webhook in webhooks}
