"""Each connector's records as their source sent them.

On Postgres they lie in the table `records` of the connector's own schema, on SQLite in a table of the same columns
with the connector's name before it. One `Table` cannot be both, so there is one for each dialect.
"""

from collections.abc import Mapping

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
    return _TABLES[connector, dialect]


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


def _on_postgres(connector: str) -> Table:
    table = _records("records", RAW[POSTGRES], schema=connector)
    event.listen(table, "before_create", CreateSchema(connector, if_not_exists=True))
    return table


_TABLES: Mapping[tuple[str, str], Table] = {
    (connector, POSTGRES): _on_postgres(connector) for connector in CONNECTORS
} | {(connector, "sqlite"): _records(f"{connector}_records", RAW["sqlite"]) for connector in CONNECTORS}
