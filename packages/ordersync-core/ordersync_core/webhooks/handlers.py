"""From numbered events to deliveries (fan-out), and from deliveries to requests and results (prepare, send, record)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import orjson
from attrs import evolve, frozen

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, NotFound
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Opens
from ordersync_core.messaging.envelope import WEBHOOKS, Envelope, encode
from ordersync_core.messaging.queue import Message, Queues, send_id
from ordersync_core.messaging.tickets import sent_straight_away, ticketed
from ordersync_core.webhooks.commands import (
    Backlog,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    FanOut,
    FindDead,
    GiveUpDelivery,
    Prepare,
    Record,
    Redeliver,
    Replay,
    ResubmitDelivery,
    RotateSecret,
    SendOwedDeliveries,
    SendTest,
)
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import (
    Delivery,
    DeliveryState,
    Event,
    EventBody,
    Webhook,
    WebhookState,
    deliveries_of,
)
from ordersync_core.webhooks.outcome import Outcome, after_attempt, disable, give_up
from ordersync_core.webhooks.ports import (
    RetryPolicy,
    TargetPolicy,
    WebhookRequest,
    WebhooksUnitOfWork,
)
from ordersync_core.webhooks.signing import new_secret, signature

FAN_OUT = "fan_out"
SECRET_BYTES = 32
REPLAY_BATCH = 1_000
DRAIN_FACTOR = 2


def create_webhook(
    command: CreateWebhook,
    *,
    uow: WebhooksUnitOfWork,
    targets: TargetPolicy,
    secrets: Secrets,
    ids: Ids,
    clock: Clock,
) -> tuple[Webhook, str]:
    """The webhook, and its signing secret: the only time that anyone sees it.

    Raises:
        TargetRefused: the URL leads to an address that is not called.
    """
    targets.check(command.url)
    secret = new_secret(secrets.random(SECRET_BYTES))
    webhook = Webhook(
        id=ids.new(),
        url=command.url,
        event_types=command.event_types,
        secrets=(secrets.encrypt(secret.encode()),),
        created_at=clock.now(),
    )
    with uow:
        uow.webhooks.add(webhook)
        uow.commit()
    return webhook, secret


def delete_webhook(command: DeleteWebhook, *, uow: WebhooksUnitOfWork) -> None:
    with uow:
        _find(uow, command.id)
        uow.webhooks.delete(command.id)
        uow.commit()


def rotate_secret(command: RotateSecret, *, uow: WebhooksUnitOfWork, secrets: Secrets) -> tuple[Webhook, str]:
    """A new secret; the one before stays valid beside it until the next rotation."""
    secret = new_secret(secrets.random(SECRET_BYTES))
    with uow:
        webhook = _find(uow, command.id)
        rotated = evolve(webhook, secrets=(secrets.encrypt(secret.encode()), *webhook.secrets[:1]))
        uow.webhooks.save([rotated])
        uow.commit()
    return rotated, secret


def disable_webhook(command: DisableWebhook, *, uow: WebhooksUnitOfWork, clock: Clock) -> Webhook:
    """Park what waits and create nothing new."""
    with uow:
        disabled = disable(_find(uow, command.id), command.reason)
        uow.webhooks.save([disabled])
        uow.deliveries.park(disabled.id, clock.now())
        uow.commit()
    return disabled


def enable_webhook(command: EnableWebhook, *, uow: WebhooksUnitOfWork, clock: Clock) -> Webhook:
    """Take it into service again, as if it had never failed; what was parked is sent or cancelled. One that is in
    service stays as it is, with what its breaker holds back."""
    now = clock.now()
    with uow:
        webhook = _find(uow, command.id)
        if webhook.state is WebhookState.ENABLED:
            return webhook
        enabled = evolve(webhook, state=WebhookState.ENABLED, disabled_because=None, health=Health())
        uow.webhooks.save([enabled])
        if command.backlog is Backlog.SEND_PARKED:
            uow.deliveries.unpark(enabled.id, now)
        else:
            uow.deliveries.cancel_parked(enabled.id, now)
        uow.commit()
    return enabled


def fan_out(command: FanOut, *, uows: Opens[WebhooksUnitOfWork], queues: Queues, clock: Clock, context: Context) -> int:
    """Give each webhook its deliveries of these events, and send the tickets that fit its window; answers how many
    deliveries were created. A repeated event creates nothing."""
    ids = [message.id for message in command.messages]
    now = clock.now()
    with uows() as uow:
        repeated = uow.processed(FAN_OUT, ids)
        events = uow.event_log.events([id for id in ids if id not in repeated])
        created = _deliver_to_all(uow, events, window=command.window, now=now)
        uow.event_log.handled(ids, now)
        uow.commit()
    _send([delivery for delivery in created if delivery.tickets], command.messages, queues, context, now)
    return len(created)


def _deliver_to_all(uow: WebhooksUnitOfWork, events: Sequence[Event], *, window: int, now: datetime) -> list[Delivery]:
    if not events:
        return []
    webhooks = uow.webhooks.enabled()
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
        _keep_probing(uow, webhook, now)
    return created


def _room(uow: WebhooksUnitOfWork, webhooks: Sequence[Webhook], *, window: int, now: datetime) -> Mapping[UUID, int]:
    """What each window has room for besides the tickets that are out and the earlier deliveries that are due: new ones
    that came first would keep those waiting for ever."""
    in_queue = uow.deliveries.in_queue([webhook.id for webhook in webhooks])
    earlier = Counter(d.webhook_id for d in uow.deliveries.owed(now, window=window) if d.tickets == 0)
    return {webhook.id: window - in_queue.get(webhook.id, 0) - earlier[webhook.id] for webhook in webhooks}


def send_owed_deliveries(
    command: SendOwedDeliveries, *, uows: Opens[WebhooksUnitOfWork], queues: Queues, clock: Clock, context: Context
) -> int:
    """Send the tickets of attempts that are due, and of those whose ticket brought no outcome; note it afterwards."""
    with uows() as uow:
        owed = uow.deliveries.owed(clock.now(), window=command.window)
    if not owed:
        return 0
    now = clock.now()
    _send(owed, (), queues, context, now)
    with uows() as uow:
        uow.deliveries.ticketed(
            [ticketed(d.id, was=d.ticket_at, tickets_before=d.tickets, at=now) for d in owed if d.ticket_at is not None]
        )
        uow.commit()
    return len(owed)


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
            uow.webhooks.save([_settle(uow, webhook, [o for o in outcomes if o.webhook.id == id], clock.now())])
        uow.commit()
    return recorded


def prepare_test(
    command: SendTest, *, uow: WebhooksUnitOfWork, secrets: Secrets, ids: Ids, clock: Clock
) -> WebhookRequest:
    """A signed request of type `webhook.test`, outside the webhook's count: for a person who sets a receiver up."""
    with uow:
        webhook = _find(uow, command.id)
    now, message_id = clock.now(), str(ids.new())
    body = orjson.dumps({"type": "webhook.test", "timestamp": rfc3339(now), "id": message_id, "data": {}})
    keys = [secrets.decrypt(sealed).decode() for sealed in webhook.secrets]
    return WebhookRequest(
        delivery_id=UUID(message_id),
        webhook_id=webhook.id,
        attempt=1,
        url=webhook.url,
        headers={
            **_signed(keys, message_id=message_id, now=now, body=body),
            "X-Event-Id": message_id,
            "X-Event-Type": "webhook.test",
        },
        body=body,
    )


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


