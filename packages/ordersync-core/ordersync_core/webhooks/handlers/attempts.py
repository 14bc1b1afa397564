"""From deliveries to requests (prepare), and from what came of these to outcomes (record)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve, frozen

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.webhooks.commands import FindDead, GiveUpDelivery, Prepare, Record
from ordersync_core.webhooks.handlers.breaker import let_in
from ordersync_core.webhooks.model import Delivery, DeliveryState, EventBody, Webhook
from ordersync_core.webhooks.outcome import Outcome, after_attempt, give_up
from ordersync_core.webhooks.ports import RetryPolicy, WebhookQueries, WebhookRequest, WebhooksUnitOfWork
from ordersync_core.webhooks.signing import signed_headers

CLOCKS_DIFFER = timedelta(seconds=1)
"""At most, between machines whose clocks are kept."""


def prepare(
    command: Prepare,
    *,
    queries: WebhookQueries,
    uow: WebhooksUnitOfWork,
    secrets: Secrets,
    clock: Clock,
    context: Context,
) -> list[WebhookRequest]:
    """The requests that these messages stand for, in their order. A message whose delivery has moved on (another
    attempt, another moment, an outcome, parked, held back by a breaker) yields none: it is completed without work.

    It reads without locks: whatever changes while a request is under way is for `record` to find out.
    """
    wanted = {UUID(message.body["delivery"]): int(message.body["attempt"]) for message in command.messages}
    waiting = queries.waiting(list(wanted))
    found = [(waiting.get(id), attempt) for id, attempt in wanted.items()]
    now = clock.now()
    due = [each for each, attempt in found if each is not None and _is_due(each[0], attempt, now)]
    held = _hold_back(uow, [delivery for delivery, webhook in due if webhook.health.is_open], now)
    sent = [each for each in due if each[0].id not in held] if held else due
    bodies = queries.bodies(list({delivery.event_id for delivery, _ in sent}))
    signed_with = {
        webhook.id: _opened(webhook, secrets) for webhook in {webhook.id: webhook for _, webhook in sent}.values()
    }
    return [
        _request(
            delivery,
            webhook.url,
            bodies[delivery.event_id],
            secrets=signed_with[webhook.id],
            at=clock.now(),
            context=context,
        )
        for delivery, webhook in sent
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
        before = uow.webhooks.of_deliveries(ids)
        webhooks = dict(before)
        deliveries = dict(uow.deliveries.get(ids))
        outcomes: dict[UUID, list[Outcome]] = {}
        for response in sorted(command.responses, key=lambda r: r.ended_at):
            delivery = deliveries.get(response.request.delivery_id)
            if delivery is None or not _awaits(delivery, response.request.attempt):
                recorded.append(_moved_on(response.request, delivery))
                continue
            outcome = after_attempt(delivery, webhooks[delivery.webhook_id], response, delays=policy.delays)
            deliveries[delivery.id] = outcome.delivery
            webhooks[delivery.webhook_id] = outcome.webhook
            outcomes.setdefault(delivery.webhook_id, []).append(outcome)
            recorded.append(_recorded(outcome))
        uow.deliveries.save([outcome.delivery for each in outcomes.values() for outcome in each])
        uow.deliveries.record([outcome.attempt for each in outcomes.values() for outcome in each])
        settled = [_settle(uow, webhooks[id], each, clock.now(), policy) for id, each in outcomes.items()]
        uow.webhooks.save([webhook for webhook in settled if webhook != before[webhook.id]])
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
        if _died_with(delivery, command.attempts[id])
    }


def _died_with(delivery: Delivery, attempt: int) -> bool:
    return delivery.state is DeliveryState.DEAD and attempt - delivery.attempts in (0, 1)


def _hold_back(uow: WebhooksUnitOfWork, doubtful: Sequence[Delivery], now: datetime) -> set[UUID]:
    """Which of these are not sent now: while its webhook's breaker is open, only the first one that waits is, and the
    others wait without a ticket. One that has moved on since it was read is not sent either."""
    if not doubtful:
        return set()
    ids = [delivery.id for delivery in doubtful]
    with uow:
        webhooks = uow.webhooks.of_deliveries(ids)
        kept = uow.deliveries.get(ids)
        due = [kept[d.id] for d in doubtful if d.id in kept and _is_due(kept[d.id], d.attempts + 1, now)]
        probes = {id: uow.deliveries.first_waiting(id) for id, webhook in webhooks.items() if webhook.health.is_open}
        held = [d for d in due if d.webhook_id in probes and not _is(probes[d.webhook_id], d)]
        if held:
            uow.deliveries.save([evolve(delivery, ticket_at=None, tickets=0) for delivery in held])
            uow.commit()
    return set(ids) - ({delivery.id for delivery in due} - {delivery.id for delivery in held})


def _settle(
    uow: WebhooksUnitOfWork, webhook: Webhook, outcomes: Sequence[Outcome], now: datetime, policy: RetryPolicy
) -> Webhook:
    """What the results mean for the webhook's other deliveries: park them, hold them back, or let them in again."""
    if any(outcome.disabled for outcome in outcomes):
        uow.deliveries.park(webhook.id)
        return webhook
    return let_in(uow, webhook, sum(outcome.drains for outcome in outcomes), now, policy)


