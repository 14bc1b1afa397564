"""Each connector's records as their source sent them, and the tombstones of what it removed.

On Postgres they lie in the tables `records` and `tombstones` of the connector's own schema, on SQLite in tables of the
same columns with the connector's name before them. One `Table` cannot be both, so there is one for each dialect.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import BigInteger, Boolean, Column, Computed, Index, MetaData, Table, Text, event, false, true
from sqlalchemy.schema import CreateSchema

from ordersync_adapters.sql.metadata import NAMES, JsonText, Key
from ordersync_adapters.sql.types import POSTGRES, Uuid

CONNECTORS = ("exact_online",)
"""Those that keep raw records."""

RAW: Mapping[str, MetaData] = {
    POSTGRES: MetaData(naming_convention=NAMES),
    "sqlite": MetaData(naming_convention=NAMES),
}
"""The raw tables of all connectors, by the name of the dialect; beside `metadata.tenant` in each tenant's database."""


def raw_records(connector: str, dialect: str) -> Table:
    """KeyError for a connector without raw records, or a dialect that is neither "sqlite" nor "postgresql"."""
    return _RECORDS[connector, dialect]


def tombstones(connector: str, dialect: str) -> Table:
    """As `raw_records`."""
    return _TOMBSTONES[connector, dialect]


def _records(name: str, metadata: MetaData, *, schema: str | None = None) -> Table:
    table = Table(
        name,
        metadata,
        # The key comes first: before its first ANALYZE, Postgres takes the records of one connection for a handful,
        # and would read them all for each batch of keys if an index led to them.
        Column("key", Key, primary_key=True),
        Column("connection_id", Uuid, primary_key=True),
        Column("entity", Key, primary_key=True),
        Column("raw", JsonText, nullable=False),
        Column("content_hash", Text, nullable=False),
        Column("source_version", BigInteger),
        Column("code", Key),
        Column("applied_hash", Text),
        Column("applied_version", BigInteger),
        Column("quarantined", Boolean, nullable=False),
        Column("dropped", Boolean, nullable=False),
        # A column of its own, because Postgres writes every index anew when a column in the condition of a partial
        # index changes: the hashes change with each record, what they say of each other hardly ever.
        Column("stale", Boolean, Computed("applied_hash IS NULL OR applied_hash <> content_hash", persisted=True)),
        schema=schema,
        postgresql_with={"fillfactor": 50},
    )
    ours = (table.c.connection_id, table.c.entity)
    coded = table.c.code.is_not(None)
    Index(f"ix_{name}_code", table.c.code, *ours, postgresql_where=coded, sqlite_where=coded)
    dropped = table.c.dropped == true()
    Index(f"ix_{name}_dropped", *ours, table.c.key, postgresql_where=dropped, sqlite_where=dropped)
    stale = table.c.stale == true()
    Index(f"ix_{name}_stale", *ours, table.c.key, postgresql_where=stale, sqlite_where=stale)
    current = table.c.stale == false()
    Index(f"ix_{name}_applied_version", *ours, table.c.applied_version, postgresql_where=current, sqlite_where=current)
    return table


def _tombstones(name: str, metadata: MetaData, *, schema: str | None = None) -> Table:
    return Table(
        name,
        metadata,
        Column("key", Key, primary_key=True),
        Column("connection_id", Uuid, primary_key=True),
        Column("entity", Key, primary_key=True),
        Column("version", BigInteger, nullable=False),
        schema=schema,
    )


def _of_each_connector(name: str, make: Callable[..., Table]) -> Mapping[tuple[str, str], Table]:
    made: dict[tuple[str, str], Table] = {}
    for connector in CONNECTORS:
        made[connector, POSTGRES] = table = make(name, RAW[POSTGRES], schema=connector)
        event.listen(table, "before_create", CreateSchema(connector, if_not_exists=True))
        made[connector, "sqlite"] = make(f"{connector}_{name}", RAW["sqlite"])
    return made


_RECORDS = _of_each_connector("records", _records)
_TOMBSTONES = _of_each_connector("tombstones", _tombstones)
