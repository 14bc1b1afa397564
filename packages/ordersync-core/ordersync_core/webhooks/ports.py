from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from attrs import field, frozen

from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import Queries, UnitOfWork
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, Event, EventBody, Webhook


class TargetRefused(InvalidInput):
    """The webhook's URL leads to an address that OrderSync does not call."""


class TargetPolicy(Protocol):
    def check(self, url: str) -> None:
        """Refuse a URL whose scheme, form or present addresses are not allowed: TargetRefused."""
        ...


class WebhookRepository(Protocol):
    def add(self, webhook: Webhook) -> None: ...

    def find(self, id: UUID) -> Webhook | None:
        """Locked."""
        ...

    def of_deliveries(self, delivery_ids: Sequence[UUID]) -> Mapping[UUID, Webhook]:
        """The webhooks of these deliveries by their own ids, locked in that order so that no two transactions
        deadlock: a transaction locks webhooks before deliveries."""
        ...

    def enabled(self) -> list[Webhook]:
        """All that are enabled, locked, in the order of their ids."""
        ...

    def save(self, webhooks: Sequence[Webhook]) -> None: ...

    def delete(self, id: UUID) -> None:
        """With its deliveries and attempts."""
        ...


class DeliveryRepository(Protocol):
    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Add them; one that stands there already (same id) stays as it is."""
        ...

    def get(self, ids: Sequence[UUID]) -> Mapping[UUID, Delivery]:
        """Locked, in the order of their ids."""
        ...

    def save(self, deliveries: Sequence[Delivery]) -> None: ...

    def record(self, attempts: Sequence[Attempt]) -> None:
        """Keep the attempts; one of the same delivery and number stays as it is."""
        ...

    def in_queue(self, webhook_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many waiting deliveries of each webhook have a ticket out: the part of the window that is taken."""
        ...

    def owed(self, now: datetime, *, window: int) -> list[Delivery]:
        """Waiting deliveries whose `ticket_at` has come, by webhook and position.

        Of each webhook at most as many as its window (tickets out included) leaves room for; one whose ticket is
        out already takes no new room.
        """
        ...

    def ticketed(self, tickets: Sequence[Ticketed]) -> None: ...

    def park(self, webhook_id: UUID) -> int:
        """Every waiting delivery of it becomes parked; answers how many."""
        ...

    def unpark(self, webhook_id: UUID, at: datetime) -> int:
        """Every parked delivery of it waits again and owes a ticket at `at`; answers how many."""
        ...

    def cancel_parked(self, webhook_id: UUID, at: datetime) -> int:
        """Every parked delivery of it is cancelled; answers how many."""
        ...

    def first_waiting(self, webhook_id: UUID) -> Delivery | None:
        """The waiting delivery with the lowest position, locked."""
        ...

    def hold_back(self, webhook_id: UUID, besides: UUID) -> int:
        """Every other waiting delivery of it owes no ticket (`ticket_at` null, none sent); answers how many."""
        ...

    def let_in(self, webhook_id: UUID, at: datetime, *, limit: int) -> int:
        """The first `limit` waiting deliveries of it, by position, that owe no ticket because they were held back, owe
        one at `at`; answers how many. One that has a moment of its own keeps it."""
        ...


class EventLog(Protocol):
    """The numbered outbox rows, as far as webhooks need them."""

    def last_number(self) -> int:
        """The last number given; 0 before the first."""
        ...

    def handled_after(self, number: int, limit: int) -> list[Event]:
        """The first ones with a higher number for which no ticket is owed any more, by number."""
        ...

    def handled(self, ids: Sequence[UUID], at: datetime) -> list[Event]:
        """No further ticket is owed for them. Answers them by number; an id without a numbered row is left out."""
        ...


class WebhooksUnitOfWork(UnitOfWork, Protocol):
    @property
    def webhooks(self) -> WebhookRepository: ...

    @property
    def deliveries(self) -> DeliveryRepository: ...

    @property
    def event_log(self) -> EventLog: ...


class WebhookQueries(Queries, Protocol):
    def webhooks(self, page: PageRequest) -> Page[Webhook]:
        """By id."""
        ...

    def webhook(self, id: UUID) -> Webhook | None: ...

    def deliveries(self, webhook_id: UUID, page: PageRequest, *, state: DeliveryState | None = None) -> Page[Delivery]:
        """By position."""
        ...

    def delivery(self, id: UUID) -> tuple[Delivery, list[Attempt]] | None: ...

    def waiting(self, delivery_ids: Sequence[UUID]) -> Mapping[UUID, tuple[Delivery, Webhook]]:
        """Those of these deliveries that wait, with their webhooks."""
        ...

    def owed_deliveries(self, now: datetime, *, window: int) -> list[Delivery]:
        """As `DeliveryRepository.owed`, without a transaction that others would wait for."""
        ...

    def bodies(self, event_ids: Sequence[UUID]) -> Mapping[UUID, EventBody]:
        """Of numbered outbox rows."""
        ...


@frozen(kw_only=True)
class WebhookRequest:
    """Everything the sender needs, so that it reads nothing while it waits for the receiver.

    attempt: the number of this attempt, from 1.
    """

    delivery_id: UUID
    webhook_id: UUID
    attempt: int
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@frozen(kw_only=True)
class WebhookResponse:
    """What came of one request. `status` None: no answer, and `error` says why.

    retry_after: the header as received, or None.
    """

    request: WebhookRequest
    started_at: datetime
    ended_at: datetime
    status: int | None
    retry_after: str | None = None
    error: str | None = None
    response: bytes = b""


@frozen(kw_only=True)
class RetryPolicy:
    """The waits before attempts 2 to 16, as configured."""

    delays: tuple[timedelta, ...]


class WebhookSender(Protocol):
    async def send(self, request: WebhookRequest) -> WebhookResponse:
        """POST it and wait for the answer, at most 15 s. Never raises for what the receiver does."""
        ...
