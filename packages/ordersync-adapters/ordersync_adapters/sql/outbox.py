"""The outbox, which is also the event log, and the inbox."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Dialect, Label, Row, Table, func, select, true, update

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import Stored, among
from ordersync_adapters.sql.engines import SQLITE
from ordersync_adapters.sql.reads import SqlReads, page_of
from ordersync_adapters.sql.tables.messaging import (
    has_no_outcome,
    is_numbered,
    is_unnumbered,
    outbox,
    relay,
    tenant_row,
)
from ordersync_adapters.sql.tables.webhooks import attempts, deliveries, owes_a_ticket
from ordersync_adapters.sql.tickets import note_tickets
from ordersync_adapters.sql.types import POSTGRES, stored_moment, to_json, to_uuid
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.notification import Effect, Notification
from ordersync_core.kernel.paging import Page, PageRequest, position_of
from ordersync_core.messaging.model import Numbering, OutboxRow
from ordersync_core.messaging.ports import Feed
from ordersync_core.messaging.tickets import Ticketed


def _taken_over(row: OutboxRow) -> dict[str, Any]:
    """What a row has of others that were merged into it, besides its body."""
    return {
        "id": row.id,
        "event_type": row.event_type,
        "version": row.version,
        "effect": row.effect.value,
        "occurred_at": row.occurred_at,
        "triggered_by": row.triggered_by,
        "correlation_id": row.correlation_id,
        "traceparent": row.traceparent,
    }


_WRITTEN = (
    "id",
    "event_type",
    "version",
    "effect",
    "entity_type",
    "key",
    "occurred_at",
    "triggered_by",
    "correlation_id",
    "traceparent",
    "before",
    "after",
)
"""What a row has before it has a number."""


def to_row(told: Notification, *, id: str, at: Any, context: Context, before: str, after: str | None) -> Stored:
    """A new row, as `outbox_row` has it. `before` and `after` are the notification's as JSON, `id` and `at` are stored
    forms too."""
    return (
        id,
        told.event_type,
        told.version,
        str(told.effect),
        told.entity_type,
        told.key,
        at,
        context.triggered_by,
        context.correlation_id,
        context.traceparent,
        before,
        after,
    )


_TOLD = [outbox.c.order, *(outbox.c[name] for name in _WRITTEN)]
_GIVEN = [column.name for column in outbox.c if column not in set(_TOLD)]
"""What a row gets from its number on."""

_EFFECTS = {effect.value: effect for effect in Effect}


def to_outbox_row(row: Sequence[Any]) -> OutboxRow:
    """From `_TOLD`, or from all columns of the table in their order.

    To ask a row for each by name costs as much as all the rest.
    """
    (
        order,
        id,
        event_type,
        version,
        effect,
        entity_type,
        key,
        occurred_at,
        triggered_by,
        correlation_id,
        traceparent,
        before,
        after,
        *given,
    ) = row
    return OutboxRow(
        id=id,
        order=order,
        event_type=event_type,
        version=version,
        effect=_EFFECTS[effect],
        entity_type=entity_type,
        key=key,
        occurred_at=occurred_at,
        triggered_by=triggered_by,
        correlation_id=correlation_id,
        traceparent=traceparent,
        before=before,
        after=after,
        **dict(zip(_GIVEN, given, strict=False)),
    )


def write_rows(connection: Connection, rows: Sequence[Stored]) -> None:
    """New rows, in order: the database counts them."""
    bulk.insert_stored(connection, outbox, _WRITTEN, rows)


_NUMBER = {
    SQLITE: """
        UPDATE outbox SET number = ?, body = ?, ticket_at = ?, tickets = 1, before = '{}', after = NULL
        WHERE "order" = ?
    """,
    POSTGRES: """
        UPDATE outbox
        SET number = row.number, body = row.body, ticket_at = %(at)s, tickets = 1, before = '{}', after = NULL
        FROM unnest(%(orders)b::bigint[], %(numbers)b::bigint[], %(bodies)b::bytea[]) AS row(place, number, body)
        WHERE outbox."order" = row.place
    """,
}
_ENTER = {
    SQLITE: """
        INSERT INTO inbox (handler, message_id, processed_at) SELECT ?, value, ? FROM json_each(?) WHERE true
        ON CONFLICT DO NOTHING RETURNING message_id
    """,
    POSTGRES: """
        INSERT INTO inbox (handler, message_id, processed_at) SELECT %s, id, %s FROM unnest(%s::uuid[]) AS id
        ON CONFLICT DO NOTHING RETURNING message_id
    """,
}
_HANDLED = {
    SQLITE: """
        UPDATE outbox SET handled_at = ?, ticket_at = NULL WHERE id IN (SELECT value FROM json_each(?))
        RETURNING id, number, event_type
    """,
    POSTGRES: """
        UPDATE outbox SET handled_at = %s, ticket_at = NULL WHERE id = ANY(%s::uuid[])
        RETURNING id, number, event_type
    """,
}


def enter_inbox(connection: Connection, handler: str, message_ids: Sequence[UUID], at: datetime) -> frozenset[UUID]:
    """Those that stood there already; a twin that is about to enter one of them is waited for."""
    if not message_ids:
        return frozenset()
    dialect = connection.dialect
    # in one order, so that no two wait for each other; their texts sort as ids do, and much faster
    texts = sorted({str(id) for id in message_ids})
    parameters = (handler, stored_moment(at, dialect), _in_one(texts, dialect))
    entered = connection.exec_driver_sql(_ENTER[dialect.name], parameters).all()
    if len(entered) == len(texts):
        return frozenset()
    new = {str(id) for (id,) in entered}
    return frozenset(id for id in message_ids if str(id) not in new)


def mark_handled(connection: Connection, ids: Sequence[UUID], at: datetime) -> list[tuple[UUID, int | None, str]]:
    """Answers id, number and event type of these rows."""
    if not ids:
        return []
    dialect = connection.dialect
    parameters = (stored_moment(at, dialect), _in_one([str(id) for id in ids], dialect))
    rows = connection.exec_driver_sql(_HANDLED[dialect.name], parameters).all()
    return [(id if isinstance(id, UUID) else to_uuid(id), number, event_type) for id, number, event_type in rows]


def _write_numbers(connection: Connection, rows: Sequence[OutboxRow], ticket_at: datetime) -> None:
    """On Postgres as arrays: to make a temporary table and copy into it takes twice as long in all."""
    if not rows:
        return
    at, statement = stored_moment(ticket_at, connection.dialect), _NUMBER[connection.dialect.name]
    if connection.dialect.name == POSTGRES:
        columns = {
            "orders": [row.order for row in rows],
            "numbers": [row.number for row in rows],
            "bodies": [row.body for row in rows],
        }
        connection.exec_driver_sql(statement, {"at": at} | columns)
    else:
        connection.exec_driver_sql(statement, [(row.number, row.body, at, row.order) for row in rows])


def _in_one(texts: list[str], dialect: Dialect) -> Any:
    """Any number of texts as one parameter."""
    return texts if dialect.name == POSTGRES else to_json(texts)


# Postgres without statistics takes the rows without a number for few, and reads and sorts all of a backlog each time
_BY_INDEX = "SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)"


class SqlOutbox:
    """`owes` tells whether this transaction made a row owe a ticket sooner than anyone knows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.owes = False

    def lock_numbering(self) -> int:
        last_number: int = self._connection.execute(select(relay.c.last_number).with_for_update()).scalar_one()
        return last_number

    def unfinished(self, limit: int) -> int:
        # in the order of the index, without which Postgres, while it has no statistics yet, reads the whole table
        some = select(outbox.c.ticket_at).where(has_no_outcome).order_by(outbox.c.ticket_at).limit(limit)
        return self._connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()

    def unnumbered(self, limit: int) -> list[OutboxRow]:
        if self._connection.dialect.name == POSTGRES:
            self._connection.exec_driver_sql(_BY_INDEX)
        statement = select(*_TOLD).where(is_unnumbered).order_by(outbox.c.order).limit(limit)
        return [to_outbox_row(row) for row in self._connection.execute(statement)]

    def number(self, numbering: Numbering, *, ticket_at: datetime) -> None:
        _write_numbers(self._connection, numbering.numbered, ticket_at)
        merged = set(numbering.absorbed.values())
        changed = [_taken_over(row) for row in numbering.numbered if row.id in merged]
        bulk.update(self._connection, outbox, changed)
        absorbed = [{"id": id, "absorbed_by": by} for id, by in numbering.absorbed.items()]
        bulk.update(self._connection, outbox, absorbed)
        self._connection.execute(update(relay).values(last_number=numbering.last_number))

    def owed(self, now: datetime, limit: int) -> list[OutboxRow]:
        statement = (
            select(outbox).where(has_no_outcome, outbox.c.ticket_at <= now).order_by(outbox.c.number).limit(limit)
        )
        return [to_outbox_row(row) for row in self._connection.execute(statement)]

    def ticketed(self, tickets: Sequence[Ticketed]) -> None:
        note_tickets(self._connection, outbox, tickets)

    def find(self, ids: Sequence[UUID]) -> list[OutboxRow]:
        statement = (
            select(outbox).where(is_numbered, among(outbox.c.id, ids)).order_by(outbox.c.number).with_for_update()
        )
        return [to_outbox_row(row) for row in self._connection.execute(statement)]

    def handled(self, ids: Sequence[UUID], at: datetime) -> None:
        mark_handled(self._connection, ids, at)

    def owe_again(self, ids: Sequence[UUID], at: datetime) -> None:
        if ids:
            self._connection.execute(
                update(outbox)
                .where(is_numbered, among(outbox.c.id, ids))
                .values(handled_at=None, ticket_at=at, tickets=0)
            )
            self.owes = True

    def earliest_ticket_at(self) -> datetime | None:
        """The moments of the outbox are the application's, so that of an unnumbered row is when it was written."""
        first_unnumbered = select(outbox.c.occurred_at).where(is_unnumbered).order_by(outbox.c.order).limit(1)
        owed_event = select(func.min(outbox.c.ticket_at)).where(has_no_outcome)
        owed_delivery = select(func.min(deliveries.c.ticket_at)).where(owes_a_ticket)
        moments = self._connection.execute(
            select(
                first_unnumbered.scalar_subquery(),
                owed_event.scalar_subquery(),
                owed_delivery.scalar_subquery(),
            )
        ).one()
        return min((moment for moment in moments if moment is not None), default=None)


