from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, text, update

from ordersync_adapters.sql.jobs import JobSqlQueries, SqlJobDefinitions, SqlJobRuns
from ordersync_adapters.sql.tables.jobs import job_definitions, job_runs
from ordersync_adapters.sql.transactions import commit
from ordersync_core.jobs.model import JobDefinition, JobRun, JobType, RunState, UnknownJob, due_run
from ordersync_core.jobs.schedule import Schedule
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing import strategies
from tests.adapters.sql.stores import Store, plans_of, postgres_store
from tests.postgres import PostgresServer

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EVERY_MINUTE = Schedule("* * * * *", "UTC")

on_a_store = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

DEFINITIONS = st.lists(strategies.job_definitions(), max_size=6, unique_by=lambda definition: definition.id)
RUNS = st.lists(
    strategies.job_runs(administrations=st.sampled_from(("alpha", "beta"))),
    max_size=6,
    unique_by=(lambda run: run.id, lambda run: (run.definition_id or run.id, run.due_at)),
)


@pytest.fixture(autouse=True)
def _emptied(store: Store) -> Iterator[None]:
    """What is due or owed is so for all administrations, so tests cannot keep apart by ids of their own."""
    yield
    with store.transaction() as transaction:
        transaction.execute(delete(job_runs))
        transaction.execute(delete(job_definitions))
        commit(transaction)


def a_definition(*, next_due: datetime | None = NOON) -> JobDefinition:
    return JobDefinition(
        id=uuid4(), administration="alpha", type=JobType.ITEM_SYNC, schedule=EVERY_MINUTE, next_due=next_due
    )


def a_run(*, definition_id: UUID | None = None, due_at: datetime | None = None) -> JobRun:
    return JobRun(
        id=uuid4(),
        administration="alpha",
        type=JobType.ITEM_SYNC,
        definition_id=definition_id,
        due_at=due_at,
        triggered_by="a test",
        correlation_id="a request",
        created_at=NOON,
        ticket_at=NOON,
        tickets=1,
    )


def committed(store: Store, *, definitions: Sequence[JobDefinition] = (), runs: Sequence[JobRun] = ()) -> None:
    with store.transaction() as transaction:
        for definition in definitions:
            SqlJobDefinitions(transaction).add(definition)
        SqlJobRuns(transaction).add(runs)
        commit(transaction)


def analyse(transaction: Connection, table: str) -> None:
    """As Postgres does by itself now and then."""
    if transaction.dialect.name == "postgresql":
        transaction.execute(text(f"ANALYZE {table}"))


# Definitions


@on_a_store
@given(definition=strategies.job_definitions(), later=strategies.job_definitions())
def test_a_definition_survives_its_row(store: Store, definition: JobDefinition, later: JobDefinition) -> None:
    with store.transaction() as transaction:
        repository = SqlJobDefinitions(transaction)
        assert repository.find(definition.id) is None
        repository.add(definition)
        assert repository.find(definition.id) == definition
        repository.move_on([evolve(later, id=definition.id)])
        assert repository.find(definition.id) == evolve(definition, next_due=later.next_due)
        assert repository.delete(definition.id)
        assert not repository.delete(definition.id)
        assert repository.find(definition.id) is None


@on_a_store
@given(definitions=DEFINITIONS, now=strategies.moments(), limit=st.integers(1, 6))
def test_due_are_the_most_overdue_first(
    store: Store, definitions: list[JobDefinition], now: datetime, limit: int
) -> None:
    with store.transaction() as transaction:
        repository = SqlJobDefinitions(transaction)
        for definition in definitions:
            repository.add(definition)
        found = repository.due(now, limit)
        moments = sorted(d.next_due for d in definitions if d.next_due is not None and d.next_due <= now)
        assert [definition.next_due for definition in found] == moments[:limit]
        assert all(definition in definitions for definition in found)
        repository.move_on([evolve(definition, next_due=None) for definition in found])
        assert len(repository.due(now, 100)) == len(moments) - len(found)


