from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from attrs import evolve

from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.memory.pages import page_of
from ordersync_core.testing.memory.tickets import note_tickets
from ordersync_core.testing.memory.transaction import MemoryDatabase, Reader, Table, Transaction
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, Webhook, WebhookState

WEBHOOKS = Table[UUID, Webhook]("webhooks")
DELIVERIES = Table[UUID, Delivery]("deliveries")
POSITIONS = Table[tuple[UUID, int], UUID]("deliveries by position")
ATTEMPTS = Table[tuple[UUID, int], Attempt]("attempts")


class MemoryWebhookRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, webhook: Webhook) -> None:
        self._transaction.insert(WEBHOOKS, webhook.id, webhook)

    def find(self, id: UUID) -> Webhook | None:
        return self._transaction.find(WEBHOOKS, id)

    def of_deliveries(self, delivery_ids: Sequence[UUID]) -> Mapping[UUID, Webhook]:
        deliveries = [self._transaction.row(DELIVERIES, id) for id in delivery_ids]
        return self._transaction.get(WEBHOOKS, sorted({d.webhook_id for d in deliveries if d is not None}))

    def enabled(self) -> list[Webhook]:
        return self._transaction.select(
            WEBHOOKS, lambda webhook: webhook.state is WebhookState.ENABLED, order=lambda webhook: webhook.id
        )

    def save(self, webhooks: Sequence[Webhook]) -> None:
        for webhook in sorted(webhooks, key=lambda webhook: webhook.id):
            self._transaction.replace(WEBHOOKS, webhook.id, webhook)

    def delete(self, id: UUID) -> None:
        transaction = self._transaction
        transaction.delete(WEBHOOKS, id)
        for delivery in transaction.select(DELIVERIES, lambda d: d.webhook_id == id, order=lambda d: d.id):
            for key in [key for key in transaction.rows(ATTEMPTS) if key[0] == delivery.id]:
                transaction.delete(ATTEMPTS, key)
            transaction.delete(POSITIONS, (id, delivery.position))
            transaction.delete(DELIVERIES, delivery.id)


class MemoryDeliveryRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if self._transaction.row(WEBHOOKS, delivery.webhook_id) is None:
                raise ValueError(f"there is no webhook {delivery.webhook_id}")
            if self._transaction.insert_absent(DELIVERIES, delivery.id, delivery):
                self._transaction.insert(POSITIONS, (delivery.webhook_id, delivery.position), delivery.id)

    def get(self, ids: Sequence[UUID]) -> Mapping[UUID, Delivery]:
        return self._transaction.get(DELIVERIES, sorted(set(ids)))

    def save(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in sorted(deliveries, key=lambda delivery: delivery.id):
            self._transaction.replace(DELIVERIES, delivery.id, delivery)

    def record(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if self._transaction.row(DELIVERIES, attempt.delivery_id) is None:
                raise ValueError(f"there is no delivery {attempt.delivery_id}")
            self._transaction.insert_absent(ATTEMPTS, (attempt.delivery_id, attempt.number), attempt)

    def in_queue(self, webhook_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        return {id: sum(_is_out(delivery) for delivery in self._waiting(id)) for id in webhook_ids}

    def owed(self, now: datetime, *, window: int) -> list[Delivery]:
        return _owed(self._transaction, now, window=window)

    def ticketed(self, tickets: Sequence[Ticketed]) -> None:
        MemoryWebhookRepository(self._transaction).of_deliveries([ticket.id for ticket in tickets])
        note_tickets(self._transaction, DELIVERIES, tickets)

    def park(self, webhook_id: UUID) -> int:
        return self._change(
            webhook_id,
            _is_waiting,
            lambda d: evolve(d, state=DeliveryState.PARKED, ticket_at=None, tickets=0),
        )

    def unpark(self, webhook_id: UUID, at: datetime) -> int:
        return self._change(
            webhook_id,
            _is_parked,
            lambda d: evolve(d, state=DeliveryState.WAITING, ticket_at=at, tickets=0),
        )

    def cancel_parked(self, webhook_id: UUID, at: datetime) -> int:
        return self._change(
            webhook_id,
            _is_parked,
            lambda d: evolve(d, state=DeliveryState.CANCELLED, ticket_at=None, tickets=0, finished_at=at),
        )

    def first_waiting(self, webhook_id: UUID) -> Delivery | None:
        while True:
            waiting = self._waiting(webhook_id)
            if not waiting:
                return None
            locked = self._transaction.find(DELIVERIES, waiting[0].id)
            if locked is not None and _is_waiting(locked):
                return locked

    def hold_back(self, webhook_id: UUID, besides: UUID) -> int:
        return self._change(
            webhook_id,
            lambda d: _is_waiting(d) and d.ticket_at is not None and d.id != besides,
            lambda d: evolve(d, ticket_at=None, tickets=0),
        )

    def let_in(self, webhook_id: UUID, at: datetime, *, limit: int) -> int:
        return self._change(
            webhook_id,
            lambda d: _is_waiting(d) and d.ticket_at is None,
            lambda d: evolve(d, ticket_at=at),
            limit=limit,
        )

    def _waiting(self, webhook_id: UUID) -> list[Delivery]:
        """By position, without locks."""
        return _waiting(self._transaction, webhook_id)

    def _change(
        self,
        webhook_id: UUID,
        where: Callable[[Delivery], bool],
        change: Callable[[Delivery], Delivery],
        *,
        limit: int | None = None,
    ) -> int:
        """Change those that are so, the first ones by position; answers how many."""
        chosen = [d for d in self._transaction.rows(DELIVERIES).values() if d.webhook_id == webhook_id and where(d)]
        ids = {d.id for d in sorted(chosen, key=lambda d: d.position)[:limit]}
        locked = self._transaction.select(DELIVERIES, lambda d: d.id in ids and where(d), order=lambda d: d.id)
        self.save([change(delivery) for delivery in locked])
        return len(locked)


class MemoryWebhookQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def webhooks(self, page: PageRequest) -> Page[Webhook]:
        return page_of(self._database.rows(WEBHOOKS).values(), page, lambda webhook: (webhook.id,), UUID)

    def webhook(self, id: UUID) -> Webhook | None:
        return self._database.row(WEBHOOKS, id)

    def deliveries(self, webhook_id: UUID, page: PageRequest, *, state: DeliveryState | None = None) -> Page[Delivery]:
        wanted = [
            delivery
            for delivery in self._database.rows(DELIVERIES).values()
            if delivery.webhook_id == webhook_id and state in (None, delivery.state)
        ]
        return page_of(wanted, page, lambda delivery: (delivery.position,), int)

    def delivery(self, id: UUID) -> tuple[Delivery, list[Attempt]] | None:
        with self._database.moment():
            delivery = self._database.row(DELIVERIES, id)
            attempts = [a for a in self._database.rows(ATTEMPTS).values() if a.delivery_id == id]
        return None if delivery is None else (delivery, sorted(attempts, key=lambda a: a.number))

    def waiting(self, delivery_ids: Sequence[UUID]) -> Mapping[UUID, tuple[Delivery, Webhook]]:
        with self._database.moment():
            deliveries = [self._database.row(DELIVERIES, id) for id in delivery_ids]
            webhooks = self._database.rows(WEBHOOKS)
        return {d.id: (d, webhooks[d.webhook_id]) for d in deliveries if d is not None and _is_waiting(d)}

    def owed_deliveries(self, now: datetime, *, window: int) -> list[Delivery]:
        return _owed(self._database, now, window=window)


def earliest_delivery_ticket(reader: Reader) -> datetime | None:
    """When the next delivery of any webhook owes a ticket; None when none does."""
    waiting = [delivery.ticket_at for delivery in reader.rows(DELIVERIES).values() if _is_waiting(delivery)]
    return min((moment for moment in waiting if moment is not None), default=None)


def _waiting(reader: Reader, webhook_id: UUID) -> list[Delivery]:
    waiting = [d for d in reader.rows(DELIVERIES).values() if d.webhook_id == webhook_id and _is_waiting(d)]
    return sorted(waiting, key=lambda d: d.position)


def _owed(reader: Reader, now: datetime, *, window: int) -> list[Delivery]:
    webhook_ids = {d.webhook_id for d in reader.rows(DELIVERIES).values() if _is_waiting(d)}
    return [
        delivery
        for id in sorted(webhook_ids)
        for delivery in _owed_of_one_webhook(_waiting(reader, id), now, window=window)
    ]


def _owed_of_one_webhook(waiting: Sequence[Delivery], now: datetime, *, window: int) -> list[Delivery]:
    room = max(window - sum(_is_out(delivery) for delivery in waiting), 0)
    due = [delivery for delivery in waiting if delivery.ticket_at is not None and delivery.ticket_at <= now]
    let_in = {delivery.id for delivery in [d for d in due if not _is_out(d)][:room]}
    return [delivery for delivery in due if _is_out(delivery) or delivery.id in let_in]


def _is_waiting(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.WAITING


def _is_parked(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.PARKED


def _is_out(delivery: Delivery) -> bool:
    return delivery.tickets > 0
