from typing import Any
from uuid import UUID

from attrs import frozen

from ordersync_api.calls import Answer, Call, PageQuery
from ordersync_api.operations import Operations
from ordersync_api.shapes import DeliveryShown, DeliveryWithAttempts, ListOf, Replayed, WebhookShown, WebhookWithSecret
from ordersync_api.values import EventNumber, EventTypePatterns, Url
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.webhooks.commands import (
    Backlog,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    Redeliver,
    Replay,
    RotateSecret,
)
from ordersync_core.webhooks.handlers import again, subscriptions
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, Webhook, shown
from ordersync_core.webhooks.ports import WebhookQueries

operations = Operations("webhook")

NEVER_STORED = {"Cache-Control": "no-store"}


@frozen(kw_only=True)
class NewWebhook:
    """`event_types`: such as item.created, item.* or *."""

    url: Url
    event_types: EventTypePatterns


@frozen(kw_only=True)
class Enabling:
    """`backlog`: what becomes of the deliveries that were parked meanwhile."""

    backlog: Backlog = Backlog.SEND_PARKED


@frozen(kw_only=True)
class Replaying:
    """`after`: the `sequence` of the last event that shall not be sent again; 0 for all that are kept."""

    after: EventNumber


@frozen(kw_only=True)
class DeliveriesQuery(PageQuery):
    state: DeliveryState | None = None


@operations.post("/v1/webhooks", answers={201: WebhookWithSecret})
def create_webhook(call: Call, body: NewWebhook) -> Answer:
    """Subscribe an address to events. Only this answer, and those of :rotate-secret, hold the signing secret."""
    webhook, secret = call.run(
        subscriptions.create_webhook, CreateWebhook(url=body.url, event_types=tuple(body.event_types))
    )
    return call.created({**shown(webhook), "secret": secret}, webhook.id, headers=NEVER_STORED)


@operations.get("/v1/webhooks", answers={200: ListOf[WebhookShown]})
def list_webhooks(call: Call, query: PageQuery) -> Answer:
    """Webhooks, the oldest first."""
    queries: WebhookQueries = call.queries()
    return call.listed(queries.webhooks(call.page(query)), query, shown)


@operations.get("/v1/webhooks/{id}", answers={200: WebhookShown})
def get_webhook(call: Call, id: UUID) -> Answer:
    """One webhook."""
    return Answer(body=shown(_webhook(call, id)))


@operations.delete("/v1/webhooks/{id}", answers={204: None})
def delete_webhook(call: Call, id: UUID) -> Answer:
    """Delete a webhook with its deliveries."""
    call.run(subscriptions.delete_webhook, DeleteWebhook(id=id))
    return Answer(status=204)


@operations.post("/v1/webhooks/{id}:enable", answers={200: WebhookShown})
def enable_webhook(call: Call, id: UUID, body: Enabling) -> Answer:
    """Take a webhook into service again."""
    return Answer(body=shown(call.run(subscriptions.enable_webhook, EnableWebhook(id=id, backlog=body.backlog))))


@operations.post("/v1/webhooks/{id}:disable", answers={200: WebhookShown})
def disable_webhook(call: Call, id: UUID) -> Answer:
    """Park what waits and create nothing new."""
    return Answer(body=shown(call.run(subscriptions.disable_webhook, DisableWebhook(id=id))))


@operations.post("/v1/webhooks/{id}:rotate-secret", answers={200: WebhookWithSecret})
def rotate_secret(call: Call, id: UUID) -> Answer:
    """Sign with a new secret; the one before stays valid beside it until the next rotation."""
    webhook, secret = call.run(subscriptions.rotate_secret, RotateSecret(id=id))
    return Answer(body={**shown(webhook), "secret": secret}, headers=NEVER_STORED)


@operations.post("/v1/webhooks/{id}:replay", answers={202: Replayed})
def replay(call: Call, id: UUID, body: Replaying) -> Answer:
    """Send again, at new positions, what the webhook takes of the events after a number."""
    command = Replay(webhook_id=id, after_number=body.after)
    count = again.replay(call.shell.application, command, call.context)
    return Answer(body={"deliveries": count}, status=202)


@operations.get("/v1/webhooks/{id}/deliveries", answers={200: ListOf[DeliveryShown]})
def list_deliveries(call: Call, id: UUID, query: DeliveriesQuery) -> Answer:
    """The deliveries of a webhook, by position."""
    _webhook(call, id)
    queries: WebhookQueries = call.queries()
    return call.listed(queries.deliveries(id, call.page(query), state=query.state), query, shown_delivery)


@operations.get("/v1/deliveries/{id}", answers={200: DeliveryWithAttempts})
def get_delivery(call: Call, id: UUID) -> Answer:
    """One delivery with all its attempts."""
    queries: WebhookQueries = call.queries()
    found = queries.delivery(id)
    if found is None:
        raise NotFound(f"there is no delivery {id}")
    delivery, attempts = found
    return Answer(body={**shown_delivery(delivery), "attempt_log": [_shown_attempt(a) for a in attempts]})


@operations.post("/v1/deliveries/{id}:redeliver", answers={202: DeliveryShown})
def redeliver(call: Call, id: UUID) -> Answer:
    """Send one delivery again, whatever became of it."""
    return Answer(body=shown_delivery(call.run(again.redeliver, Redeliver(id=id))), status=202)


def shown_delivery(delivery: Delivery) -> dict[str, Any]:
    waits = delivery.state is DeliveryState.WAITING and delivery.ticket_at is not None
    return {
        "id": str(delivery.id),
        "webhook_id": str(delivery.webhook_id),
        "event_id": str(delivery.event_id),
        "event_type": delivery.event_type,
        "event_number": delivery.event_number,
        "position": delivery.position,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "next_attempt_at": rfc3339(delivery.ticket_at) if waits and delivery.ticket_at else None,
        "created_at": rfc3339(delivery.created_at),
        "finished_at": None if delivery.finished_at is None else rfc3339(delivery.finished_at),
        "reason": delivery.reason,
    }


def _shown_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": rfc3339(attempt.started_at),
        "ended_at": rfc3339(attempt.ended_at),
        "status": attempt.status,
        "error": attempt.error,
        "response": attempt.response.decode("utf-8", "replace"),
    }


def _webhook(call: Call, id: UUID) -> Webhook:
    queries: WebhookQueries = call.queries()
    webhook = queries.webhook(id)
    if webhook is None:
        raise NotFound(f"there is no webhook {id}")
    return webhook
