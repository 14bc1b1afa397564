from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from ordersync_adapters.sql.metadata import JsonText, Key, admin
from ordersync_adapters.sql.types import Moment, Uuid

job_definitions = Table(
    "job_definitions",
    admin,
    Column("id", Uuid, primary_key=True),
    Column("administration", Key, nullable=False),
    Column("type", Text, nullable=False),
    Column("parameters", JsonText, nullable=False),
    Column("cron", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("next_due", Moment),
)
Index(
    "ix_job_definitions_due",
    job_definitions.c.next_due,
    postgresql_where=job_definitions.c.next_due.is_not(None),
    sqlite_where=job_definitions.c.next_due.is_not(None),
)
Index("ix_job_definitions_listing", job_definitions.c.administration, job_definitions.c.id)

job_runs = Table(
    "job_runs",
    admin,
    Column("id", Uuid, primary_key=True),
    Column("administration", Key, nullable=False),
    Column("type", Text, nullable=False),
    Column("parameters", JsonText, nullable=False),
    Column("state", Text, nullable=False),
    Column("definition_id", Uuid),
    Column("due_at", Moment),
    Column("missed", BigInteger, nullable=False),
    Column("triggered_by", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("heartbeat_at", Moment),
    Column("progress_done", BigInteger, nullable=False),
    Column("progress_total", BigInteger),
    Column("progress_text", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("message", Text),
    Column("waits_for", Key),
    Column("merged_into", Uuid),
    Column("ticket_at", Moment),
    Column("tickets", Integer, nullable=False),
    Column("result", JsonText),
    Column("reason", Text),
    UniqueConstraint("definition_id", "due_at"),
)
Index(
    "ix_job_runs_owed",
    job_runs.c.ticket_at,
    postgresql_where=job_runs.c.ended_at.is_(None),
    sqlite_where=job_runs.c.ended_at.is_(None),
)
Index(
    "ix_job_runs_waiting",
    job_runs.c.administration,
    job_runs.c.waits_for,
    # with these it also gives the order, without which SQLite prefers to walk through all runs of the administration
    job_runs.c.created_at,
    job_runs.c.id,
    postgresql_where=job_runs.c.waits_for.is_not(None),
    sqlite_where=job_runs.c.waits_for.is_not(None),
)
Index("ix_job_runs_listing", job_runs.c.administration, job_runs.c.created_at.desc(), job_runs.c.id.desc())
