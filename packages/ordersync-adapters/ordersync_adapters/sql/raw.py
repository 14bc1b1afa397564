"""The records of one connection, as its source sent them and as far as they were built."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    delete,
    false,
    func,
    or_,
    select,
    true,
    type_coerce,
    update,
)

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import Stored as Row
from ordersync_adapters.sql.bulk import among
from ordersync_adapters.sql.tables.connections import cursors
from ordersync_adapters.sql.tables.raw import raw_records, tombstones
from ordersync_core.flows.model import KnownRecord, RawRecord, Stored
from ordersync_core.kernel.canonical import spelling

_KEY = ("connection_id", "entity", "key")
_KNOWN = KnownRecord._fields
"""The columns have the names of the fields."""

_WRITTEN = ("connection_id", "entity", *_KNOWN, "raw")
_BY_KEY = itemgetter(_WRITTEN.index("key"))
_CODE = _WRITTEN.index("code")

_BUT_THE_CODE = tuple(name for name in _WRITTEN if name not in (*_KEY, "code"))
_but_the_code = itemgetter(*(_WRITTEN.index(name) for name in (*_BUT_THE_CODE, *_KEY)))
"""SQLite writes the index by code anew whenever a statement names the column: a quarter of what the statement takes."""


class SqlRaw:
    """Knows which keys this transaction has looked for in vain: these records are new, and are only inserted. Of those
    that it has found it knows the code, which mostly stays."""

    def __init__(self, connection: Connection, connector: str, connection_id: UUID, entity: str) -> None:
        """KeyError for a connector that keeps no raw records."""
        self._connection = connection
        self._ids = {"connection_id": connection_id, "entity": entity}
        self._table = table = raw_records(connector, connection.dialect.name)
        self._ours = and_(table.c.connection_id == connection_id, table.c.entity == entity)
        self._known = [table.c[name] for name in _KNOWN]
        self._known_and_spelled = [*self._known, type_coerce(table.c.raw, Text)]
        self._known_and_raw = [*self._known, table.c.raw]
        self._tombstones = gone = tombstones(connector, connection.dialect.name)
        self._our_tombstones = and_(gone.c.connection_id == connection_id, gone.c.entity == entity)
        self._cursor = and_(cursors.c.connection_id == connection_id, cursors.c.entity == entity)
        self._absent: set[str] = set()
        self._found: Mapping[str, KnownRecord] = {}

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

    def stored(self, keys: Sequence[str]) -> Stored:
        wanted = select(*self._known_and_spelled).where(self._ours, among(self._table.c.key, keys))
        rows = self._connection.execute(wanted).all()
        known = {row[0]: KnownRecord._make(row[:-1]) for row in rows}
        self._found = known
        if len(known) < len(keys):
            self._absent.update(key for key in keys if key not in known)
        return Stored(known=known, spelled={row[0]: row[-1] for row in rows})

    def save(self, records: Sequence[RawRecord]) -> None:
        owner = (str(self._ids["connection_id"]), self._ids["entity"])
        # by key, as the index is: source keys come in no order
        rows = sorted([(*owner, *record.known, spelling(record.raw)) for record in records], key=_BY_KEY)
        new = [row for row in rows if _BY_KEY(row) in self._absent]
        bulk.insert_stored(self._connection, self._table, _WRITTEN, new)
        present = [row for row in rows if _BY_KEY(row) not in self._absent] if len(new) < len(rows) else []
        staying = [row for row in present if self._keeps_its_code(row)]
        bulk.update_stored(self._connection, self._table, _BUT_THE_CODE, list(map(_but_the_code, staying)), by=_KEY)
        others = [row for row in present if not self._keeps_its_code(row)] if len(staying) < len(present) else []
        bulk.upsert_stored(self._connection, self._table, _WRITTEN, others, key=_KEY)
        self._absent.difference_update(map(_BY_KEY, new))

    def _keeps_its_code(self, row: Row) -> bool:
        found = self._found.get(_BY_KEY(row))
        return found is not None and found.code == row[_CODE]

    def mark(self, records: Sequence[KnownRecord]) -> None:
        if not records:
            return
        self._found = {}
        bulk.update(self._connection, self._table, [self._ids | record._asdict() for record in records], by=_KEY)

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
        return [KnownRecord._make(row) for row in rows]

    def count(self) -> tuple[int, int]:
        stored = select(func.count()).select_from(self._table).where(self._ours)
        dropped = stored.where(self._table.c.dropped == true())
        row = self._connection.execute(select(stored.scalar_subquery(), dropped.scalar_subquery())).one()
        return row[0], row[1]

    def delete(self, keys: Sequence[str]) -> None:
        self._found = {}
        self._connection.execute(delete(self._table).where(self._ours, among(self._table.c.key, keys)))

    def reset_applied(self, keys: Sequence[str]) -> int:
        return self._change(keys, true(), applied_hash=None, applied_version=None, quarantined=False)

    def _change(self, keys: Sequence[str], where: ColumnElement[bool], **values: Any) -> int:
        if not keys:
            return 0
        changed = update(self._table).where(self._ours, among(self._table.c.key, keys), where).values(values)
        return self._connection.execute(changed).rowcount


def to_raw(row: Sequence[Any]) -> RawRecord:
    return RawRecord(known=KnownRecord._make(row[:-1]), raw=row[-1])
