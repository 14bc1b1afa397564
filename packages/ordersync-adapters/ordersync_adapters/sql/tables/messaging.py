from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
)

from ordersync_adapters.sql.metadata import JsonText, Key, tenant
from ordersync_adapters.sql.types import Moment, Uuid

# One row: whose database this is. `epoch` changes when the database is restored.
tenant_row = Table(
    "tenant",
    tenant,
    Column("id", Integer, CheckConstraint("id = 1", name="only_row"), primary_key=True, autoincrement=False),
    Column("code", Key, nullable=False),
    Column("epoch", Uuid, nullable=False),
)

# One row: where the numbering stands. Whoever numbers holds it.
relay = Table(
    "relay",
    tenant,
    Column("id", Integer, CheckConstraint("id = 1", name="only_row"), primary_key=True, autoincrement=False),
    Column("last_number", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    tenant,
    Column("order", BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("event_type", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("effect", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("key", Key, nullable=False),
    Column("occurred_at", Moment, nullable=False),
    Column("triggered_by", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("traceparent", Text),
    Column("before", JsonText, nullable=False),
    Column("after", JsonText),
    Column("number", BigInteger),
    Column("body", LargeBinary),
    Column("absorbed_by", Uuid),
    Column("ticket_at", Moment),
    Column("tickets", Integer, nullable=False, server_default="0"),
    Column("handled_at", Moment),
    # the counter never goes back, also when the newest rows were purged
    sqlite_autoincrement=True,
)

# Written out in each statement: a partial index serves only those that name its condition.
is_unnumbered = and_(outbox.c.number.is_(None), outbox.c.absorbed_by.is_(None))
is_numbered = outbox.c.number.is_not(None)
# A row has `ticket_at` from its number on until it has an outcome. To name the number too would lead SQLite to read all
# that have one.
has_no_outcome = outbox.c.ticket_at.is_not(None)

Index("ix_outbox_unnumbered", outbox.c.order, postgresql_where=is_unnumbered, sqlite_where=is_unnumbered)
Index("uq_outbox_number", outbox.c.number, unique=True, postgresql_where=is_numbered, sqlite_where=is_numbered)
Index("ix_outbox_owed", outbox.c.ticket_at, postgresql_where=has_no_outcome, sqlite_where=has_no_outcome)

# Which messages a handler has had the effects of.
inbox = Table(
    "inbox",
    tenant,
    Column("handler", Key, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("processed_at", Moment, nullable=False),
)
Index("ix_inbox_processed_at", inbox.c.processed_at)