def _recorded(outcome: Outcome) -> Recorded:
    delivery = outcome.delivery
    return Recorded(
        delivery_id=delivery.id,
        attempt=delivery.attempts,
        dead=delivery.reason if delivery.state is DeliveryState.DEAD else None,
    )


def _moved_on(request: WebhookRequest, delivery: Delivery | None) -> Recorded:
    """Whoever gave it up meanwhile may have lost the message, which is this one's now: its dead letter is too."""
    dead = None
    if delivery is not None and _died_with(delivery, request.attempt):
        dead = delivery.reason or "GivenUp"
    return Recorded(delivery_id=request.delivery_id, attempt=request.attempt, dead=dead)


def _awaits(delivery: Delivery, attempt: int) -> bool:
    return delivery.state in (DeliveryState.WAITING, DeliveryState.PARKED) and delivery.attempts + 1 == attempt


def _is_due(delivery: Delivery, attempt: int, now: datetime) -> bool:
    """Whether the message that stands for the attempt is not older than what has been decided since: one that was held
    back, or got another moment, has no ticket out. Its sender notes a ticket after it went out, by a clock of its own.
    """
    has_come = delivery.ticket_at is not None and delivery.ticket_at <= now + CLOCKS_DIFFER
    return (
        delivery.state is DeliveryState.WAITING
        and delivery.attempts + 1 == attempt
        and (delivery.tickets > 0 or has_come)
    )


def _is(probe: Delivery | None, delivery: Delivery) -> bool:
    return probe is not None and probe.id == delivery.id


def _opened(webhook: Webhook, secrets: Secrets) -> list[str]:
    return [secrets.decrypt(sealed).decode() for sealed in webhook.secrets]


def _request(
    delivery: Delivery, url: str, event: EventBody, *, secrets: Sequence[str], at: datetime, context: Context
) -> WebhookRequest:
    message_id = str(delivery.event_id)
    return WebhookRequest(
        delivery_id=delivery.id,
        webhook_id=delivery.webhook_id,
        attempt=delivery.attempts + 1,
        url=url,
        headers={
            **signed_headers(secrets, message_id=message_id, timestamp=at, body=event.body),
            "X-Event-Id": message_id,
            "X-Event-Type": delivery.event_type,
            "X-Webhook-Position": str(delivery.position),
            "X-Administration-Code": context.administration or "",
            "X-TriggeredBy-Id": event.triggered_by,
            **({} if event.traceparent is None else {"traceparent": event.traceparent}),
        },
        body=event.body,
    )
