from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

from attrs import field, frozen, validators

from ordersync_core.messaging.envelope import Envelope
from ordersync_core.webhooks.model import EventTypePattern
from ordersync_core.webhooks.ports import WebhookResponse

DELIVERIES_WINDOW = 100


@frozen(kw_only=True)
class CreateWebhook:
    url: str
    event_types: tuple[EventTypePattern, ...] = field(validator=validators.min_len(1))


@frozen(kw_only=True)
class DeleteWebhook:
    id: UUID


class Backlog(StrEnum):
    """What enabling does with what was not sent: send the parked, or cancel them."""

    SEND_PARKED = "send_parked"
    CANCEL_PARKED = "cancel_parked"


@frozen(kw_only=True)
class EnableWebhook:
    """Enable it again."""

    id: UUID
    backlog: Backlog = Backlog.SEND_PARKED


@frozen(kw_only=True)
class DisableWebhook:
    id: UUID
    reason: str = "disabled by a person"


@frozen(kw_only=True)
class RotateSecret:
    """Sign with a new secret, and for now with the old one too."""

    id: UUID


@frozen(kw_only=True)
class SendTest:
    id: UUID


@frozen(kw_only=True)
class Redeliver:
    """Send one delivery again, whatever became of it."""

    id: UUID


@frozen(kw_only=True)
class Replay:
    """Send again what a webhook takes of the events numbered after `after_number`: as its next positions."""

    webhook_id: UUID
    after_number: int


@frozen(kw_only=True)
class ReplayBatch:
    """The next part of a replay, up to `last_number`; `replay_id` sets its deliveries apart from those of others."""

    replay_id: UUID
    webhook_id: UUID
    after_number: int
    last_number: int


@frozen(kw_only=True)
class FanOut:
    """The `events` messages of one administration."""

    messages: tuple[Envelope, ...]
    window: int = DELIVERIES_WINDOW


@frozen(kw_only=True)
class SendOwedDeliveries:
    window: int = DELIVERIES_WINDOW


@frozen(kw_only=True)
class Prepare:
    """The `webhooks` messages of one administration."""

    messages: tuple[Envelope, ...]


@frozen(kw_only=True)
class Record:
    """Results of one administration."""

    responses: tuple[WebhookResponse, ...]


@frozen(kw_only=True)
class ResubmitDelivery:
    """Let a delivery that was given up try again, from its first attempt."""

    id: UUID


@frozen(kw_only=True)
class GiveUpDelivery:
    """The message for `attempt` becomes a dead letter; a delivery that has moved on stays as it is."""

    id: UUID
    attempt: int
    reason: str


@frozen(kw_only=True)
class FindDead:
    """Which of these deliveries were given up. attempts: by delivery, the attempt that a message stood for."""

    attempts: Mapping[UUID, int]
