"""From deliveries to requests (prepare), and from what came of these to outcomes (record)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from attrs import evolve, frozen

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.webhooks.commands import FindDead, GiveUpDelivery, Prepare, Record
from ordersync_core.webhooks.handlers.breaker import let_in
from ordersync_core.webhooks.model import Delivery, DeliveryState, EventBody, Webhook
from ordersync_core.webhooks.outcome import Outcome, after_attempt, give_up
from ordersync_core.webhooks.ports import RetryPolicy, WebhookRequest, WebhooksUnitOfWork
from ordersync_core.webhooks.signing import signed_headers


def prepare(
    command: Prepare, *, uow: WebhooksUnitOfWork, secrets: Secrets, clock: Clock, context: Context
) -> list[WebhookRequest]:
    """The requests that these messages stand for, in their order. A message whose delivery has moved on (another
    attempt, an outcome, parked, held back by an open breaker) yields none: it is completed without work."""
    wanted = {UUID(message.body["delivery"]): int(message.body["attempt"]) for message in command.messages}
    with uow:
        webhooks = uow.webhooks.of_deliveries(list(wanted))
        deliveries = uow.deliveries.get(list(wanted))
        due = [
            delivery
            for delivery in (deliveries[id] for id in wanted if id in deliveries)
            if delivery.state is DeliveryState.WAITING and delivery.attempts + 1 == wanted[delivery.id]
        ]
        probes = {id: uow.deliveries.first_waiting(id) for id, webhook in webhooks.items() if webhook.health.is_open}
        held = [d for d in due if d.webhook_id in probes and not _is(probes[d.webhook_id], d)]
        sent = [delivery for delivery in due if delivery not in held]
        bodies = uow.event_log.bodies([delivery.event_id for delivery in sent])
        if held:
            uow.deliveries.save([evolve(delivery, ticket_at=None, tickets=0) for delivery in held])
            uow.commit()
    return [
        _request(
            delivery,
            webhooks[delivery.webhook_id],
            bodies[delivery.event_id],
            secrets=secrets,
            clock=clock,
            context=context,
        )
        for delivery in sent
    ]


@frozen(kw_only=True)
class Recorded:
    """What became of one delivery. `dead` is the reason of its dead letter; None when it was not given up."""

    delivery_id: UUID
    attempt: int
    dead: str | None


def record(command: Record, *, uow: WebhooksUnitOfWork, policy: RetryPolicy, clock: Clock) -> list[Recorded]:
    """Keep what the attempts brought, in one transaction. A result whose delivery has moved on changes nothing."""
    ids = [response.request.delivery_id for response in command.responses]
    recorded: list[Recorded] = []
    with uow:
        webhooks = dict(uow.webhooks.of_deliveries(ids))
        deliveries = dict(uow.deliveries.get(ids))
        outcomes: list[Outcome] = []
        for response in sorted(command.responses, key=lambda r: r.ended_at):
            delivery = deliveries.get(response.request.delivery_id)
            if delivery is None or not _awaits(delivery, response.request.attempt):
                recorded.append(
                    Recorded(delivery_id=response.request.delivery_id, attempt=response.request.attempt, dead=None)
                )
                continue
            outcome = after_attempt(delivery, webhooks[delivery.webhook_id], response, delays=policy.delays)
            deliveries[delivery.id] = outcome.delivery
            webhooks[delivery.webhook_id] = outcome.webhook
            outcomes.append(outcome)
            recorded.append(_recorded(outcome))
        uow.deliveries.save([outcome.delivery for outcome in outcomes])
        uow.deliveries.record([outcome.attempt for outcome in outcomes])
        for id, webhook in _after_all(outcomes, webhooks).items():
            its_outcomes = [outcome for outcome in outcomes if outcome.webhook.id == id]
            uow.webhooks.save([_settle(uow, webhook, its_outcomes, clock.now(), policy)])
        uow.commit()
    return recorded


def give_up_delivery(command: GiveUpDelivery, *, uow: WebhooksUnitOfWork, policy: RetryPolicy, clock: Clock) -> None:
    """Committed before the dead letter itself: without it the row would owe the same ticket again. Those that waited
    for it wait for the next one now."""
    now = clock.now()
    with uow:
        webhooks = uow.webhooks.of_deliveries([command.id])
        delivery = uow.deliveries.get([command.id]).get(command.id)
        if delivery is None or delivery.state is not DeliveryState.WAITING or delivery.attempts + 1 != command.attempt:
            return
        webhook = webhooks[delivery.webhook_id]
        uow.deliveries.save([give_up(delivery, command.reason, at=now)])
        uow.webhooks.save([let_in(uow, webhook, int(webhook.health.recovering), now, policy)])
        uow.commit()


def find_dead(command: FindDead, *, uow: WebhooksUnitOfWork) -> Mapping[UUID, str]:
    """Why those were given up that ended with the attempt that the message stands for, or before it was made.

    A process that died between that outcome and the dead letter leaves such a message.
    """
    with uow:
        uow.webhooks.of_deliveries(list(command.attempts))
        deliveries = uow.deliveries.get(list(command.attempts))
    return {
        id: delivery.reason or "GivenUp"
        for id, delivery in deliveries.items()
        if delivery.state is DeliveryState.DEAD and command.attempts[id] - delivery.attempts in (0, 1)
    }


def _settle(
    uow: WebhooksUnitOfWork, webhook: Webhook, outcomes: Sequence[Outcome], now: datetime, policy: RetryPolicy
) -> Webhook:
    """What the results mean for the webhook's other deliveries: park them, hold them back, or let them in again."""
    if any(outcome.disabled for outcome in outcomes):
        uow.deliveries.park(webhook.id, now)
        return webhook
    return let_in(uow, webhook, sum(outcome.drains for outcome in outcomes), now, policy)


def _after_all(outcomes: Sequence[Outcome], webhooks: Mapping[UUID, Webhook]) -> dict[UUID, Webhook]:
    return {outcome.webhook.id: webhooks[outcome.webhook.id] for outcome in outcomes}


def _recorded(outcome: Outcome) -> Recorded:
    delivery = outcome.delivery
    return Recorded(
        delivery_id=delivery.id,
        attempt=delivery.attempts,
        dead=delivery.reason if delivery.state is DeliveryState.DEAD else None,
    )


def _awaits(delivery: Delivery, attempt: int) -> bool:
    return delivery.state in (DeliveryState.WAITING, DeliveryState.PARKED) and delivery.attempts + 1 == attempt


def _is(probe: Delivery | None, delivery: Delivery) -> bool:
    return probe is not None and probe.id == delivery.id


def _request(
    delivery: Delivery, webhook: Webhook, event: EventBody, *, secrets: Secrets, clock: Clock, context: Context
) -> WebhookRequest:
    now = clock.now()
    message_id = str(delivery.event_id)
    keys = [secrets.decrypt(sealed).decode() for sealed in webhook.secrets]
    return WebhookRequest(
        delivery_id=delivery.id,
        webhook_id=webhook.id,
        attempt=delivery.attempts + 1,
        url=webhook.url,
        headers={
            **signed_headers(keys, message_id=message_id, timestamp=now, body=event.body),
            "X-Event-Id": message_id,
            "X-Event-Type": delivery.event_type,
            "X-Webhook-Position": str(delivery.position),
            "X-Administration-Code": context.administration or "",
            "X-TriggeredBy-Id": event.triggered_by,
            **({} if event.traceparent is None else {"traceparent": event.traceparent}),
        },
        body=event.body,
    )