class EventSqlQueries(SqlReads):
    def feed(self) -> Feed:
        with self._connect() as connection:
            row = connection.execute(
                select(tenant_row.c.epoch, relay.c.last_number).select_from(tenant_row).join(relay, true())
            ).one()
        return Feed(epoch=row.epoch, last_number=row.last_number)

    def events(self, page: PageRequest, *, types: Collection[str] = ()) -> Page[dict[str, Any]]:
        statement = select(outbox.c.number, outbox.c.body).where(is_numbered)
        position = position_of(page, int)
        if position is not None:
            statement = statement.where(outbox.c.number > position[0])
        if types:
            statement = statement.where(among(outbox.c.event_type, sorted(types)))
        with self._connect() as connection:
            rows = connection.execute(statement.order_by(outbox.c.number).limit(page.limit + 1)).all()
        return page_of(rows, page, build=lambda row: orjson.loads(row.body), position=lambda row: (row.number,))

    def oldest_number(self) -> int | None:
        with self._connect() as connection:
            number: int | None = connection.execute(select(func.min(outbox.c.number)).where(is_numbered)).scalar_one()
        return number

    def trace(self, event_id: UUID) -> dict[str, Any] | None:
        told = func.coalesce(outbox.c.absorbed_by, outbox.c.id)
        statement = (
            select(outbox, *_prefixed("delivery", deliveries), *_prefixed("attempt", attempts))
            .select_from(outbox)
            .outerjoin(deliveries, deliveries.c.event_id == told)
            .outerjoin(attempts, attempts.c.delivery_id == deliveries.c.id)
            .where(outbox.c.id == event_id)
            .order_by(deliveries.c.created_at, deliveries.c.id, attempts.c.number)
        )
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        return _trace(rows) if rows else None


