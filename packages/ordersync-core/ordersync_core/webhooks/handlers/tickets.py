"""The tickets that deliveries owe for their next attempts."""

from collections.abc import Sequence
from datetime import datetime

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.messaging.commands import FindStuck
from ordersync_core.messaging.envelope import WEBHOOKS, Envelope, encode
from ordersync_core.messaging.queue import Message, Queues, send_id
from ordersync_core.messaging.tickets import OWED_WITHIN, Stuck, is_stuck, ticketed
from ordersync_core.webhooks.commands import SendOwedDeliveries
from ordersync_core.webhooks.model import Delivery
from ordersync_core.webhooks.ports import WebhookQueries, WebhooksUnitOfWork


def send_owed_deliveries(
    command: SendOwedDeliveries,
    *,
    queries: WebhookQueries,
    uow: WebhooksUnitOfWork,
    queues: Queues,
    clock: Clock,
    context: Context,
) -> int:
    """Send the tickets of attempts that are due, and of those whose ticket brought no outcome; note it afterwards."""
    owed = queries.owed_deliveries(clock.now(), window=command.window)
    if not owed:
        return 0
    now = clock.now()
    send_tickets(owed, (), queues, context, now)
    with uow:
        uow.deliveries.ticketed(
            [ticketed(d.id, was=d.ticket_at, tickets_before=d.tickets, at=now) for d in owed if d.ticket_at is not None]
        )
        uow.commit()
    return len(owed)


def stuck_deliveries(command: FindStuck, *, queries: WebhookQueries, clock: Clock, context: Context) -> Sequence[Stuck]:
    # a window of none: only those whose ticket is out
    deliveries = queries.owed_deliveries(clock.now() + OWED_WITHIN, window=0)
    return [
        Stuck(administration=context.administration or "", what=f"delivery {d.id} ({d.event_type})", tickets=d.tickets)
        for d in deliveries
        if is_stuck(d.tickets)
    ]


def send_tickets(
    deliveries: Sequence[Delivery],
    causes: Sequence[Envelope],
    queues: Queues,
    context: Context,
    now: datetime,
) -> None:
    """Send a ticket for the next attempt of each; what caused it, where known, lends its trigger and correlation."""
    by_event = {cause.id: cause for cause in causes}
    queues[WEBHOOKS].send(
        [_message(delivery, by_event.get(delivery.event_id), context, now) for delivery in deliveries]
    )


def _message(delivery: Delivery, cause: Envelope | None, context: Context, now: datetime) -> Message:
    attempt = delivery.attempts + 1
    administration = context.administration or ""
    ticket = Envelope(
        id=delivery.id,
        type=delivery.event_type,
        administration=administration,
        occurred_at=now,
        triggered_by=cause.triggered_by if cause else context.triggered_by,
        correlation_id=cause.correlation_id if cause else context.correlation_id,
        traceparent=cause.traceparent if cause else context.traceparent,
        body={"delivery": str(delivery.id), "attempt": attempt},
    )
    return Message(send_id=send_id(delivery.id, now), body=encode(ticket), group=administration)
