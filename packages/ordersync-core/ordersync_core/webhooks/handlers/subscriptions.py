"""Webhooks as a person sets them up, and takes them out of service and back."""

from uuid import UUID

import orjson
from attrs import evolve

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.webhooks.commands import (
    Backlog,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    RotateSecret,
    SendTest,
)
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import Webhook, WebhookState
from ordersync_core.webhooks.outcome import disable
from ordersync_core.webhooks.ports import TargetPolicy, WebhookRequest, WebhooksUnitOfWork
from ordersync_core.webhooks.signing import new_secret, signed_headers

SECRET_BYTES = 32


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
        find_webhook(uow, command.id)
        uow.webhooks.delete(command.id)
        uow.commit()


def rotate_secret(command: RotateSecret, *, uow: WebhooksUnitOfWork, secrets: Secrets) -> tuple[Webhook, str]:
    """A new secret; the one before stays valid beside it until the next rotation."""
    secret = new_secret(secrets.random(SECRET_BYTES))
    with uow:
        webhook = find_webhook(uow, command.id)
        rotated = evolve(webhook, secrets=(secrets.encrypt(secret.encode()), *webhook.secrets[:1]))
        uow.webhooks.save([rotated])
        uow.commit()
    return rotated, secret


def disable_webhook(command: DisableWebhook, *, uow: WebhooksUnitOfWork, clock: Clock) -> Webhook:
    """Park what waits and create nothing new."""
    with uow:
        disabled = disable(find_webhook(uow, command.id), command.reason)
        uow.webhooks.save([disabled])
        uow.deliveries.park(disabled.id)
        uow.commit()
    return disabled


def enable_webhook(command: EnableWebhook, *, uow: WebhooksUnitOfWork, clock: Clock) -> Webhook:
    """Take it into service again, as if it had never failed; what was parked is sent or cancelled. One that is in
    service stays as it is, with what its breaker holds back."""
    now = clock.now()
    with uow:
        webhook = find_webhook(uow, command.id)
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


def prepare_test(
    command: SendTest, *, uow: WebhooksUnitOfWork, secrets: Secrets, ids: Ids, clock: Clock
) -> WebhookRequest:
    """A signed request of type `webhook.test`, outside the webhook's count: for a person who sets a receiver up."""
    with uow:
        webhook = find_webhook(uow, command.id)
    now, message_id = clock.now(), str(ids.new())
    body = orjson.dumps({"type": "webhook.test", "timestamp": rfc3339(now), "id": message_id, "data": {}})
    keys = [secrets.decrypt(sealed).decode() for sealed in webhook.secrets]
    return WebhookRequest(
        delivery_id=UUID(message_id),
        webhook_id=webhook.id,
        attempt=1,
        url=webhook.url,
        headers={
            **signed_headers(keys, message_id=message_id, timestamp=now, body=body),
            "X-Event-Id": message_id,
            "X-Event-Type": "webhook.test",
        },
        body=body,
    )


def find_webhook(uow: WebhooksUnitOfWork, id: UUID) -> Webhook:
    webhook = uow.webhooks.find(id)
    if webhook is None:
        raise NotFound(f"there is no webhook {id}")
    return webhook
