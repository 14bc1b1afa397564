from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text

from ordersync_adapters.sql.metadata import JsonText, Key, tenant
from ordersync_adapters.sql.types import Moment, Uuid

flows = Table(
    "flows",
    tenant,
    Column("kind", Key, primary_key=True),
    Column("connection_id", Uuid, nullable=False),
    Column("aspects", JsonText, nullable=False),
    Column("guard_floor", BigInteger, nullable=False),
    # a decimal in its own spelling: SQLite has no exact numbers
    Column("guard_ratio", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
)

execution_log = Table(
    "execution_log",
    tenant,
    Column("run_id", Uuid, primary_key=True),
    Column("kind", Key, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("complete_read", Boolean, nullable=False),
    Column("cursor", JsonText),
    Column("answered", JsonText, nullable=False),
    Column("read", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("unchanged", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
)
Index("ix_execution_log_newest", execution_log.c.kind, execution_log.c.started_at.desc(), execution_log.c.run_id.desc())

quarantine = Table(
    "quarantine",
    tenant,
    Column("kind", Key, primary_key=True),
    Column("key", Key, primary_key=True),
    Column("reason", Text, nullable=False),
    # what the source sent, which may be nothing but null
    Column("raw", JsonText),
    Column("since", Moment, nullable=False),
)
