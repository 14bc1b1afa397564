from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal,
)

from ordersync_adapters.sql.metadata import JsonText, tenant
from ordersync_adapters.sql.types import Moment, Uuid

webhooks = Table(
    "webhooks",
    tenant,
    Column("id", Uuid, primary_key=True),
    Column("url", Text, nullable=False),
    Column("event_types", JsonText, nullable=False),
    # encrypted, each in Base64; the newest first
    Column("secrets", JsonText, nullable=False),
    Column("state", Text, nullable=False),
    Column("disabled_because", Text),
    Column("last_position", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    # its fields by name; no statement asks about them
    Column("health", JsonText, nullable=False),
)

deliveries = Table(
    "deliveries",
    tenant,
    Column("id", Uuid, primary_key=True),
    Column("webhook_id", Uuid, ForeignKey(webhooks.c.id, ondelete="CASCADE"), nullable=False),
    # an event outlives its deliveries, which points to its body
    Column("event_id", Uuid, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("event_number", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("earlier_attempts", Integer, nullable=False),
    Column("first_attempt_at", Moment),
    Column("ticket_at", Moment),
    Column("tickets", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("reason", Text),
    UniqueConstraint("webhook_id", "position"),
)

# Written out in each statement: a partial index serves only those that name its condition.
is_waiting = deliveries.c.state == literal("Waiting", literal_execute=True)
owes_a_ticket = and_(is_waiting, deliveries.c.ticket_at.is_not(None))
is_parked = deliveries.c.state == literal("Parked", literal_execute=True)

Index(
    "ix_deliveries_waiting",
    deliveries.c.webhook_id,
    deliveries.c.position,
    postgresql_where=is_waiting,
    sqlite_where=is_waiting,
)
Index(
    "ix_deliveries_due",
    deliveries.c.webhook_id,
    deliveries.c.tickets,
    deliveries.c.position,
    postgresql_where=owes_a_ticket,
    sqlite_where=owes_a_ticket,
)
Index("ix_deliveries_owed", deliveries.c.ticket_at, postgresql_where=owes_a_ticket, sqlite_where=owes_a_ticket)
Index("ix_deliveries_parked", deliveries.c.webhook_id, postgresql_where=is_parked, sqlite_where=is_parked)
Index("ix_deliveries_event_id", deliveries.c.event_id)

attempts = Table(
    "attempts",
    tenant,
    Column("delivery_id", Uuid, ForeignKey(deliveries.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("response", LargeBinary, nullable=False),
)
