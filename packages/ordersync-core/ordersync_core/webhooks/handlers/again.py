"""Sending again what a person asks for."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from attrs import evolve

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import Conflict, NotFound
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.unit_of_work import Opens
from ordersync_core.webhooks.commands import Redeliver, Replay, ResubmitDelivery
from ordersync_core.webhooks.handlers.breaker import keep_probing
from ordersync_core.webhooks.handlers.subscriptions import find_webhook
from ordersync_core.webhooks.model import Delivery, DeliveryState, Event, Webhook, WebhookState, deliveries_of
from ordersync_core.webhooks.ports import WebhooksUnitOfWork

REPLAY_BATCH = 1_000


def redeliver(command: Redeliver, *, uow: WebhooksUnitOfWork, clock: Clock) -> Delivery:
    """Send one delivery again, whatever became of it: at the same position, under the same id, with the webhook's
    present URL and secret, on a schedule of its own.

    Raises:
        Conflict: its webhook is disabled.
    """
    with uow:
        again = _send_again(uow, command.id, at=clock.now())
        uow.commit()
    return again


def resubmit_delivery(command: ResubmitDelivery, *, uow: WebhooksUnitOfWork, clock: Clock) -> None:
    """The dead letter's delivery tries again; one that is not dead any more stays as it is."""
    with uow:
        uow.webhooks.of_deliveries([command.id])
        delivery = uow.deliveries.get([command.id]).get(command.id)
        if delivery is None or delivery.state is not DeliveryState.DEAD:
            return
        _send_again(uow, command.id, at=clock.now())
        uow.commit()


def replay(command: Replay, *, uows: Opens[WebhooksUnitOfWork], ids: Ids, clock: Clock) -> int:
    """Deliver again, at new positions, what the webhook takes of the events after a number; answers how many. Of what
    is numbered meanwhile it takes nothing: fan-out delivers that."""
    reason = f"replay:{ids.new()}"
    with uows() as uow:
        last = uow.event_log.last_number()
    after, count = command.after_number, 0
    while True:
        now = clock.now()
        with uows() as uow:
            webhook = find_webhook(uow, command.webhook_id)
            if webhook.state is not WebhookState.ENABLED:
                raise Conflict(f"webhook {webhook.id} is disabled: enable it first")
            events = [e for e in uow.event_log.events_after(after, REPLAY_BATCH) if e.number <= last]
            if not events:
                return count
            count += _deliver_again(uow, webhook, events, reason=reason, now=now)
            uow.commit()
        after = events[-1].number


def _deliver_again(
    uow: WebhooksUnitOfWork, webhook: Webhook, events: Sequence[Event], *, reason: str, now: datetime
) -> int:
    moved, deliveries = deliveries_of(webhook, events, room=0, at=now, first_ticket_at=now, reason=reason)
    uow.deliveries.add(deliveries)
    uow.webhooks.save([moved])
    keep_probing(uow, moved, lambda probe: now)
    return len(deliveries)


def _send_again(uow: WebhooksUnitOfWork, id: UUID, *, at: datetime) -> Delivery:
    webhooks = uow.webhooks.of_deliveries([id])
    delivery = uow.deliveries.get([id]).get(id)
    if delivery is None:
        raise NotFound(f"there is no delivery {id}")
    if webhooks[delivery.webhook_id].state is not WebhookState.ENABLED:
        raise Conflict(f"webhook {delivery.webhook_id} is disabled: enable it first")
    if delivery.state is DeliveryState.WAITING and delivery.tickets:
        return delivery
    again = evolve(
        delivery,
        state=DeliveryState.WAITING,
        earlier_attempts=delivery.attempts,
        first_attempt_at=None,
        ticket_at=at,
        tickets=0,
        finished_at=None,
        reason=None,
    )
    uow.deliveries.save([again])
    return again
