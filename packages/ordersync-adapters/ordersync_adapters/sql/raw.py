"""The records of one connection, as its source sent them and as far as they were built."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, delete, false, func, or_, select, true, update

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import Stored, among
from ordersync_adapters.sql.tables.connections import cursors
from ordersync_adapters.sql.tables.raw import raw_records, tombstones
from ordersync_adapters.sql.types import to_json
from ordersync_core.flows.model import KnownRecord, RawRecord

_KEY = ("connection_id", "entity", "key")
_KNOWN = (
    "key",
    "content_hash",
    "source_version",
    "code",
    "applied_hash",
    "applied_version",
    "quarantined",
    "dropped",
)


_WRITTEN = ("connection_id", "entity", *_KNOWN, "raw")
_BY_KEY = itemgetter(_WRITTEN.index("key"))


class SqlRaw:
    """Knows which keys this transaction has looked for in vain: these records are new, and are only inserted."""

    def __init__(self, connection: Connection, connector: str, connection_id: UUID, entity: str) -> None:
        """KeyError for a connector that keeps no raw records."""
        self._connection = connection
        self._ids = {"connection_id": connection_id, "entity": entity}
        self._table = table = raw_records(connector, connection.dialect.name)
        self._ours = and_(table.c.connection_id == connection_id, table.c.entity == entity)
        self._known = [table.c[name] for name in _KNOWN]
        self._known_and_raw = [*self._known, table.c.raw]
        self._tombstones = gone = tombstones(connector, connection.dialect.name)
        self._our_tombstones = and_(gone.c.connection_id == connection_id, gone.c.entity == entity)
        self._cursor = and_(cursors.c.connection_id == connection_id, cursors.c.entity == entity)
        self._absent: set[str] = set()

    def cursor(self) -> Mapping[str, Any] | None:
        cursor: Mapping[str, Any] | None = self._connection.execute(
            select(cursors.c.cursor).where(self._cursor)
        ).scalar_one_or_none()
        return cursor

    def save_cursor(self, cursor: Mapping[str, Any] | None) -> None:
        if cursor is None:
            self._connection.execute(delete(cursors).where(self._cursor))
        else:
            row = {**self._ids, "cursor": dict(cursor)}
            bulk.upsert(self._connection, cursors, [row], key=("connection_id", "entity"))

    def known(self, keys: Sequence[str]) -> Mapping[str, KnownRecord]:
        wanted = select(*self._known).where(self._ours, among(self._table.c.key, keys))
        found = {row[0]: to_known(row) for row in self._connection.execute(wanted).all()}
        self._absent.update(key for key in keys if key not in found)
        return found

    def save(self, records: Sequence[RawRecord]) -> None:
        owner = (str(self._ids["connection_id"]), self._ids["entity"])
        # by key, as the index is: source keys come in no order
        rows = sorted([(*owner, *to_row(record)) for record in records], key=_BY_KEY)
        new = [row for row in rows if _BY_KEY(row) in self._absent]
        bulk.insert_stored(self._connection, self._table, _WRITTEN, new)
        present = [row for row in rows if _BY_KEY(row) not in self._absent] if len(new) < len(rows) else []
        bulk.upsert_stored(self._connection, self._table, _WRITTEN, present, key=_KEY)
        self._absent.difference_update(map(_BY_KEY, new))

    def mark(self, records: Sequence[KnownRecord]) -> None:
        bulk.update(self._connection, self._table, [self._ids | known_row(record) for record in records], by=_KEY)

    def tombstones(self, keys: Sequence[str]) -> Mapping[str, int]:
        if not keys:
            return {}
        gone = self._tombstones
        wanted = select(gone.c.key, gone.c.version).where(self._our_tombstones, among(gone.c.key, keys))
        return {row[0]: row[1] for row in self._connection.execute(wanted)}

    def save_tombstones(self, versions: Mapping[str, int]) -> None:
        rows = [self._ids | {"key": key, "version": version} for key, version in sorted(versions.items())]
        bulk.upsert(self._connection, self._tombstones, rows, key=_KEY)

    def waiting(self, keys: Sequence[str]) -> list[RawRecord]:
        if not keys:
            return []
        table = self._table
        wanted = select(*self._known_and_raw).where(self._ours, table.c.dropped == false(), among(table.c.key, keys))
        unsettled = or_(table.c.quarantined == true(), table.c.stale == true())
        rows = self._connection.execute(wanted.where(unsettled).order_by(table.c.key))
        return [to_raw(row) for row in rows]

    def unapplied(self, flow_version: int, limit: int) -> list[RawRecord]:
        """One question for each of the indexes that can answer it: asked together, all records would be read."""
        table = self._table
        version, current = table.c.applied_version, table.c.stale == false()
        found: list[RawRecord] = []
        for left_over in (
            table.c.stale == true(),
            and_(current, version < flow_version),
            and_(current, version > flow_version),
            and_(current, version.is_(None)),
        ):
            wanted = select(*self._known_and_raw).where(self._ours, table.c.dropped == false(), left_over)
            rows = self._connection.execute(wanted.limit(limit - len(found))).all()
            found += sorted((to_raw(row) for row in rows), key=lambda record: record.known.key)
            if len(found) == limit:
                break
        return found

    def holders(self, codes: Sequence[str]) -> Mapping[str, str]:
        if not codes:
            return {}
        table = self._table
        present = and_(self._ours, table.c.dropped == false())
        wanted = select(table.c.code, func.min(table.c.key)).where(present, among(table.c.code, codes))
        rows = self._connection.execute(wanted.group_by(table.c.code)).all()
        return {row[0]: row[1] for row in rows}

    def drop(self, keys: Sequence[str]) -> int:
        return self._change(keys, self._table.c.dropped == false(), dropped=True)

    def dropped(self, limit: int) -> list[KnownRecord]:
        wanted = select(*self._known).where(self._ours, self._table.c.dropped == true())
        rows = self._connection.execute(wanted.order_by(self._table.c.key).limit(limit))
        return [to_known(row) for row in rows]

    def count(self) -> tuple[int, int]:
        stored = select(func.count()).select_from(self._table).where(self._ours)
        dropped = stored.where(self._table.c.dropped == true())
        row = self._connection.execute(select(stored.scalar_subquery(), dropped.scalar_subquery())).one()
        return row[0], row[1]

    def delete(self, keys: Sequence[str]) -> None:
        self._connection.execute(delete(self._table).where(self._ours, among(self._table.c.key, keys)))

    def reset_applied(self, keys: Sequence[str]) -> int:
        return self._change(keys, true(), applied_hash=None, applied_version=None, quarantined=False)

    def _change(self, keys: Sequence[str], where: ColumnElement[bool], **values: Any) -> int:
        if not keys:
            return 0
        changed = update(self._table).where(self._ours, among(self._table.c.key, keys), where).values(values)
        return self._connection.execute(changed).rowcount


def known_row(record: KnownRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "content_hash": record.content_hash,
        "source_version": record.source_version,
        "code": record.code,
        "applied_hash": record.applied_hash,
        "applied_version": record.applied_version,
        "quarantined": record.quarantined,
        "dropped": record.dropped,
    }


def to_known(row: Sequence[Any]) -> KnownRecord:
    key, content_hash, source_version, code, applied_hash, applied_version, quarantined, dropped, *_ = row
    return KnownRecord(
        key=key,
        content_hash=content_hash,
        source_version=source_version,
        code=code,
        applied_hash=applied_hash,
        applied_version=applied_version,
        quarantined=quarantined,
        dropped=dropped,
    )


def to_row(record: RawRecord) -> Stored:
    """What is known, and the record itself."""
    known = record.known
    return (
        known.key,
        known.content_hash,
        known.source_version,
        known.code,
        known.applied_hash,
        known.applied_version,
        known.quarantined,
        known.dropped,
        to_json(record.raw),
    )


def to_raw(row: Sequence[Any]) -> RawRecord:
    return RawRecord(known=to_known(row), raw=row[-1])
