from sqlalchemy import Column, Index, Table, Text

from ordersync_adapters.sql.metadata import JsonText, Key, tenant
from ordersync_adapters.sql.types import Moment, Uuid

audit_entries = Table(
    "audit_entries",
    tenant,
    # in this order, because entries are listed and published by moment
    Column("at", Moment, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("triggered_by", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("entity_type", Key, nullable=False),
    Column("key", Key, nullable=False),
    Column("effect", Text, nullable=False),
    Column("before", JsonText, nullable=False),
    Column("after", JsonText, nullable=False),
)
Index(
    "ix_audit_entries_entity",
    audit_entries.c.entity_type,
    audit_entries.c.key,
    audit_entries.c.at,
    audit_entries.c.id,
)
