"""Flows, the execution log, quarantine, and the keys that a complete read has seen."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, Table, delete, func, select, tuple_

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import among
from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.reads import SqlReads, page_of, position_of
from ordersync_adapters.sql.tables.flows import execution_log, flows, quarantine
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.tables.raw import raw_records
from ordersync_adapters.sql.types import POSTGRES, to_json
from ordersync_core.flows.model import Counts, Execution, Flow, FlowKind, Guard, Quarantined, Step
from ordersync_core.flows.ports import KeysSeen
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest


class SqlFlows:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, kind: FlowKind) -> Flow | None:
        row = self._connection.execute(select(flows).where(flows.c.kind == kind.value).with_for_update()).one_or_none()
        return None if row is None else to_flow(row)

    def save(self, flow: Flow) -> None:
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
        self._connection.execute(
            delete(quarantine).where(quarantine.c.kind == kind.value, among(quarantine.c.key, keys))
        )

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
        return page_of(
            rows, page, build=to_execution, position=lambda row: (rfc3339(row.started_at), str(row.run_id))
        )

    def execution(self, run_id: UUID) -> Execution | None:
        with self._connect() as connection:
            row = connection.execute(select(execution_log).where(execution_log.c.run_id == run_id)).one_or_none()
        return None if row is None else to_execution(row)

    def events_of_run(self, run_id: UUID) -> int:
        told = select(func.count()).where(outbox.c.correlation_id == str(run_id), outbox.c.number.is_not(None))
        with self._connect() as connection:
            return connection.execute(told).scalar_one()

    @contextmanager
    def keys_seen(self, connector: str, connection_id: UUID, entity: str) -> Iterator[KeysSeen]:
        """One connection is held for the block, but no transaction: what it has seen lies in a temporary table."""
        with self._connect() as connection:
            table = raw_records(connector, connection.dialect.name)
            # The driver's own connection, because SQLAlchemy would begin a transaction and keep it open.
            driver = connection.connection.driver_connection
            if connection.dialect.name == POSTGRES:
                yield from _seen_on_postgres(driver, table, connection_id, entity)
            else:
                yield from _seen_on_sqlite(driver, table, connection_id, entity)


def _seen_on_postgres(driver: Any, table: Table, connection_id: UUID, entity: str) -> Iterator[KeysSeen]:
    with sql_errors():
        driver.execute("DROP TABLE IF EXISTS pg_temp.keys_seen")
        driver.execute('CREATE TEMPORARY TABLE keys_seen (key text COLLATE "C" PRIMARY KEY)')
    try:
        yield _KeysSeenOnPostgres(driver, table, connection_id, entity)
    finally:
        with sql_errors():
            driver.execute("DROP TABLE pg_temp.keys_seen")


def _seen_on_sqlite(driver: Any, table: Table, connection_id: UUID, entity: str) -> Iterator[KeysSeen]:
    with sql_errors():
        (query_only,) = driver.execute("PRAGMA query_only").fetchone()
        driver.execute("PRAGMA query_only = OFF")  # it would guard the temporary file too
        driver.execute("PRAGMA temp_store = FILE")
        driver.execute("CREATE TEMPORARY TABLE keys_seen (key TEXT PRIMARY KEY) WITHOUT ROWID")
    try:
        yield _KeysSeenOnSqlite(driver, table, connection_id, entity)
    finally:
        with sql_errors():
            driver.execute("DROP TABLE temp.keys_seen")
            driver.execute(f"PRAGMA query_only = {query_only}")


class _SqlKeysSeen:
    """On a connection that commits each statement by itself, so that no snapshot is held between two of them."""

    _add: str
    _page: str

    def __init__(self, driver: Any, table: Table, connection_id: UUID, entity: str) -> None:
        self._driver = driver
        self._table = table.fullname
        self._parameters = {"connection_id": str(connection_id), "entity": entity}

    def add(self, keys: Sequence[str]) -> None:
        with sql_errors():
            self._driver.execute(self._add, {"keys": self._stored(keys)})

    def missing(self, limit: int) -> Iterator[list[str]]:
        self._prepare()
        page = self._next_page("", limit)
        while page:
            yield page
            page = self._next_page(page[-1], limit)

    def _next_page(self, after: str, limit: int) -> list[str]:
        parameters = {**self._parameters, "after": after, "limit": limit}
        with sql_errors():
            rows = self._driver.execute(self._page.format(table=self._table), parameters).fetchall()
        return [key for (key,) in rows]

    def _stored(self, keys: Sequence[str]) -> Any:
        raise NotImplementedError

    def _prepare(self) -> None: ...
