"""The outbox, which is also the event log, and what is read of it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from attrs import evolve

from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.messaging.model import Numbering, OutboxRow
from ordersync_core.messaging.ports import Feed
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.memory.pages import page_of
from ordersync_core.testing.memory.tickets import note_tickets
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction
from ordersync_core.testing.memory.webhooks import ATTEMPTS, DELIVERIES, earliest_delivery_ticket
from ordersync_core.webhooks.model import Attempt, Delivery, Event, EventBody

OUTBOX = Table[UUID, OutboxRow]("outbox")
NUMBERS = Table[int, UUID]("outbox by number")
FEED = Table[str, Feed]("feed")
THE_FEED = "the one row"


class MemoryOutboxRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def lock_numbering(self) -> int:
        feed = self._transaction.find(FEED, THE_FEED)
        if feed is None:
            raise RuntimeError("the database was not initialised")
        return feed.last_number

    def unfinished(self, limit: int) -> int:
        return min(limit, sum(_is_unfinished(row) for row in self._rows()))

    def unnumbered(self, limit: int) -> list[OutboxRow]:
        waiting = [row for row in self._rows() if row.number is None and row.absorbed_by is None]
        return sorted(waiting, key=lambda row: row.order)[:limit]

    def number(self, numbering: Numbering, *, ticket_at: datetime) -> None:
        transaction = self._transaction
        for row in numbering.numbered:
            transaction.insert(NUMBERS, _number(row), row.id)
            transaction.replace(OUTBOX, row.id, evolve(row, ticket_at=ticket_at))
        for id, other in numbering.absorbed.items():
            kept = transaction.find(OUTBOX, id)
            if kept is not None:
                transaction.replace(OUTBOX, id, evolve(kept, absorbed_by=other))
        transaction.update(FEED, THE_FEED, lambda feed: evolve(feed, last_number=numbering.last_number))

    def owed(self, now: datetime, limit: int) -> list[OutboxRow]:
        owed = [
            row for row in self._rows() if _is_unfinished(row) and row.ticket_at is not None and row.ticket_at <= now
        ]
        return sorted(owed, key=_number)[:limit]

    def ticketed(self, tickets: Sequence[Ticketed]) -> None:
        note_tickets(self._transaction, OUTBOX, tickets)

    def find(self, ids: Sequence[UUID]) -> list[OutboxRow]:
        wanted = set(ids)
        return self._transaction.select(OUTBOX, lambda row: row.id in wanted and row.number is not None, order=_number)

    def handled(self, ids: Sequence[UUID], at: datetime) -> None:
        for id in sorted(set(ids)):
            self._transaction.update(OUTBOX, id, lambda kept: evolve(kept, handled_at=at, ticket_at=None))

    def owe_again(self, ids: Sequence[UUID], at: datetime) -> None:
        for id in sorted(set(ids)):
            self._transaction.update(
                OUTBOX,
                id,
                lambda kept: None if kept.number is None else evolve(kept, handled_at=None, ticket_at=at, tickets=0),
            )

    def earliest_ticket_at(self) -> datetime | None:
        moments = [row.ticket_at for row in self._rows() if _is_unfinished(row)]
        moments += [row.occurred_at for row in self._rows() if row.number is None and row.absorbed_by is None]
        moments += [earliest_delivery_ticket(self._transaction)]
        return min((moment for moment in moments if moment is not None), default=None)

    def _rows(self) -> Collection[OutboxRow]:
        return self._transaction.rows(OUTBOX).values()


class MemoryEventLog:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def last_number(self) -> int:
        feed = self._transaction.row(FEED, THE_FEED)
        return 0 if feed is None else feed.last_number

    def handled_after(self, number: int, limit: int) -> list[Event]:
        later = [row for row in self._numbered() if _number(row) > number]
        return [_event(row) for row in later if row.handled_at is not None][:limit]

    def handled(self, ids: Sequence[UUID], at: datetime) -> list[Event]:
        MemoryOutboxRepository(self._transaction).handled(ids, at)
        wanted = set(ids)
        return [_event(row) for row in self._numbered() if row.id in wanted]

    def _numbered(self) -> list[OutboxRow]:
        return _numbered(self._transaction.rows(OUTBOX).values())


class MemoryEventQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def feed(self) -> Feed:
        feed = self._database.row(FEED, THE_FEED)
        if feed is None:
            raise RuntimeError("the database was not initialised")
        return feed

    def events(self, page: PageRequest, *, types: Collection[str] = ()) -> Page[dict[str, Any]]:
        rows = [row for row in self._numbered() if not types or row.event_type in types]
        found = page_of(rows, page, lambda row: (_number(row),), int)
        return Page(rows=[orjson.loads(row.body or b"") for row in found.rows], next=found.next)

    def bodies(self, event_ids: Sequence[UUID]) -> Mapping[UUID, EventBody]:
        return {
            row.id: EventBody(triggered_by=row.triggered_by, traceparent=row.traceparent, body=row.body or b"")
            for row in self._numbered()
            if row.id in set(event_ids)
        }

    def oldest_number(self) -> int | None:
        return min((_number(row) for row in self._numbered()), default=None)

    def trace(self, event_id: UUID) -> dict[str, Any] | None:
        with self._database.moment():
            row = self._database.row(OUTBOX, event_id)
            if row is None:
                return None
            told = row.absorbed_by or row.id
            deliveries = [d for d in self._database.rows(DELIVERIES).values() if d.event_id == told]
            attempts = sorted(self._database.rows(ATTEMPTS).values(), key=lambda attempt: attempt.number)
        return _traced_row(row) | {
            "deliveries": [
                _traced_delivery(delivery)
                | {"attempts": [_traced_attempt(a) for a in attempts if a.delivery_id == delivery.id]}
                for delivery in sorted(deliveries, key=lambda d: (d.created_at, d.id))
            ]
        }

    def _numbered(self) -> list[OutboxRow]:
        return _numbered(self._database.rows(OUTBOX).values())


def _is_unfinished(row: OutboxRow) -> bool:
    return row.number is not None and row.handled_at is None


def _numbered(rows: Collection[OutboxRow]) -> list[OutboxRow]:
    return sorted((row for row in rows if row.number is not None), key=_number)


def _number(row: OutboxRow) -> int:
    if row.number is None:
        raise ValueError(f"outbox row {row.id} has no number")
    return row.number


def _event(row: OutboxRow) -> Event:
    return Event(id=row.id, number=_number(row), type=row.event_type)


def _traced_row(row: OutboxRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "type": row.event_type,
        "effect": row.effect.value,
        "entity_type": row.entity_type,
        "key": row.key,
        "occurred_at": rfc3339(row.occurred_at),
        "triggered_by": row.triggered_by,
        "correlation_id": row.correlation_id,
        "traceparent": row.traceparent,
        "number": row.number,
        "absorbed_by": None if row.absorbed_by is None else str(row.absorbed_by),
        "tickets": row.tickets,
        "ticket_at": _moment(row.ticket_at),
        "handled_at": _moment(row.handled_at),
    }


def _traced_delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": str(delivery.id),
        "webhook_id": str(delivery.webhook_id),
        "position": delivery.position,
        "state": delivery.state.value,
        "tickets": delivery.tickets,
        "ticket_at": _moment(delivery.ticket_at),
        "created_at": rfc3339(delivery.created_at),
        "finished_at": _moment(delivery.finished_at),
        "reason": delivery.reason,
    }


def _traced_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": rfc3339(attempt.started_at),
        "ended_at": rfc3339(attempt.ended_at),
        "status": attempt.status,
        "error": attempt.error,
        "response": attempt.response.decode(errors="replace"),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