def test_many_definitions_are_moved_on_in_few_statements(store: Store) -> None:
    definitions = [a_definition() for _ in range(500)]
    committed(store, definitions=definitions)
    with store.transaction() as transaction:
        analyse(transaction, "job_definitions")
        repository = SqlJobDefinitions(transaction)
        due = repository.due(NOON, 1_000)
        assert len(due) == 500
        (plan,) = plans_of(transaction, lambda: repository.due(NOON - MINUTE, 500))
        assert "ix_job_definitions_due" in plan
        repository.move_on([evolve(definition, next_due=NOON + MINUTE) for definition in due])
        assert repository.due(NOON, 1_000) == []
        assert len(repository.due(NOON + MINUTE, 1_000)) == 500


def test_a_definition_of_a_job_that_is_not_known_comes_with_the_others_and_moves_on(store: Store) -> None:
    known, unknown = a_definition(), a_definition()
    committed(store, definitions=[known, unknown])
    with store.transaction() as transaction:
        transaction.execute(
            update(job_definitions).where(job_definitions.c.id == unknown.id).values(type="StockForecast")
        )
        repository = SqlJobDefinitions(transaction)
        found = {definition.id: definition for definition in repository.due(NOON, 10)}
        expected = UnknownJob(id=unknown.id, administration="alpha", type="StockForecast", next_due=NOON)
        assert found == {known.id: known, unknown.id: expected}
        with pytest.raises(InvalidInput, match="StockForecast"):
            due_run(expected, now=NOON, ticket_at=NOON, correlation_id="a request")
        repository.move_on([evolve(expected, next_due=None)])
        assert repository.due(NOON, 10) == [known]


def test_what_another_transaction_holds_is_passed_over(postgres: PostgresServer) -> None:
    """On Postgres; SQLite lets one writer in at a time."""
    with postgres_store(postgres) as store:
        committed(store, definitions=[a_definition(), a_definition()])
        with store.transaction() as one, store.transaction() as other:
            (first,) = SqlJobDefinitions(one).due(NOON, 1)
            (second,) = SqlJobDefinitions(other).due(NOON, 10)
            assert first.id != second.id


# Runs


@on_a_store
@given(run=strategies.job_runs(), later=strategies.job_runs())
def test_a_run_survives_its_row(store: Store, run: JobRun, later: JobRun) -> None:
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        assert repository.find(run.id) is None
        assert repository.add([run]) == [run]
        assert repository.find(run.id) == run
        repository.save(evolve(later, id=run.id))
        assert repository.find(run.id) == evolve(later, id=run.id)


@on_a_store
@given(runs=RUNS, data=st.data())
def test_adding_leaves_out_what_is_there_by_id_or_by_definition_and_moment(
    store: Store, runs: list[JobRun], data: st.DataObject
) -> None:
    earlier = data.draw(st.lists(st.sampled_from(runs), unique_by=lambda run: run.id)) if runs else []
    twins = [evolve(run, id=uuid4()) for run in runs if run.definition_id is not None]
    ids = {run.id for run in earlier}
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        assert repository.add(earlier) == earlier
        changed = [evolve(run, tries=run.tries + 1) for run in runs]
        assert repository.add([*changed, *changed, *twins]) == [run for run in changed if run.id not in ids]
        for run, later in zip(runs, changed, strict=True):
            assert repository.find(run.id) == (run if run.id in ids else later)
        assert repository.add([]) == []


def test_a_whole_batch_of_runs_is_added_at_once(store: Store) -> None:
    runs = [a_run(definition_id=uuid4(), due_at=NOON) for _ in range(2_500)]
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        assert repository.add(runs[::2]) == runs[::2]
        assert repository.add(runs) == runs[1::2]


def test_two_processes_that_make_the_run_of_one_moment_make_one(store: Store) -> None:
    definition_id = uuid4()
    with store.transaction() as transaction:
        (kept,) = SqlJobRuns(transaction).add([a_run(definition_id=definition_id, due_at=NOON)])
        commit(transaction)
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        assert repository.add([a_run(definition_id=definition_id, due_at=NOON)]) == []
        later = a_run(definition_id=definition_id, due_at=NOON + MINUTE)
        assert repository.add([later]) == [later]
        assert repository.find(kept.id) == kept


@on_a_store
@given(runs=RUNS, now=strategies.moments(), limit=st.integers(1, 6))
def test_owed_are_tickets_of_runs_that_have_not_ended(
    store: Store, runs: list[JobRun], now: datetime, limit: int
) -> None:
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        repository.add(runs)
        found = repository.owed(now, limit)
    owing = [r for r in runs if not r.state.ended and r.ticket_at is not None and r.ticket_at <= now]
    moments = sorted(run.ticket_at for run in owing if run.ticket_at is not None)
    assert [run.ticket_at for run in found] == moments[:limit]
    assert all(run in owing for run in found)


