"""Webhooks, their deliveries and attempts; and the event log as webhooks see it."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from attrs import asdict
from orjson import loads
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Row,
    Select,
    Text,
    and_,
    delete,
    func,
    insert,
    select,
    true,
    type_coerce,
    union_all,
    update,
)

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import Stored, among
from ordersync_adapters.sql.outbox import mark_handled
from ordersync_adapters.sql.reads import SqlReads, page_of
from ordersync_adapters.sql.tables.messaging import is_numbered, outbox, relay
from ordersync_adapters.sql.tables.webhooks import attempts as attempt_rows
from ordersync_adapters.sql.tables.webhooks import deliveries as delivery_rows
from ordersync_adapters.sql.tables.webhooks import is_parked, is_waiting, owes_a_ticket
from ordersync_adapters.sql.tables.webhooks import webhooks as webhook_rows
from ordersync_adapters.sql.tickets import note_tickets
from ordersync_adapters.sql.types import POSTGRES, stored_moment
from ordersync_core.kernel.decoding import decode
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest, position_of
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import (
    Attempt,
    Delivery,
    DeliveryState,
    Event,
    EventBody,
    EventTypePattern,
    Webhook,
    WebhookState,
)

StoredMoment = Callable[[datetime | None], Any]
"""What the driver takes for a moment, or for none."""


def to_row(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "event_types": [str(pattern) for pattern in webhook.event_types],
        "secrets": [b64encode(secret).decode() for secret in webhook.secrets],
        "state": webhook.state.value,
        "disabled_because": webhook.disabled_because,
        "last_position": webhook.last_position,
        "created_at": webhook.created_at,
        "health": asdict(webhook.health, value_serializer=_as_json),
    }


_STORED = [
    type_coerce(column, Text).label(column.name) if column is webhook_rows.c.health else column
    for column in webhook_rows.c
]
"""What `to_webhook` reads: the health comes as text, because most of it need not be parsed."""


def to_webhook(row: Row[Any]) -> Webhook:
    """From `_STORED`."""
    return Webhook(
        id=row.id,
        url=row.url,
        event_types=tuple(map(EventTypePattern, row.event_types)),
        secrets=tuple(map(b64decode, row.secrets)),
        state=WebhookState(row.state),
        disabled_because=row.disabled_because,
        last_position=row.last_position,
        created_at=row.created_at,
        health=_health(row.health),
    )


@lru_cache(maxsize=64)  # nearly all webhooks are in the same good health
def _health(stored: str) -> Health:
    return decode(loads(stored), Health)


def _as_json(_: object, __: object, value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "event_number": delivery.event_number,
        "position": delivery.position,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "earlier_attempts": delivery.earlier_attempts,
        "first_attempt_at": delivery.first_attempt_at,
        "ticket_at": delivery.ticket_at,
        "tickets": delivery.tickets,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
        "reason": delivery.reason,
    }


_PROGRESS = (
    "state",
    "attempts",
    "earlier_attempts",
    "first_attempt_at",
    "ticket_at",
    "tickets",
    "finished_at",
    "reason",
)
"""What changes in the life of a delivery."""


def _progress_row(delivery: Delivery, moment: StoredMoment) -> Stored:
    """As `_PROGRESS` names it, and the id."""
    return (
        delivery.state.value,
        delivery.attempts,
        delivery.earlier_attempts,
        moment(delivery.first_attempt_at),
        moment(delivery.ticket_at),
        delivery.tickets,
        moment(delivery.finished_at),
        delivery.reason,
        str(delivery.id),
    )


_STATES = {state.value: state for state in DeliveryState}


def to_delivery(row: Sequence[Any]) -> Delivery:
    """From the columns of the table, in their order; to ask a row for each by name costs as much as all the rest."""
    (
        id,
        webhook_id,
        event_id,
        event_type,
        event_number,
        position,
        state,
        attempts,
        earlier_attempts,
        first_attempt_at,
        ticket_at,
        tickets,
        created_at,
        finished_at,
        reason,
        *_,
    ) = row
    return Delivery(
        id=id,
        webhook_id=webhook_id,
        event_id=event_id,
        event_type=event_type,
        event_number=event_number,
        position=position,
        state=_STATES[state],
        attempts=attempts,
        earlier_attempts=earlier_attempts,
        first_attempt_at=first_attempt_at,
        ticket_at=ticket_at,
        tickets=tickets,
        created_at=created_at,
        finished_at=finished_at,
        reason=reason,
    )


_ATTEMPT = tuple(column.name for column in attempt_rows.c)


def _attempt_row(attempt: Attempt, moment: StoredMoment) -> Stored:
    """All columns, in the order of the table."""
    return (
        str(attempt.delivery_id),
        attempt.number,
        moment(attempt.started_at),
        moment(attempt.ended_at),
        attempt.status,
        attempt.error,
        attempt.response,
    )


def to_attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        delivery_id=row.attempt_delivery_id,
        number=row.attempt_number,
        started_at=row.attempt_started_at,
        ended_at=row.attempt_ended_at,
        status=row.attempt_status,
        error=row.attempt_error,
        response=row.attempt_response,
    )


class SqlWebhooks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, webhook: Webhook) -> None:
        self._connection.execute(insert(webhook_rows), to_row(webhook))

    def find(self, id: UUID) -> Webhook | None:
        return next(iter(self._locked(select(*_STORED).where(webhook_rows.c.id == id))), None)

    def of_deliveries(self, delivery_ids: Sequence[UUID]) -> Mapping[UUID, Webhook]:
        ids = select(delivery_rows.c.webhook_id).where(among(delivery_rows.c.id, delivery_ids))
        locked = self._locked(select(*_STORED).where(webhook_rows.c.id.in_(ids)))
        return {webhook.id: webhook for webhook in locked}

    def enabled(self) -> list[Webhook]:
        return self._locked(select(*_STORED).where(webhook_rows.c.state == WebhookState.ENABLED.value))

    def save(self, webhooks: Sequence[Webhook]) -> None:
        bulk.update(self._connection, webhook_rows, [to_row(webhook) for webhook in webhooks])

    def delete(self, id: UUID) -> None:
        """The foreign keys take its deliveries and their attempts along."""
        self._connection.execute(delete(webhook_rows).where(webhook_rows.c.id == id))

    def _locked(self, statement: Select[Any]) -> list[Webhook]:
        rows = self._connection.execute(statement.order_by(webhook_rows.c.id).with_for_update()).all()
        return [to_webhook(row) for row in rows]


class SqlDeliveries:
    """Whoever changes deliveries holds their webhooks, and so needs no order among themselves.

    owes: whether this transaction changed when a delivery owes a ticket.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.owes = False

    def add(self, deliveries: Sequence[Delivery]) -> None:
        rows = [delivery_row(delivery) for delivery in deliveries]
        bulk.insert_missing(self._connection, delivery_rows, rows, key=["id"])
        self._note(len(rows))

    def get(self, ids: Sequence[UUID]) -> Mapping[UUID, Delivery]:
        if not ids:
            return {}
        found = self._locked(select(delivery_rows).where(among(delivery_rows.c.id, ids)))
        return {delivery.id: delivery for delivery in found}

    def save(self, deliveries: Sequence[Delivery]) -> None:
        moment = _stored_moments(self._connection)
        rows = [_progress_row(delivery, moment) for delivery in deliveries]
        bulk.update_stored(self._connection, delivery_rows, _PROGRESS, rows, by=["id"])
        self._note(sum(delivery.ticket_at is not None for delivery in deliveries))

    def record(self, attempts: Sequence[Attempt]) -> None:
        moment = _stored_moments(self._connection)
        rows = [_attempt_row(attempt, moment) for attempt in attempts]
        bulk.insert_missing_stored(self._connection, attempt_rows, _ATTEMPT, rows, key=["delivery_id", "number"])

    def in_queue(self, webhook_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        if not webhook_ids:
            return {}
        statement = (
            select(delivery_rows.c.webhook_id, func.count().label("tickets"))
            .where(owes_a_ticket, delivery_rows.c.tickets > 0, among(delivery_rows.c.webhook_id, webhook_ids))
            .group_by(delivery_rows.c.webhook_id)
        )
        counts = {row.webhook_id: row.tickets for row in self._connection.execute(statement)}
        return {id: counts.get(id, 0) for id in webhook_ids}

    def owed(self, now: datetime, *, window: int) -> list[Delivery]:
        return _owed(self._connection, now, window=window)

    def ticketed(self, tickets: Sequence[Ticketed]) -> None:
        SqlWebhooks(self._connection).of_deliveries([ticket.id for ticket in tickets])
        note_tickets(self._connection, delivery_rows, tickets)

    def park(self, webhook_id: UUID) -> int:
        return self._change(webhook_id, is_waiting, state=DeliveryState.PARKED.value, ticket_at=None, tickets=0)

    def unpark(self, webhook_id: UUID, at: datetime) -> int:
        return self._note(
            self._change(webhook_id, is_parked, state=DeliveryState.WAITING.value, ticket_at=at, tickets=0)
        )

    def cancel_parked(self, webhook_id: UUID, at: datetime) -> int:
        return self._change(
            webhook_id,
            is_parked,
            state=DeliveryState.CANCELLED.value,
            ticket_at=None,
            tickets=0,
            finished_at=at,
        )

    def first_waiting(self, webhook_id: UUID) -> Delivery | None:
        first = (
            select(delivery_rows)
            .where(is_waiting, delivery_rows.c.webhook_id == webhook_id)
            .order_by(delivery_rows.c.position)
            .limit(1)
            .with_for_update()
        )
        while True:
            row = self._connection.execute(first).one_or_none()
            if row is not None:
                return to_delivery(row)
            if not self._waits(webhook_id):
                return None
            # Postgres waited for the lock of a row that waits no more, and looks for no other one by itself

    def hold_back(self, webhook_id: UUID, besides: UUID) -> int:
        """Touches only those that owe one, for a webhook in trouble may have very many that owe none already."""
        # the second condition always holds: it leads to the index of those that owe one
        others = and_(owes_a_ticket, delivery_rows.c.tickets >= 0, delivery_rows.c.id != besides)
        return self._change(webhook_id, others, ticket_at=None, tickets=0)

    def let_in(self, webhook_id: UUID, at: datetime, *, limit: int) -> int:
        held_back = and_(is_waiting, delivery_rows.c.ticket_at.is_(None))
        return self._note(self._change(webhook_id, held_back, limit=limit, ticket_at=at))

    def _change(
        self, webhook_id: UUID, condition: ColumnElement[bool], *, limit: int | None = None, **values: Any
    ) -> int:
        """Change those of a webhook that are so, the first ones by position; answers how many."""
        chosen = and_(delivery_rows.c.webhook_id == webhook_id, condition)
        if limit is not None:
            first = select(delivery_rows.c.id).where(chosen).order_by(delivery_rows.c.position).limit(limit)
            chosen = delivery_rows.c.id.in_(first)
        statement = update(delivery_rows).where(chosen).values(values)
        return self._connection.execute(statement).rowcount

    def _locked(self, statement: Select[Any]) -> list[Delivery]:
        rows = self._connection.execute(statement.order_by(delivery_rows.c.id).with_for_update()).all()
        return [to_delivery(row) for row in rows]

    def _waits(self, webhook_id: UUID) -> bool:
        waiting = select(delivery_rows.c.id).where(is_waiting, delivery_rows.c.webhook_id == webhook_id)
        return self._connection.execute(waiting.limit(1)).first() is not None

    def _note(self, count: int) -> int:
        self.owes = self.owes or count > 0
        return count


def _stored_moments(connection: Connection) -> StoredMoment:
    dialect = connection.dialect
    return lambda moment: None if moment is None else stored_moment(moment, dialect)


def _owed(connection: Connection, now: datetime, *, window: int) -> list[Delivery]:
    statement = _owed_deliveries(now, window=window, on_postgres=connection.dialect.name == POSTGRES)
    owed = [to_delivery(row) for row in connection.execute(statement).all()]
    # sorted here, because SQLite would choose its indexes for the order and read the whole backlog
    return sorted(owed, key=lambda delivery: (delivery.webhook_id.int, delivery.position))


def _owed_deliveries(now: datetime, *, window: int, on_postgres: bool) -> CompoundSelect[Any]:
    """Tickets that brought no outcome; and for each webhook the first ones, by position, that its window leaves room
    for. Each webhook is asked for a window of them, so that of a long backlog no more is read than that."""
    of_webhook = and_(owes_a_ticket, delivery_rows.c.webhook_id == webhook_rows.c.id)
    is_due = delivery_rows.c.ticket_at <= now
    out = select(func.count()).where(of_webhook, delivery_rows.c.tickets > 0).correlate(webhook_rows).scalar_subquery()
    first = (
        select(delivery_rows if on_postgres else delivery_rows.c.id)
        .where(of_webhook, delivery_rows.c.tickets == 0, is_due)
        .order_by(delivery_rows.c.position)
        .limit(window)
        .correlate(webhook_rows)
    )
    # Written so that only one index seems to help: by moment or position the whole backlog would be read.
    again = select(delivery_rows).where(
        owes_a_ticket,
        delivery_rows.c.webhook_id.in_(select(webhook_rows.c.id)),
        delivery_rows.c.tickets > 0,
        func.coalesce(delivery_rows.c.ticket_at, now) <= now,
    )
    due: FromClause
    if on_postgres:
        due = first.lateral("due")
        joined = webhook_rows.join(due, true())
    else:
        due = delivery_rows.alias("due")
        joined = webhook_rows.join(due, due.c.id.in_(first))
    place = func.row_number().over(partition_by=due.c.webhook_id, order_by=due.c.position)
    room = window - out
    # of a webhook whose window is full nothing more is read
    let_in = select(*due.c, place.label("place"), room.label("room")).select_from(joined).where(room > 0).subquery()
    fitting = select(*(let_in.c[column.name] for column in delivery_rows.c)).where(let_in.c.place <= let_in.c.room)
    return union_all(again, fitting)


class SqlEventLog:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last_number(self) -> int:
        number: int = self._connection.execute(select(relay.c.last_number)).scalar_one()
        return number

    def handled_after(self, number: int, limit: int) -> list[Event]:
        rows = self._connection.execute(_handled.where(outbox.c.number > number).limit(limit))
        return [Event(id=row.id, number=row.number, type=row.event_type) for row in rows]

    def handled(self, ids: Sequence[UUID], at: datetime) -> list[Event]:
        marked = mark_handled(self._connection, ids, at)
        events = [Event(id=id, number=number, type=type) for id, number, type in marked if number is not None]
        return sorted(events, key=lambda event: event.number)


_handled = (
    select(outbox.c.id, outbox.c.number, outbox.c.event_type)
    .where(is_numbered, outbox.c.handled_at.is_not(None))
    .order_by(outbox.c.number)
)


class WebhookSqlQueries(SqlReads):
    def webhooks(self, page: PageRequest) -> Page[Webhook]:
        statement = select(*_STORED).order_by(webhook_rows.c.id).limit(page.limit + 1)
        position = position_of(page, UUID)
        if position is not None:
            statement = statement.where(webhook_rows.c.id > position[0])
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        return page_of(rows, page, build=to_webhook, position=lambda row: (str(row.id),))

    def webhook(self, id: UUID) -> Webhook | None:
        with self._connect() as connection:
            row = connection.execute(select(*_STORED).where(webhook_rows.c.id == id)).one_or_none()
        return None if row is None else to_webhook(row)

    def deliveries(self, webhook_id: UUID, page: PageRequest, *, state: DeliveryState | None = None) -> Page[Delivery]:
        statement = (
            select(delivery_rows)
            .where(delivery_rows.c.webhook_id == webhook_id)
            .order_by(delivery_rows.c.position)
            .limit(page.limit + 1)
        )
        position = position_of(page, int)
        if position is not None:
            statement = statement.where(delivery_rows.c.position > position[0])
        if state is not None:
            statement = statement.where(delivery_rows.c.state == state.value)
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        return page_of(rows, page, build=to_delivery, position=lambda row: (row.position,))

    def delivery(self, id: UUID) -> tuple[Delivery, list[Attempt]] | None:
        statement = (
            select(delivery_rows, *(column.label(f"attempt_{column.name}") for column in attempt_rows.c))
            .outerjoin(attempt_rows, attempt_rows.c.delivery_id == delivery_rows.c.id)
            .where(delivery_rows.c.id == id)
            .order_by(attempt_rows.c.number)
        )
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        if not rows:
            return None
        return to_delivery(rows[0]), [to_attempt(row) for row in rows if row.attempt_number is not None]

    def waiting(self, delivery_ids: Sequence[UUID]) -> Mapping[UUID, tuple[Delivery, Webhook]]:
        if not delivery_ids:
            return {}
        wanted = select(delivery_rows).where(is_waiting, among(delivery_rows.c.id, delivery_ids))
        with self._connect() as connection:
            deliveries = [to_delivery(row) for row in connection.execute(wanted).all()]
            theirs = among(webhook_rows.c.id, {delivery.webhook_id for delivery in deliveries})
            found = [to_webhook(row) for row in connection.execute(select(*_STORED).where(theirs)).all()]
        webhooks = {webhook.id: webhook for webhook in found}
        # a webhook may have been deleted between the two
        together = [(delivery, webhooks.get(delivery.webhook_id)) for delivery in deliveries]
        return {delivery.id: (delivery, webhook) for delivery, webhook in together if webhook is not None}

    def owed_deliveries(self, now: datetime, *, window: int) -> list[Delivery]:
        with self._connect() as connection:
            return _owed(connection, now, window=window)

    def bodies(self, event_ids: Sequence[UUID]) -> Mapping[UUID, EventBody]:
        statement = select(outbox.c.id, outbox.c.triggered_by, outbox.c.traceparent, outbox.c.body).where(
            is_numbered, among(outbox.c.id, event_ids)
        )
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        return {
            id: EventBody(triggered_by=triggered_by, traceparent=traceparent, body=body)
            for id, triggered_by, traceparent, body in rows
        }
