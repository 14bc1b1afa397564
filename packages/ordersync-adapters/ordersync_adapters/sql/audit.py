"""Audit entries as rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select, tuple_

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import Stored
from ordersync_adapters.sql.reads import SqlReads, page_of
from ordersync_adapters.sql.tables.audit import audit_entries
from ordersync_core.audit.model import AuditEntry
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.notification import Effect, Notification
from ordersync_core.kernel.paging import Page, PageRequest, position_of

_COLUMNS = tuple(column.name for column in audit_entries.c)


def to_row(told: Notification, *, id: str, at: Any, context: Context, before: str, after: str) -> Stored:
    """All columns in the order of the table, as `audit_entry` has them. `before` and `after` are the entry's as JSON,
    `id` and `at` are stored forms too."""
    return (
        at,
        id,
        context.triggered_by,
        context.correlation_id,
        told.entity_type,
        told.key,
        str(told.effect),
        before,
        after,
    )


def to_entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        triggered_by=row.triggered_by,
        correlation_id=row.correlation_id,
        entity_type=row.entity_type,
        key=row.key,
        effect=Effect(row.effect),
        before=row.before,
        after=row.after,
    )


def write_entries(connection: Connection, rows: Sequence[Stored]) -> None:
    bulk.insert_stored(connection, audit_entries, _COLUMNS, rows)


class AuditSqlQueries(SqlReads):
    def audit_entries(
        self, page: PageRequest, *, entity_type: str | None = None, key: str | None = None
    ) -> Page[AuditEntry]:
        place = (audit_entries.c.at, audit_entries.c.id)
        statement = select(audit_entries).order_by(*(column.desc() for column in place)).limit(page.limit + 1)
        position = position_of(page, datetime.fromisoformat, UUID)
        if position is not None:
            statement = statement.where(tuple_(*place) < position)
        if entity_type is not None:
            statement = statement.where(audit_entries.c.entity_type == entity_type)
        if key is not None:
            statement = statement.where(audit_entries.c.key == key)
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        return page_of(rows, page, build=to_entry, position=lambda row: (rfc3339(row.at), str(row.id)))
