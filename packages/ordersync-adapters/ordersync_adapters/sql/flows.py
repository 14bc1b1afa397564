"""Flows, the execution log, quarantine, and the keys that a complete read has seen."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, delete, select, tuple_

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import among
from ordersync_adapters.sql.keys_seen import sql_keys_seen
from ordersync_adapters.sql.reads import SqlReads, page_of
from ordersync_adapters.sql.tables.flows import execution_log, flows, quarantine
from ordersync_core.flows.model import Counts, Execution, Flow, FlowKind, Guard, Quarantined, Step
from ordersync_core.flows.ports import KeysSeen
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest, position_of


class SqlFlows:
    """Knows which kinds this transaction has looked for in vain: a flow saved then is new, and must not take the place
    of a twin's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._absent: set[FlowKind] = set()

    def find(self, kind: FlowKind) -> Flow | None:
        row = self._connection.execute(select(flows).where(flows.c.kind == kind.value).with_for_update()).one_or_none()
        if row is None:
            self._absent.add(kind)
            return None
        return to_flow(row)

    def save(self, flow: Flow) -> None:
        if flow.kind in self._absent:
            bulk.insert(self._connection, flows, [flow_row(flow)])
            self._absent.discard(flow.kind)
        else:
            bulk.upsert(self._connection, flows, [flow_row(flow)], key=("kind",))


class SqlExecutions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, run_id: UUID) -> Execution | None:
        wanted = select(execution_log).where(execution_log.c.run_id == run_id).with_for_update()
        row = self._connection.execute(wanted).one_or_none()
        return None if row is None else to_execution(row)

    def save(self, execution: Execution) -> None:
        bulk.upsert(self._connection, execution_log, [execution_row(execution)], key=("run_id",))


class SqlQuarantine:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save(self, kind: FlowKind, entries: Sequence[Quarantined]) -> None:
        known = [quarantined_row(kind, entry) for entry in entries]
        bulk.insert_missing(self._connection, quarantine, known, key=("kind", "key"))
        for row in known:
            del row["since"]
        bulk.update(self._connection, quarantine, known, by=("kind", "key"))

    def clear(self, kind: FlowKind, keys: Sequence[str]) -> None:
        ours = quarantine.c.kind == kind.value
        # mostly there is nothing at all, and thousands of keys to look for
        if self._connection.execute(select(quarantine.c.key).where(ours).limit(1)).first() is not None:
            self._connection.execute(delete(quarantine).where(ours, among(quarantine.c.key, keys)))

    def keys(self, kind: FlowKind) -> list[str]:
        wanted = select(quarantine.c.key).where(quarantine.c.kind == kind.value).order_by(quarantine.c.key)
        return list(self._connection.execute(wanted).scalars())


class FlowSqlQueries(SqlReads):
    def flow(self, kind: FlowKind) -> Flow | None:
        with self._connect() as connection:
            row = connection.execute(select(flows).where(flows.c.kind == kind.value)).one_or_none()
        return None if row is None else to_flow(row)

    def quarantine(self, kind: FlowKind, page: PageRequest) -> Page[Quarantined]:
        wanted = select(quarantine).where(quarantine.c.kind == kind.value)
        after = position_of(page, str)
        if after is not None:
            wanted = wanted.where(quarantine.c.key > after[0])
        with self._connect() as connection:
            rows = connection.execute(wanted.order_by(quarantine.c.key).limit(page.limit + 1)).all()
        return page_of(rows, page, build=to_quarantined, position=lambda row: (row.key,))

    def executions(self, kind: FlowKind, page: PageRequest) -> Page[Execution]:
        newest = (execution_log.c.started_at, execution_log.c.run_id)
        wanted = select(execution_log).where(execution_log.c.kind == kind.value)
        after = position_of(page, datetime.fromisoformat, UUID)
        if after is not None:
            wanted = wanted.where(tuple_(*newest) < after)
        wanted = wanted.order_by(*(column.desc() for column in newest)).limit(page.limit + 1)
        with self._connect() as connection:
            rows = connection.execute(wanted).all()
        return page_of(rows, page, build=to_execution, position=lambda row: (rfc3339(row.started_at), str(row.run_id)))

    def execution(self, run_id: UUID) -> Execution | None:
        with self._connect() as connection:
            row = connection.execute(select(execution_log).where(execution_log.c.run_id == run_id)).one_or_none()
        return None if row is None else to_execution(row)

    @contextmanager
    def keys_seen(self, connector: str, connection_id: UUID, entity: str) -> Iterator[KeysSeen]:
        with self._connect() as connection, sql_keys_seen(connection, connector, connection_id, entity) as seen:
            yield seen


def flow_row(flow: Flow) -> dict[str, Any]:
    return {
        "kind": flow.kind.value,
        "connection_id": flow.source.connection_id,
        "aspects": list(flow.source.aspects),
        "guard_floor": flow.guard.floor,
        "guard_ratio": str(flow.guard.ratio),
        "version": flow.version,
    }


def to_flow(row: Row[Any]) -> Flow:
    return Flow(
        kind=FlowKind(row.kind),
        source=Step(connection_id=row.connection_id, aspects=tuple(row.aspects)),
        guard=Guard(floor=row.guard_floor, ratio=Decimal(row.guard_ratio)),
        version=row.version,
    )


def execution_row(execution: Execution) -> dict[str, Any]:
    return {
        "run_id": execution.run_id,
        "kind": execution.kind.value,
        "started_at": execution.started_at,
        "ended_at": execution.ended_at,
        "complete_read": execution.complete_read,
        "cursor": None if execution.cursor is None else dict(execution.cursor),
        "answered": list(execution.answered),
        "read": execution.counts.read,
        "created": execution.counts.created,
        "updated": execution.counts.updated,
        "deleted": execution.counts.deleted,
        "unchanged": execution.counts.unchanged,
        "quarantined": execution.counts.quarantined,
        "held": execution.held,
    }


def to_execution(row: Row[Any]) -> Execution:
    return Execution(
        run_id=row.run_id,
        kind=FlowKind(row.kind),
        started_at=row.started_at,
        ended_at=row.ended_at,
        complete_read=row.complete_read,
        cursor=row.cursor,
        answered=tuple(row.answered),
        counts=Counts(
            read=row.read,
            created=row.created,
            updated=row.updated,
            deleted=row.deleted,
            unchanged=row.unchanged,
            quarantined=row.quarantined,
        ),
        held=row.held,
    )


def quarantined_row(kind: FlowKind, entry: Quarantined) -> dict[str, Any]:
    return {
        "kind": kind.value,
        "key": entry.key,
        "reason": entry.reason,
        "raw": entry.raw,
        "since": entry.since,
    }


def to_quarantined(row: Row[Any]) -> Quarantined:
    return Quarantined(key=row.key, reason=row.reason, raw=row.raw, since=row.since)
