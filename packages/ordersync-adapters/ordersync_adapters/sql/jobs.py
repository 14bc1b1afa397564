"""Job definitions and job runs, of all administrations, in the admin database."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache, partial
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, CursorResult, Row, delete, insert, select, tuple_, update

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import insert_into
from ordersync_adapters.sql.reads import SqlReads, page_of
from ordersync_adapters.sql.tables.jobs import job_definitions, job_runs
from ordersync_adapters.sql.tickets import note_tickets
from ordersync_adapters.sql.types import POSTGRES, to_uuid
from ordersync_core.jobs.model import JobDefinition, JobRun, JobType, Progress, RunState, UnknownJob
from ordersync_core.jobs.schedule import Schedule
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest, position_of
from ordersync_core.messaging.tickets import Ticketed

_TYPES = {type.value: type for type in JobType}

AT_ONCE = 500
"""Rows that are read before they become definitions: as rows they would weigh on memory twice."""


class SqlJobDefinitions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, definition: JobDefinition) -> None:
        self._connection.execute(insert(job_definitions).values(definition_row(definition)))

    def find(self, id: UUID) -> JobDefinition | None:
        wanted = select(job_definitions).where(job_definitions.c.id == id).with_for_update()
        row = self._connection.execute(wanted).one_or_none()
        return None if row is None else to_definition(row)

    def due(self, now: datetime, limit: int) -> list[JobDefinition | UnknownJob]:
        wanted = (
            select(job_definitions)
            .where(job_definitions.c.next_due <= now)
            .order_by(job_definitions.c.next_due)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return _definitions(self._connection, _as_stored(self._connection.execute(wanted)))

    def move_on(self, definitions: Sequence[JobDefinition | UnknownJob]) -> None:
        rows = [{"id": definition.id, "next_due": definition.next_due} for definition in definitions]
        bulk.update(self._connection, job_definitions, rows)

    def delete(self, id: UUID) -> bool:
        return self._connection.execute(delete(job_definitions).where(job_definitions.c.id == id)).rowcount > 0


class SqlJobRuns:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, runs: Sequence[JobRun]) -> list[JobRun]:
        if not runs:
            return []
        new = insert_into(self._connection, job_runs).on_conflict_do_nothing().returning(job_runs.c.id)
        by_id = {run.id: run for run in runs}
        added = frozenset(self._connection.execute(new, [run_row(run) for run in by_id.values()]).scalars())
        return [run for run in by_id.values() if run.id in added]

    def find(self, id: UUID) -> JobRun | None:
        row = self._connection.execute(select(job_runs).where(job_runs.c.id == id).with_for_update()).one_or_none()
        return None if row is None else to_run(row)

    def save(self, run: JobRun) -> None:
        row = run_row(run)
        self._connection.execute(update(job_runs).where(job_runs.c.id == row.pop("id")).values(row))

    def owed(self, now: datetime, limit: int) -> list[JobRun]:
        wanted = (
            select(job_runs)
            .where(job_runs.c.ended_at.is_(None), job_runs.c.ticket_at <= now)
            .order_by(job_runs.c.ticket_at)
            .limit(limit)
        )
        return [to_run(row) for row in self._connection.execute(wanted)]

    def stuck(self, tickets: int, limit: int) -> list[JobRun]:
        wanted = (
            select(job_runs)
            .where(job_runs.c.ended_at.is_(None), job_runs.c.ticket_at.is_not(None), job_runs.c.tickets >= tickets)
            .order_by(job_runs.c.ticket_at)
            .limit(limit)
        )
        return [to_run(row) for row in self._connection.execute(wanted)]

    def ticketed(self, tickets: Sequence[Ticketed]) -> None:
        note_tickets(self._connection, job_runs, tickets)

    def waiting_for(self, administration: str, holder: str) -> list[JobRun]:
        wanted = (
            select(job_runs)
            .where(
                job_runs.c.administration == administration,
                job_runs.c.waits_for == holder,
                job_runs.c.state == RunState.WAITING.value,
            )
            .order_by(job_runs.c.created_at, job_runs.c.id)
            .with_for_update()
        )
        return [to_run(row) for row in self._connection.execute(wanted)]


class JobSqlQueries(SqlReads):
    def runs(self, administration: str, page: PageRequest, *, state: RunState | None = None) -> Page[JobRun]:
        newest = (job_runs.c.created_at, job_runs.c.id)
        wanted = select(job_runs).where(job_runs.c.administration == administration)
        if state is not None:
            wanted = wanted.where(job_runs.c.state == state.value)
        after = position_of(page, datetime.fromisoformat, UUID)
        if after is not None:
            wanted = wanted.where(tuple_(*newest) < after)
        wanted = wanted.order_by(*(column.desc() for column in newest)).limit(page.limit + 1)
        with self._connect() as connection:
            rows = connection.execute(wanted).all()
        return page_of(rows, page, build=to_run, position=lambda row: (rfc3339(row.created_at), str(row.id)))

    def run(self, administration: str, id: UUID) -> JobRun | None:
        wanted = select(job_runs).where(job_runs.c.id == id, job_runs.c.administration == administration)
        with self._connect() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else to_run(row)

    def definitions(self, administration: str) -> Sequence[JobDefinition]:
        wanted = select(job_definitions).where(job_definitions.c.administration == administration)
        with self._connect() as connection:
            rows = connection.execute(wanted.order_by(job_definitions.c.id)).all()
        return [to_definition(row) for row in rows]


def definition_row(definition: JobDefinition) -> dict[str, Any]:
    return {
        "id": definition.id,
        "administration": definition.administration,
        "type": definition.type.value,
        "parameters": dict(definition.parameters),
        "cron": definition.schedule.cron,
        "time_zone": definition.schedule.time_zone,
        "next_due": definition.next_due,
    }


def to_definition(row: Row[Any]) -> JobDefinition:
    return JobDefinition(
        id=row.id,
        administration=row.administration,
        type=JobType(row.type),
        parameters=row.parameters,
        schedule=Schedule(row.cron, row.time_zone),
        next_due=row.next_due,
    )


def _definitions(connection: Connection, stored: Iterable[Sequence[Any]]) -> list[JobDefinition | UnknownJob]:
    """From rows as the driver gives them: in a full minute thousands share one moment, schedule and parameters, so
    that these are made once."""
    to_id = _same if connection.dialect.name == POSTGRES else to_uuid
    to_parameters = cache(_from_stored(connection, job_definitions.c.parameters))
    to_moment = _from_stored(connection, job_definitions.c.next_due)

    @cache
    def shared(
        type: str, told: Any, cron: str, time_zone: str, due: Any
    ) -> tuple[JobType | None, Any, Schedule, datetime]:
        return _TYPES.get(type), to_parameters(told), Schedule(cron, time_zone), to_moment(due)

    definitions: list[JobDefinition | UnknownJob] = []
    for id, administration, type, told, cron, time_zone, due in stored:
        job_type, parameters, schedule, next_due = shared(type, told, cron, time_zone, due)
        if job_type is None:
            unknown = UnknownJob(id=to_id(id), administration=administration, type=type, next_due=next_due)
            definitions.append(unknown)
            continue
        definitions.append(
            JobDefinition(
                id=to_id(id),
                administration=administration,
                type=job_type,
                parameters=parameters,
                schedule=schedule,
                next_due=next_due,
            )
        )
    return definitions


def _as_stored(result: CursorResult[Any]) -> Iterable[Sequence[Any]]:
    """The rows as the driver gives them."""
    cursor = result.cursor
    assert cursor is not None, "the statement returns rows"
    return chain.from_iterable(iter(partial(cursor.fetchmany, AT_ONCE), []))


def _from_stored(connection: Connection, column: Column[Any]) -> Callable[[Any], Any]:
    dialect = connection.dialect
    return column.type.dialect_impl(dialect).result_processor(dialect, None) or _same


def _same(stored: Any) -> Any:
    return stored


def run_row(run: JobRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "administration": run.administration,
        "type": run.type.value,
        "parameters": dict(run.parameters),
        "state": run.state.value,
        "definition_id": run.definition_id,
        "due_at": run.due_at,
        "missed": run.missed,
        "triggered_by": run.triggered_by,
        "correlation_id": run.correlation_id,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "heartbeat_at": run.heartbeat_at,
        "progress_done": run.progress.done,
        "progress_total": run.progress.total,
        "progress_text": run.progress.text,
        "tries": run.tries,
        "deaths": run.deaths,
        "message": run.message,
        "waits_for": run.waits_for,
        "merged_into": run.merged_into,
        "ticket_at": run.ticket_at,
        "tickets": run.tickets,
        "result": None if run.result is None else dict(run.result),
        "reason": run.reason,
    }


def to_run(row: Row[Any]) -> JobRun:
    return JobRun(
        id=row.id,
        administration=row.administration,
        type=JobType(row.type),
        parameters=row.parameters,
        state=RunState(row.state),
        definition_id=row.definition_id,
        due_at=row.due_at,
        missed=row.missed,
        triggered_by=row.triggered_by,
        correlation_id=row.correlation_id,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        heartbeat_at=row.heartbeat_at,
        progress=Progress(done=row.progress_done, total=row.progress_total, text=row.progress_text),
        tries=row.tries,
        deaths=row.deaths,
        message=row.message,
        waits_for=row.waits_for,
        merged_into=row.merged_into,
        ticket_at=row.ticket_at,
        tickets=row.tickets,
        result=row.result,
        reason=row.reason,
    )
