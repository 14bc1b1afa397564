"""Sending again what a person asks for."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from attrs import evolve

from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, NotFound
from ordersync_core.kernel.ids import Ids
from ordersync_core.webhooks.commands import Redeliver, Replay, ReplayBatch, ResubmitDelivery
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


def replay(application: Application, command: Replay, context: Context) -> int:
    """Deliver again, at new positions, what the webhook takes of the events after a number; answers how many. What
    waits for fan-out, or is numbered meanwhile, is left to fan-out.

    Each batch is run for itself, so that one which is repeated repeats nothing of those before it.
    """
    batch: ReplayBatch | None = application.run(begin_replay, command, context)
    count = 0
    while batch is not None:
        delivered, batch = application.run(replay_batch, batch, context)
        count += delivered
    return count


def begin_replay(command: Replay, *, uow: WebhooksUnitOfWork, ids: Ids) -> ReplayBatch:
    with uow:
        last = uow.event_log.last_number()
    return ReplayBatch(
        replay_id=ids.new(), webhook_id=command.webhook_id, after_number=command.after_number, last_number=last
    )


def replay_batch(command: ReplayBatch, *, uow: WebhooksUnitOfWork, clock: Clock) -> tuple[int, ReplayBatch | None]:
    """How many were delivered again, and the next batch; None after the last one.

    Raises:
        Conflict: the webhook is disabled.
    """
    now = clock.now()
    with uow:
        webhook = find_webhook(uow, command.webhook_id)
        if webhook.state is not WebhookState.ENABLED:
            raise Conflict(f"webhook {webhook.id} is disabled: enable it first")
        found = uow.event_log.handled_after(command.after_number, REPLAY_BATCH)
        events = [event for event in found if event.number <= command.last_number]
        if not events:
            return 0, None
        count = _deliver_again(uow, webhook, events, reason=f"replay:{command.replay_id}", now=now)
        uow.commit()
    return count, evolve(command, after_number=events[-1].number)


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
