"""The first tables of the admin database."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from ordersync_adapters.sql.metadata import JsonText, Key
from ordersync_adapters.sql.types import Moment, Uuid

revision = "admin_0001"
down_revision = None


def upgrade() -> None:
    _administrations()
    _jobs()
    _authorisation_states()
    _leases()


def _administrations() -> None:
    op.create_table(
        "administrations",
        sa.Column("code", Key),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("code", name="pk_administrations"),
    )

    op.create_table(
        "memberships",
        sa.Column("identity", Key),
        sa.Column("administration", Key),
        sa.Column("role", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("identity", "administration", name="pk_memberships"),
        sa.ForeignKeyConstraint(["administration"], ["administrations.code"], name="fk_memberships_administration"),
    )
    op.create_index("ix_memberships_administration", "memberships", ["administration"])

    op.create_table(
        "wake",
        sa.Column("administration", Key),
        sa.Column("due_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("administration", name="pk_wake"),
    )
    op.create_index("ix_wake_due_at", "wake", ["due_at"])


def _jobs() -> None:
    op.create_table(
        "job_definitions",
        sa.Column("id", Uuid),
        sa.Column("administration", Key, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("parameters", JsonText, nullable=False),
        sa.Column("cron", sa.Text, nullable=False),
        sa.Column("time_zone", sa.Text, nullable=False),
        sa.Column("next_due", Moment),
        sa.PrimaryKeyConstraint("id", name="pk_job_definitions"),
    )
    _partial_index(
        "ix_job_definitions_due",
        "job_definitions",
        ["next_due"],
        where="next_due IS NOT NULL",
    )
    op.create_index("ix_job_definitions_listing", "job_definitions", ["administration", "id"])

    op.create_table(
        "job_runs",
        sa.Column("id", Uuid),
        sa.Column("administration", Key, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("parameters", JsonText, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("definition_id", Uuid),
        sa.Column("due_at", Moment),
        sa.Column("missed", sa.BigInteger, nullable=False),
        sa.Column("triggered_by", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("started_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("heartbeat_at", Moment),
        sa.Column("progress_done", sa.BigInteger, nullable=False),
        sa.Column("progress_total", sa.BigInteger),
        sa.Column("progress_text", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("waits_for", Key),
        sa.Column("merged_into", Uuid),
        sa.Column("ticket_at", Moment),
        sa.Column("tickets", sa.Integer, nullable=False),
        sa.Column("result", JsonText),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_job_runs"),
        sa.UniqueConstraint("definition_id", "due_at", name="uq_job_runs_definition_id_due_at"),
    )
    op.create_index(
        "ix_job_runs_listing", "job_runs", ["administration", sa.text("created_at DESC"), sa.text("id DESC")]
    )
    _partial_index(
        "ix_job_runs_owed",
        "job_runs",
        ["ticket_at"],
        where="ended_at IS NULL",
    )
    _partial_index(
        "ix_job_runs_waiting",
        "job_runs",
        ["administration", "waits_for", "created_at", "id"],
        where="waits_for IS NOT NULL",
    )


def _authorisation_states() -> None:
    op.create_table(
        "authorisation_states",
        sa.Column("id", Uuid),
        sa.Column("administration", Key, nullable=False),
        sa.Column("connection_id", Uuid, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("redirect_uri", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_authorisation_states"),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", Key),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _partial_index(name: str, table: str, columns: list[str], *, where: str, **options: Any) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where), **options)
