from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import evolve

from ordersync_core.flows.model import Execution, Flow, FlowKind, KnownRecord, Quarantined, RawRecord, Stored
from ordersync_core.kernel.canonical import spelling
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.testing.memory.pages import page_of
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction, json_copy

FLOWS = Table[FlowKind, Flow]("flows")
EXECUTIONS = Table[UUID, Execution]("execution_log")
CURSORS = Table[tuple[UUID, str], Mapping[str, Any]]("cursors")
QUARANTINE = Table[tuple[FlowKind, str], Quarantined]("quarantine")


class MemoryFlowRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, kind: FlowKind) -> Flow | None:
        return self._transaction.find(FLOWS, kind)

    def save(self, flow: Flow) -> None:
        self._transaction.save(FLOWS, flow.kind, flow)


class MemoryExecutionRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, run_id: UUID) -> Execution | None:
        return self._transaction.find(EXECUTIONS, run_id)

    def save(self, execution: Execution) -> None:
        kept = evolve(execution, cursor=json_copy(execution.cursor))
        self._transaction.save(EXECUTIONS, execution.run_id, kept)


class MemoryRawRepository:
    def __init__(self, transaction: Transaction, connector: str, connection_id: UUID, entity: str) -> None:
        self._transaction = transaction
        self._place = (connection_id, entity)
        self._table = raw_records(connector, connection_id, entity)
        self._tombstones = tombstones(connector, connection_id, entity)

    def cursor(self) -> Mapping[str, Any] | None:
        return self._transaction.row(CURSORS, self._place)

    def save_cursor(self, cursor: Mapping[str, Any] | None) -> None:
        if cursor is None:
            self._transaction.delete(CURSORS, self._place)
        else:
            self._transaction.save(CURSORS, self._place, json_copy(cursor))

    def stored(self, keys: Sequence[str]) -> Stored:
        rows = [self._transaction.row(self._table, key) for key in keys]
        found = {_key(record): record for record in rows if record is not None}
        return Stored(
            known={key: record.known for key, record in found.items()},
            spelled={key: spelling(record.raw) for key, record in found.items()},
        )

    def save(self, records: Sequence[RawRecord]) -> None:
        for record in sorted(records, key=_key):
            self._transaction.save(self._table, _key(record), evolve(record, raw=json_copy(record.raw)))

    def mark(self, records: Sequence[KnownRecord]) -> None:
        for known in sorted(records, key=lambda known: known.key):
            kept = self._transaction.find(self._table, known.key)
            if kept is not None:
                self._transaction.replace(self._table, known.key, evolve(kept, known=known))

    def tombstones(self, keys: Sequence[str]) -> Mapping[str, int]:
        found = {key: self._transaction.row(self._tombstones, key) for key in keys}
        return {key: version for key, version in found.items() if version is not None}

    def save_tombstones(self, versions: Mapping[str, int]) -> None:
        for key, version in sorted(versions.items()):
            self._transaction.save(self._tombstones, key, version)

    def waiting(self, keys: Sequence[str]) -> list[RawRecord]:
        found = (self._transaction.row(self._table, key) for key in sorted(set(keys)))
        return [record for record in found if record is not None and record.known.is_waiting]

    def unapplied(self, flow_version: int, limit: int) -> list[RawRecord]:
        wanted = [r for r in self._rows() if not (r.known.dropped or r.known.is_applied(flow_version))]
        return sorted(wanted, key=_key)[:limit]

    def holders(self, codes: Sequence[str]) -> Mapping[str, str]:
        wanted = set(codes)
        present = (record.known for record in self._rows() if not record.known.dropped)
        latest_first = sorted(present, key=lambda known: known.key, reverse=True)
        return {known.code: known.key for known in latest_first if known.code is not None and known.code in wanted}

    def drop(self, keys: Sequence[str]) -> int:
        return sum(
            self._transaction.update(
                self._table,
                key,
                lambda kept: None if kept.known.dropped else evolve(kept, known=kept.known._replace(dropped=True)),
            )
            for key in sorted(set(keys))
        )

    def dropped(self, limit: int) -> list[KnownRecord]:
        return [record.known for record in sorted(self._rows(), key=_key) if record.known.dropped][:limit]

    def count(self) -> tuple[int, int]:
        return len(self._rows()), sum(record.known.dropped for record in self._rows())

    def delete(self, keys: Sequence[str]) -> None:
        for key in sorted(set(keys)):
            self._transaction.delete(self._table, key)

    def reset_applied(self, keys: Sequence[str]) -> int:
        return sum(
            self._transaction.update(
                self._table,
                key,
                lambda kept: evolve(
                    kept, known=kept.known._replace(applied_hash=None, applied_version=None, quarantined=False)
                ),
            )
            for key in sorted(set(keys))
        )

    def _rows(self) -> list[RawRecord]:
        return list(self._transaction.rows(self._table).values())


class MemoryQuarantineRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def save(self, kind: FlowKind, entries: Sequence[Quarantined]) -> None:
        for entry in sorted(entries, key=lambda entry: entry.key):
            kept = self._transaction.find(QUARANTINE, (kind, entry.key))
            since = entry.since if kept is None else kept.since
            self._transaction.save(QUARANTINE, (kind, entry.key), evolve(entry, raw=json_copy(entry.raw), since=since))

    def clear(self, kind: FlowKind, keys: Sequence[str]) -> None:
        for key in sorted(set(keys)):
            self._transaction.delete(QUARANTINE, (kind, key))

    def keys(self, kind: FlowKind) -> list[str]:
        return sorted(key for of, key in self._transaction.rows(QUARANTINE) if of is kind)


class MemoryKeysSeen:
    def __init__(self, database: MemoryDatabase, table: Table[str, RawRecord]) -> None:
        self._database = database
        self._table = table
        self._seen: set[str] = set()

    def add(self, keys: Sequence[str]) -> None:
        self._seen.update(keys)

    def missing(self, limit: int) -> Iterator[list[str]]:
        last = ""
        while True:
            rows = self._database.rows(self._table).items()
            left = sorted(
                key for key, record in rows if key > last and key not in self._seen and not record.known.dropped
            )
            if not left:
                return
            yield left[:limit]
            last = left[:limit][-1]


class MemoryFlowQueries:
    """Both `FlowReads` and `FlowQueries`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    @contextmanager
    def keys_seen(self, connector: str, connection_id: UUID, entity: str) -> Iterator[MemoryKeysSeen]:
        yield MemoryKeysSeen(self._database, raw_records(connector, connection_id, entity))

    def flow(self, kind: FlowKind) -> Flow | None:
        return self._database.row(FLOWS, kind)

    def quarantine(self, kind: FlowKind, page: PageRequest) -> Page[Quarantined]:
        entries = [entry for (of, _), entry in self._database.rows(QUARANTINE).items() if of is kind]
        return page_of(entries, page, lambda entry: (entry.key,), str)

    def executions(self, kind: FlowKind, page: PageRequest) -> Page[Execution]:
        executions = [e for e in self._database.rows(EXECUTIONS).values() if e.kind is kind]
        return page_of(
            executions, page, lambda e: (e.started_at, e.run_id), datetime.fromisoformat, UUID, descending=True
        )

    def execution(self, run_id: UUID) -> Execution | None:
        return self._database.row(EXECUTIONS, run_id)


def raw_records(connector: str, connection_id: UUID, entity: str) -> Table[str, RawRecord]:
    """Each connector's own schema."""
    return Table(f"{connector}.records of {connection_id}: {entity}")


def tombstones(connector: str, connection_id: UUID, entity: str) -> Table[str, int]:
    return Table(f"{connector}.tombstones of {connection_id}: {entity}")


def tables_of(transaction: Transaction, connection_id: UUID) -> list[Table[str, Any]]:
    """Those with what was read over the connection."""
    return [Table(name) for name in transaction.tables() if f" of {connection_id}: " in name]


def _key(record: RawRecord) -> str:
    return record.known.key
