"""Outbox rows, how they are numbered, and the bytes that a receiver gets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from attrs import frozen

from ordersync_core.kernel.context import Context
from ordersync_core.kernel.moments import json_moment
from ordersync_core.kernel.notification import Effect, Notification
from ordersync_core.messaging.envelope import Envelope


@frozen(kw_only=True)
class OutboxRow:
    """A notification beside the change it tells of.

    before, after: the fact; empty from its number on, when the body tells it: what is kept twice is written twice.
    order: the database's own counter; rows of one transaction rise, and so do rows of one entity.
    number: the administration's number, None until the relay gives it one.
    body: the finished bytes that every receiver gets; None until numbered.
    absorbed_by: the row that tells this one's fact too; a row that names itself came to nothing.
    ticket_at, tickets: when it owes its next `events` ticket, and how many were sent; None: it owes none.
    handled_at: when every handler of the notification had run; None before.
    """

    id: UUID
    order: int = 0
    event_type: str
    version: int
    effect: Effect
    entity_type: str
    key: str
    occurred_at: datetime
    triggered_by: str
    correlation_id: str
    traceparent: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    number: int | None = None
    body: bytes | None = None
    absorbed_by: UUID | None = None
    ticket_at: datetime | None = None
    tickets: int = 0
    handled_at: datetime | None = None


def outbox_row(notification: Notification, *, id: UUID, at: datetime, context: Context) -> OutboxRow:
    return OutboxRow(
        id=id,
        event_type=notification.event_type,
        version=notification.version,
        effect=notification.effect,
        entity_type=notification.entity_type,
        key=notification.key,
        occurred_at=at,
        triggered_by=context.triggered_by,
        correlation_id=context.correlation_id,
        traceparent=context.traceparent,
        before=notification.before,
        after=notification.after,
    )


def event_body(row: OutboxRow, *, number: int, administration: str) -> bytes:
    """The webhook body: the same bytes for every webhook, every attempt and the events feed.

    `data` names the entity's key as `code`, the entity after the change (null once deleted), and for an update
    what each changed field held before.
    """
    return orjson.dumps(
        {
            "type": row.event_type,
            "timestamp": json_moment(row.occurred_at),
            "id": row.id,
            "sequence": number,
            "administration": administration,
            "triggered_by": row.triggered_by,
            "data": {
                "code": row.key,
                row.entity_type: row.after,
                "changed": sorted(row.before) if row.effect is Effect.UPDATE else [],
                "before": row.before,
            },
        },
        option=orjson.OPT_UTC_Z,
    )


@frozen(kw_only=True)
class Numbering:
    """What one numbering transaction writes: the survivors with number and body, and who absorbed whom."""

    numbered: Sequence[OutboxRow]
    absorbed: Mapping[UUID, UUID]
    last_number: int


def number_rows(
    survivors: Sequence[OutboxRow], absorbed: Mapping[UUID, UUID], *, last_number: int, administration: str
) -> Numbering:
    """Give each survivor the next number, in order, without a gap; each counts the ticket that is sent at once."""
    numbered = [
        _numbered(row, number=number, body=event_body(row, number=number, administration=administration))
        for number, row in enumerate(survivors, start=last_number + 1)
    ]
    return Numbering(numbered=numbered, absorbed=absorbed, last_number=last_number + len(numbered))


def _numbered(row: OutboxRow, *, number: int, body: bytes) -> OutboxRow:
    """The row as it is kept with its number. Built at once, because `evolve` takes twice as long and rows are many."""
    return OutboxRow(
        id=row.id,
        order=row.order,
        event_type=row.event_type,
        version=row.version,
        effect=row.effect,
        entity_type=row.entity_type,
        key=row.key,
        occurred_at=row.occurred_at,
        triggered_by=row.triggered_by,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
        before={},
        after=None,
        number=number,
        body=body,
        tickets=1,
    )


def event_ticket(row: OutboxRow, *, administration: str) -> Envelope:
    """The `events` message that stands for a numbered row."""
    return Envelope(
        id=row.id,
        type=row.event_type,
        version=row.version,
        administration=administration,
        occurred_at=row.occurred_at,
        triggered_by=row.triggered_by,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
        body={"number": row.number},
    )