def _prefixed(prefix: str, table: Table) -> list[Label[Any]]:
    return [column.label(f"{prefix}_{column.name}") for column in table.c]


def _trace(rows: Sequence[Row[Any]]) -> dict[str, Any]:
    """An outbox row joined with its deliveries and their attempts, as JSON."""
    first = rows[0]
    by_delivery: dict[UUID, dict[str, Any]] = {}
    for row in rows:
        if row.delivery_id is None:
            continue
        delivery = by_delivery.setdefault(row.delivery_id, _traced_delivery(row))
        if row.attempt_number is not None:
            delivery["attempts"].append(_traced_attempt(row))
    return {
        "id": str(first.id),
        "type": first.event_type,
        "effect": first.effect,
        "entity_type": first.entity_type,
        "key": first.key,
        "occurred_at": rfc3339(first.occurred_at),
        "triggered_by": first.triggered_by,
        "correlation_id": first.correlation_id,
        "traceparent": first.traceparent,
        "number": first.number,
        "absorbed_by": None if first.absorbed_by is None else str(first.absorbed_by),
        "tickets": first.tickets,
        "ticket_at": _moment(first.ticket_at),
        "handled_at": _moment(first.handled_at),
        "deliveries": list(by_delivery.values()),
    }


def _traced_delivery(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": str(row.delivery_id),
        "webhook_id": str(row.delivery_webhook_id),
        "position": row.delivery_position,
        "state": row.delivery_state,
        "tickets": row.delivery_tickets,
        "ticket_at": _moment(row.delivery_ticket_at),
        "created_at": rfc3339(row.delivery_created_at),
        "finished_at": _moment(row.delivery_finished_at),
        "reason": row.delivery_reason,
        "attempts": [],
    }


def _traced_attempt(row: Row[Any]) -> dict[str, Any]:
    return {
        "number": row.attempt_number,
        "started_at": rfc3339(row.attempt_started_at),
        "ended_at": rfc3339(row.attempt_ended_at),
        "status": row.attempt_status,
        "error": row.attempt_error,
        "response": bytes(row.attempt_response).decode(errors="replace"),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
