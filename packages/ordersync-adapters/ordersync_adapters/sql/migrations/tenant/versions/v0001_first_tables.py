"""The first tables of a tenant's database."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateSchema

from ordersync_adapters.sql.metadata import JsonText, Key
from ordersync_adapters.sql.types import POSTGRES, Moment, Uuid

revision = "tenant_0001"
down_revision = None


def upgrade() -> None:
    _messaging()
    _items()
    _webhooks()
    _connections()
    _flows()
    _audit_and_leases()
    _raw_records("exact_online")


def _messaging() -> None:
    op.create_table(
        "tenant",
        sa.Column(
            "id",
            sa.Integer,
            sa.CheckConstraint("id = 1", name="ck_tenant_only_row"),
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("code", Key, nullable=False),
        sa.Column("epoch", Uuid, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
    )

    op.create_table(
        "relay",
        sa.Column(
            "id",
            sa.Integer,
            sa.CheckConstraint("id = 1", name="ck_relay_only_row"),
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("last_number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_relay"),
    )

    op.create_table(
        "outbox",
        sa.Column("order", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(always=True)),
        sa.Column("id", Uuid, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("key", Key, nullable=False),
        sa.Column("occurred_at", Moment, nullable=False),
        sa.Column("triggered_by", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("before", JsonText, nullable=False),
        sa.Column("after", JsonText),
        sa.Column("number", sa.BigInteger),
        sa.Column("body", sa.LargeBinary),
        sa.Column("absorbed_by", Uuid),
        sa.Column("ticket_at", Moment),
        sa.Column("tickets", sa.Integer, nullable=False, server_default="0"),
        sa.Column("handled_at", Moment),
        sa.PrimaryKeyConstraint("order", name="pk_outbox"),
        sa.UniqueConstraint("id", name="uq_outbox_id"),
        sqlite_autoincrement=True,
    )
    _partial_index(
        "ix_outbox_owed",
        "outbox",
        ["ticket_at"],
        where="ticket_at IS NOT NULL",
    )
    _partial_index(
        "ix_outbox_unnumbered",
        "outbox",
        ["order"],
        where="number IS NULL AND absorbed_by IS NULL",
    )
    _partial_index(
        "uq_outbox_number",
        "outbox",
        ["number"],
        unique=True,
        where="number IS NOT NULL",
    )

    op.create_table(
        "inbox",
        sa.Column("handler", Key),
        sa.Column("message_id", Uuid),
        sa.Column("processed_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("handler", "message_id", name="pk_inbox"),
    )
    op.create_index("ix_inbox_processed_at", "inbox", ["processed_at"])


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("code", Key),
        sa.Column("name", JsonText, nullable=False),
        sa.Column("family_code", sa.Text),
        sa.Column("unit", sa.Text),
        sa.Column("units", JsonText, nullable=False),
        sa.Column("vat_tariff", sa.Text),
        sa.Column("attributes", JsonText, nullable=False),
        sa.Column("images", JsonText, nullable=False),
        sa.Column("attachments", JsonText, nullable=False),
        sa.Column("stocks", JsonText, nullable=False),
        sa.Column("restock_orders", JsonText, nullable=False),
        sa.Column("searchable", sa.Text, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("code", name="pk_items"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index("ix_items_updated_at", "items", ["updated_at", "code"])


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", Uuid),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("event_types", JsonText, nullable=False),
        sa.Column("secrets", JsonText, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("disabled_because", sa.Text),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("health", JsonText, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )

    op.create_table(
        "deliveries",
        sa.Column("id", Uuid),
        sa.Column("webhook_id", Uuid, nullable=False),
        sa.Column("event_id", Uuid, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("event_number", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("earlier_attempts", sa.Integer, nullable=False),
        sa.Column("first_attempt_at", Moment),
        sa.Column("ticket_at", Moment),
        sa.Column("tickets", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("finished_at", Moment),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id", ondelete="CASCADE"),
        sa.UniqueConstraint("webhook_id", "position", name="uq_deliveries_webhook_id_position"),
    )
    _partial_index(
        "ix_deliveries_due",
        "deliveries",
        ["webhook_id", "tickets", "position"],
        where="state = 'Waiting' AND ticket_at IS NOT NULL",
    )
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"])
    _partial_index(
        "ix_deliveries_owed",
        "deliveries",
        ["ticket_at"],
        where="state = 'Waiting' AND ticket_at IS NOT NULL",
    )
    _partial_index(
        "ix_deliveries_parked",
        "deliveries",
        ["webhook_id"],
        where="state = 'Parked'",
    )
    _partial_index(
        "ix_deliveries_waiting",
        "deliveries",
        ["webhook_id", "position"],
        where="state = 'Waiting'",
    )

    op.create_table(
        "attempts",
        sa.Column("delivery_id", Uuid),
        sa.Column("number", sa.Integer),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("ended_at", Moment, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_attempts"),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name="fk_attempts_delivery_id", ondelete="CASCADE"),
    )


def _connections() -> None:
    op.create_table(
        "connections",
        sa.Column("id", Uuid),
        sa.Column("connector", Key, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("settings", JsonText, nullable=False),
        sa.Column("secret_settings", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tokens", sa.LargeBinary),
        sa.Column("refreshing_since", Moment),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_connections"),
    )

    op.create_table(
        "cursors",
        sa.Column("connection_id", Uuid),
        sa.Column("entity", Key),
        sa.Column("cursor", JsonText, nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "entity", name="pk_cursors"),
    )


def _flows() -> None:
    op.create_table(
        "flows",
        sa.Column("kind", Key),
        sa.Column("connection_id", Uuid, nullable=False),
        sa.Column("aspects", JsonText, nullable=False),
        sa.Column("guard_floor", sa.BigInteger, nullable=False),
        sa.Column("guard_ratio", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_flows"),
    )

    op.create_table(
        "execution_log",
        sa.Column("run_id", Uuid),
        sa.Column("kind", Key, nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("ended_at", Moment),
        sa.Column("complete_read", sa.Boolean, nullable=False),
        sa.Column("cursor", JsonText),
        sa.Column("answered", JsonText, nullable=False),
        sa.Column("read", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.BigInteger, nullable=False),
        sa.Column("unchanged", sa.BigInteger, nullable=False),
        sa.Column("quarantined", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_execution_log"),
    )
    op.create_index(
        "ix_execution_log_newest", "execution_log", ["kind", sa.text("started_at DESC"), sa.text("run_id DESC")]
    )

    op.create_table(
        "quarantine",
        sa.Column("kind", Key),
        sa.Column("key", Key),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("raw", JsonText),
        sa.Column("since", Moment, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_quarantine"),
    )


def _audit_and_leases() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("at", Moment),
        sa.Column("id", Uuid),
        sa.Column("triggered_by", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("entity_type", Key, nullable=False),
        sa.Column("key", Key, nullable=False),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("before", JsonText, nullable=False),
        sa.Column("after", JsonText, nullable=False),
        sa.PrimaryKeyConstraint("at", "id", name="pk_audit_entries"),
    )
    op.create_index("ix_audit_entries_entity", "audit_entries", ["entity_type", "key", "at", "id"])

    op.create_table(
        "leases",
        sa.Column("name", Key),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _raw_records(connector: str) -> None:
    """In the connector's own schema on Postgres, with its name before them on SQLite."""
    on_postgres = op.get_bind().dialect.name == POSTGRES
    if on_postgres:
        op.execute(CreateSchema(connector, if_not_exists=True))
    schema, name = (connector, "records") if on_postgres else (None, f"{connector}_records")
    true, false = ("true", "false") if on_postgres else ("1", "0")
    op.create_table(
        name,
        sa.Column("key", Key),
        sa.Column("connection_id", Uuid),
        sa.Column("entity", Key),
        sa.Column("raw", JsonText, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("source_version", sa.BigInteger),
        sa.Column("code", Key),
        sa.Column("applied_hash", sa.Text),
        sa.Column("applied_version", sa.BigInteger),
        sa.Column("quarantined", sa.Boolean, nullable=False),
        sa.Column("dropped", sa.Boolean, nullable=False),
        sa.Column(
            "stale", sa.Boolean, sa.Computed("applied_hash IS NULL OR applied_hash <> content_hash", persisted=True)
        ),
        sa.PrimaryKeyConstraint("key", "connection_id", "entity", name=f"pk_{name}"),
        schema=schema,
        postgresql_with={"fillfactor": 50},
    )
    gone = "tombstones" if on_postgres else f"{connector}_tombstones"
    op.create_table(
        gone,
        sa.Column("key", Key),
        sa.Column("connection_id", Uuid),
        sa.Column("entity", Key),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", "connection_id", "entity", name=f"pk_{gone}"),
        schema=schema,
    )
    _partial_index(
        f"ix_{name}_applied_version",
        name,
        ["connection_id", "entity", "applied_version"],
        where=f"stale = {false}",
        schema=schema,
    )
    _partial_index(
        f"ix_{name}_code",
        name,
        ["code", "connection_id", "entity"],
        where="code IS NOT NULL",
        schema=schema,
    )
    _partial_index(
        f"ix_{name}_dropped",
        name,
        ["connection_id", "entity", "key"],
        where=f"dropped = {true}",
        schema=schema,
    )
    _partial_index(
        f"ix_{name}_stale",
        name,
        ["connection_id", "entity", "key"],
        where=f"stale = {true}",
        schema=schema,
    )


def _partial_index(name: str, table: str, columns: list[str], *, where: str, **options: Any) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where), **options)