def test_a_ticket_is_noted_only_while_the_run_has_not_moved_on(store: Store) -> None:
    still, moved_on = a_run(), a_run()
    committed(store, runs=[still, moved_on])
    later = NOON + 5 * MINUTE
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        repository.save(moved_on.start(at=NOON).succeed({}, at=NOON))
        tickets = [Ticketed(id=run.id, was=NOON, tickets=2, ticket_at=later) for run in (still, moved_on, a_run())]
        repository.ticketed(tickets)
        assert repository.find(still.id) == evolve(still, tickets=2, ticket_at=later)
        assert repository.find(moved_on.id) == moved_on.start(at=NOON).succeed({}, at=NOON)
        repository.ticketed(tickets)
        assert repository.find(still.id) == evolve(still, tickets=2, ticket_at=later)
        repository.ticketed([])


@on_a_store
@given(runs=RUNS)
def test_waiting_are_the_runs_of_one_administration_that_wait_for_the_holder(store: Store, runs: list[JobRun]) -> None:
    with store.transaction() as transaction:
        repository = SqlJobRuns(transaction)
        repository.add(runs)
        found = repository.waiting_for("alpha", "flow:item")
        assert repository.waiting_for("alpha", "flow:customer") == []
    waiting = [run for run in runs if run.administration == "alpha" and run.waits_for == "flow:item"]
    assert found == sorted(waiting, key=lambda run: (run.created_at, run.id))


def test_each_question_has_an_index(store: Store) -> None:
    committed(store, runs=[a_run().start(at=NOON).succeed({}, at=NOON) for _ in range(2_000)])
    with store.transaction() as transaction:
        analyse(transaction, "job_runs")
        repository = SqlJobRuns(transaction)
        queries = JobSqlQueries(lambda: nullcontext(transaction))
        (owed,) = plans_of(transaction, lambda: repository.owed(NOON, 500))
        (stuck,) = plans_of(transaction, lambda: repository.stuck(3, 500))
        (waiting,) = plans_of(transaction, lambda: repository.waiting_for("alpha", "flow:item"))
        (listed,) = plans_of(transaction, lambda: queries.runs("alpha", PageRequest()))
    assert "ix_job_runs_owed" in owed
    assert "ix_job_runs_owed" in stuck
    assert "ix_job_runs_waiting" in waiting
    assert "ix_job_runs_listing" in listed
    assert "sort" not in listed.lower()
    assert "temp b-tree" not in listed.lower()


# Queries


@on_a_store
@given(runs=RUNS, state=st.none() | st.sampled_from(RunState), limit=st.integers(1, 4))
def test_runs_are_listed_the_newest_first(store: Store, runs: list[JobRun], state: RunState | None, limit: int) -> None:
    with store.transaction() as transaction:
        SqlJobRuns(transaction).add(runs)
        queries = JobSqlQueries(lambda: nullcontext(transaction))
        found: list[JobRun] = []
        page = queries.runs("alpha", PageRequest(limit=limit), state=state)
        found += page.rows
        while page.next is not None:
            page = queries.runs("alpha", PageRequest(limit=limit, after=page.next), state=state)
            found += page.rows
    wanted = [run for run in runs if run.administration == "alpha" and state in (None, run.state)]
    assert found == sorted(wanted, key=lambda run: (run.created_at, run.id), reverse=True)


def test_queries_show_an_administration_its_own_rows_only(store: Store) -> None:
    definition, run = a_definition(), a_run()
    committed(store, definitions=[definition], runs=[run])
    queries = JobSqlQueries(store.read)
    assert queries.run("alpha", run.id) == run
    assert queries.run("beta", run.id) is None
    assert queries.run("alpha", uuid4()) is None
    assert list(queries.definitions("alpha")) == [definition]
    assert list(queries.definitions("beta")) == []
    assert list(queries.runs("beta", PageRequest()).rows) == []
    with pytest.raises(InvalidInput):
        queries.runs("alpha", PageRequest(after=("only one part",)))
