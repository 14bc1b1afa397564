"""What answers look like: classes for the description only; tests hold every answer against them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from attrs import frozen

from ordersync_core.administrations.model import Role
from ordersync_core.connections.model import ConnectionState
from ordersync_core.flows.model import FlowKind, Guard, Step
from ordersync_core.items.model import Attachment, Image, ItemCode, RelatedUnit, RestockOrder, Stock, VatTariff
from ordersync_core.jobs.model import JobType, Progress, RunState
from ordersync_core.kernel.localised import LocalisedText
from ordersync_core.webhooks.model import DeliveryState, EventTypePattern, WebhookState

R = TypeVar("R")


@frozen(kw_only=True)
class Violation:
    """A rule that the request breaks, at the place the JSON pointer names: in the body, or `/<name>` of a parameter or
    header.
    """

    pointer: str
    detail: str


@frozen(kw_only=True)
class ProblemDocument:
    """RFC 9457. `errors` comes with 422 and has every violation; `oldest_number` and `next_after` come with 410."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Violation, ...] = ()
    oldest_number: int = 0
    next_after: str = ""


@frozen(kw_only=True)
class ListOf(Generic[R]):
    """A page of a list. next: where to go on; null on the last page."""

    data: tuple[R, ...]
    next: str | None


@frozen(kw_only=True)
class Alive:
    status: str
    version: str


@frozen(kw_only=True)
class Ready:
    """Of each thing the API depends on: "up" or "down"."""

    status: str
    admin_database: str
    queues: str


@frozen(kw_only=True)
class MembershipShown:
    """An administration that the caller is a member of."""

    code: str
    name: str
    role: Role


@frozen(kw_only=True)
class ItemShown:
    """An item. Null says that nothing is known."""

    code: ItemCode
    name: LocalisedText
    family_code: str | None
    unit: str | None
    units: tuple[RelatedUnit, ...]
    vat_tariff: VatTariff | None
    attributes: Mapping[str, Any]
    images: tuple[Image, ...]
    attachments: tuple[Attachment, ...]
    stocks: tuple[Stock, ...]
    restock_orders: tuple[RestockOrder, ...]
    updated_at: datetime | None


@frozen(kw_only=True)
class BulkResult:
    """One line of the answer to a bulk request. status: what a PUT of the row would have answered."""

    row: int
    status: int
    code: str | None
    problem: ProblemDocument | None


@frozen(kw_only=True)
class WebhookShown:
    id: UUID
    url: str
    event_types: tuple[EventTypePattern, ...]
    state: WebhookState
    disabled_because: str | None
    last_position: int


@frozen(kw_only=True)
class WebhookWithSecret(WebhookShown):
    """The only answer that ever holds the secret."""

    secret: str


@frozen(kw_only=True)
class DeliveryShown:
    """One event for one webhook. next_attempt_at: null when none is planned."""

    id: UUID
    webhook_id: UUID
    event_id: UUID
    event_type: str
    event_number: int
    position: int
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    reason: str | None


@frozen(kw_only=True)
class AttemptShown:
    """status: of the receiver's answer; null when none came. response: the first 16 KiB of it, as text."""

    number: int
    started_at: datetime
    ended_at: datetime
    status: int | None
    error: str | None
    response: str


@frozen(kw_only=True)
class DeliveryWithAttempts(DeliveryShown):
    attempt_log: tuple[AttemptShown, ...]


@frozen(kw_only=True)
class Replayed:
    """How many deliveries were created."""

    deliveries: int


@frozen(kw_only=True)
class EventShown:
    """The body that webhooks get."""

    type: str
    timestamp: datetime
    id: UUID
    sequence: int
    administration: str
    triggered_by: str
    data: Mapping[str, Any]


@frozen(kw_only=True)
class EventPage:
    """next_after: where to go on, also when nothing is there yet."""

    data: tuple[EventShown, ...]
    next_after: str


@frozen(kw_only=True)
class RunShown:
    """A job run. due_at: of a scheduled one. wait_until, waits_for: while it waits."""

    id: UUID
    type: JobType
    parameters: Mapping[str, Any]
    state: RunState
    definition_id: UUID | None
    due_at: datetime | None
    missed: int
    triggered_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    heartbeat_at: datetime | None
    progress: Progress
    waits_for: str | None
    wait_until: datetime | None
    merged_into: UUID | None
    result: Mapping[str, Any] | None
    reason: str | None


@frozen(kw_only=True)
class DefinitionShown:
    """A scheduled job. next_due: null while it is disabled."""

    id: UUID
    type: JobType
    parameters: Mapping[str, Any]
    cron: str
    time_zone: str
    next_due: datetime | None


@frozen(kw_only=True)
class ConnectorShown:
    """What a connector can do, and the JSON Schemas of what a connection of it needs."""

    name: str
    title: str
    settings_schema: Mapping[str, Any]
    secrets_schema: Mapping[str, Any]
    entities: Mapping[str, tuple[str, ...]]


@frozen(kw_only=True)
class ConnectionShown:
    """A connection, without anything secret."""

    id: UUID
    connector: str
    name: str
    settings: Mapping[str, Any]
    state: ConnectionState


@frozen(kw_only=True)
class ConsentAddress:
    """Where a person's browser goes to consent; good for one answer within 10 minutes."""

    url: str


@frozen(kw_only=True)
class FlowShown:
    """version: rises with each change, and every record is built anew then."""

    kind: FlowKind
    source: Step
    guard: Guard
    version: int


@frozen(kw_only=True)
class QuarantinedShown:
    key: str
    reason: str
    raw: Any
    since: datetime


@frozen(kw_only=True)
class Retried:
    """How many records the next run builds again."""

    records: int


@frozen(kw_only=True)
class ExecutionShown:
    """What one run of a flow did. held_deletions: they wait for a person's confirmation."""

    run_id: UUID
    kind: FlowKind
    started_at: datetime
    ended_at: datetime | None
    complete_read: bool
    read: int
    created: int
    updated: int
    deleted: int
    unchanged: int
    quarantined: int
    held_deletions: int