def give_up_delivery(command: GiveUpDelivery, *, uow: WebhooksUnitOfWork, clock: Clock) -> None:
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
        uow.webhooks.save([_let_in(uow, webhook, int(webhook.health.recovering), now)])
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


def replay(command: Replay, *, uows: Opens[WebhooksUnitOfWork], ids: Ids, clock: Clock) -> int:
    """Deliver again, at new positions, what the webhook takes of the events after a number; answers how many."""
    reason = f"replay:{ids.new()}"
    after, count = command.after_number, 0
    while True:
        now = clock.now()
        with uows() as uow:
            webhook = _find(uow, command.webhook_id)
            if webhook.state is not WebhookState.ENABLED:
                raise Conflict(f"webhook {webhook.id} is disabled: enable it first")
            events = uow.event_log.events_after(after, REPLAY_BATCH)
            if not events:
                return count
            moved, deliveries = deliveries_of(webhook, events, room=0, at=now, first_ticket_at=now, reason=reason)
            uow.deliveries.add(deliveries)
            uow.webhooks.save([moved])
            _keep_probing(uow, moved, now)
            uow.commit()
        after, count = events[-1].number, count + len(deliveries)


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


def _settle(uow: WebhooksUnitOfWork, webhook: Webhook, outcomes: Sequence[Outcome], now: datetime) -> Webhook:
    """What the results mean for the webhook's other deliveries: park them, hold them back, or let them in again."""
    if any(outcome.disabled for outcome in outcomes):
        uow.deliveries.park(webhook.id, now)
        return webhook
    return _let_in(uow, webhook, sum(outcome.drains for outcome in outcomes), now)


def _let_in(uow: WebhooksUnitOfWork, webhook: Webhook, drained: int, now: datetime) -> Webhook:
    """Who goes next: the probe while the breaker is open, twice as many as were `drained` after that."""
    if webhook.health.is_open:
        _keep_probing(uow, webhook, now)
        return webhook
    if drained:
        let_in = uow.deliveries.pull_forward(webhook.id, now, limit=drained * DRAIN_FACTOR)
        if let_in == 0:
            return evolve(webhook, health=evolve(webhook.health, recovering=False))
    return webhook


def _keep_probing(uow: WebhooksUnitOfWork, webhook: Webhook, now: datetime) -> None:
    """While the breaker is open the first waiting delivery probes, and every other one waits without a ticket."""
    if not webhook.health.is_open:
        return
    probe = uow.deliveries.first_waiting(webhook.id)
    if probe is None:
        return
    if probe.ticket_at is None:
        uow.deliveries.save([evolve(probe, ticket_at=now)])
    uow.deliveries.hold_back(webhook.id, besides=probe.id)


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
            **_signed(keys, message_id=message_id, now=now, body=event.body),
            "X-Event-Id": message_id,
            "X-Event-Type": delivery.event_type,
            "X-Webhook-Position": str(delivery.position),
            "X-Administration-Code": context.administration or "",
            "X-TriggeredBy-Id": event.triggered_by,
            **({} if event.traceparent is None else {"traceparent": event.traceparent}),
        },
        body=event.body,
    )


def _signed(keys: Sequence[str], *, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature(keys, message_id=message_id, timestamp=now, body=body),
    }


def _send(
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


def _find(uow: WebhooksUnitOfWork, id: UUID) -> Webhook:
    webhook = uow.webhooks.find(id)
    if webhook is None:
        raise NotFound(f"there is no webhook {id}")
    return webhook
