from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import evolve

from ordersync_core.jobs.model import JobDefinition, JobRun, RunState, UnknownJob
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.memory.pages import page_of
from ordersync_core.testing.memory.tickets import note_tickets
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction, json_copy

DEFINITIONS = Table[UUID, JobDefinition]("job_definitions")
RUNS = Table[UUID, JobRun]("job_runs")
DUE_MOMENTS = Table[tuple[UUID, datetime], UUID]("job_runs by due moment")


class MemoryJobDefinitionRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, definition: JobDefinition) -> None:
        self._transaction.insert(DEFINITIONS, definition.id, _stored_definition(definition))

    def find(self, id: UUID) -> JobDefinition | None:
        return self._transaction.find(DEFINITIONS, id)

    def due(self, now: datetime, limit: int) -> list[JobDefinition]:
        found: list[JobDefinition] = []
        for id in self._ids_of_due(now):
            if len(found) == limit:
                break
            if not self._transaction.try_lock(DEFINITIONS, id):
                continue
            definition = self._transaction.row(DEFINITIONS, id)
            if definition is not None and _due_at(definition, now) is not None:
                found.append(definition)
        return found

    def move_on(self, definitions: Sequence[JobDefinition | UnknownJob]) -> None:
        for moved in sorted(definitions, key=lambda definition: definition.id):
            kept = self._transaction.find(DEFINITIONS, moved.id)
            if kept is not None:
                self._transaction.replace(DEFINITIONS, moved.id, evolve(kept, next_due=moved.next_due))

    def delete(self, id: UUID) -> bool:
        return self._transaction.delete(DEFINITIONS, id)

    def _ids_of_due(self, now: datetime) -> list[UUID]:
        definitions = self._transaction.rows(DEFINITIONS).values()
        due = [(due_at, d.id) for d in definitions if (due_at := _due_at(d, now)) is not None]
        return [id for _, id in sorted(due)]


class MemoryJobRunRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, runs: Sequence[JobRun]) -> list[JobRun]:
        return [run for run in runs if self._add(run)]

    def find(self, id: UUID) -> JobRun | None:
        return self._transaction.find(RUNS, id)

    def save(self, run: JobRun) -> None:
        self._transaction.replace(RUNS, run.id, _stored_run(run))

    def owed(self, now: datetime, limit: int) -> list[JobRun]:
        return [run for ticket_at, _, run in self._owing() if ticket_at <= now][:limit]

    def stuck(self, tickets: int, limit: int) -> list[JobRun]:
        return [run for _, _, run in self._owing() if run.tickets >= tickets][:limit]

    def ticketed(self, tickets: Sequence[Ticketed]) -> None:
        note_tickets(self._transaction, RUNS, tickets)

    def waiting_for(self, administration: str, holder: str) -> list[JobRun]:
        return self._transaction.select(
            RUNS,
            lambda run: (
                run.administration == administration and run.state is RunState.WAITING and run.waits_for == holder
            ),
            order=lambda run: (run.created_at, run.id),
        )

    def _owing(self) -> list[tuple[datetime, UUID, JobRun]]:
        """Those that owe a ticket now or later, by its moment."""
        runs = self._transaction.rows(RUNS).values()
        owing = [(run.ticket_at, run.id, run) for run in runs if not run.state.ended and run.ticket_at is not None]
        return sorted(owing, key=lambda entry: entry[:2])

    def _add(self, run: JobRun) -> bool:
        if self._transaction.row(RUNS, run.id) is not None:
            return False
        if run.definition_id is not None and run.due_at is not None:
            moment = (run.definition_id, run.due_at)
            if not self._transaction.insert_absent(DUE_MOMENTS, moment, run.id):
                return False
        return self._transaction.insert_absent(RUNS, run.id, _stored_run(run))


class MemoryJobQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def runs(self, administration: str, page: PageRequest, *, state: RunState | None = None) -> Page[JobRun]:
        wanted = [
            run
            for run in self._database.rows(RUNS).values()
            if run.administration == administration and state in (None, run.state)
        ]
        return page_of(
            wanted, page, lambda run: (run.created_at, run.id), datetime.fromisoformat, UUID, descending=True
        )

    def run(self, administration: str, id: UUID) -> JobRun | None:
        run = self._database.row(RUNS, id)
        return run if run is not None and run.administration == administration else None

    def definitions(self, administration: str) -> Sequence[JobDefinition]:
        definitions = self._database.rows(DEFINITIONS).values()
        return sorted((d for d in definitions if d.administration == administration), key=lambda d: d.id)


def _due_at(definition: JobDefinition, now: datetime) -> datetime | None:
    """The moment that has come; None while it has not."""
    return definition.next_due if definition.next_due is not None and definition.next_due <= now else None


def _stored_definition(definition: JobDefinition) -> JobDefinition:
    return evolve(definition, parameters=json_copy(definition.parameters))


def _stored_run(run: JobRun) -> JobRun:
    result: Any = json_copy(run.result)
    return evolve(run, parameters=json_copy(run.parameters), result=result)
