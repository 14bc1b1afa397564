from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from ordersync_adapters.sql.flows import FlowSqlQueries, SqlExecutions, SqlFlows, SqlQuarantine
from ordersync_adapters.sql.tables.flows import execution_log, quarantine
from ordersync_adapters.sql.tables.flows import flows as flow_rows
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.transactions import commit
from ordersync_core.flows.model import Execution, Flow, FlowKind, Quarantined, Step
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.testing.strategies import executions, flows, moments, names, quarantined
from tests.adapters.sql.stores import Store, plans_of

ITEM = FlowKind.ITEM
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

on_a_store = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _emptied(store: Store) -> Iterator[None]:
    """The flow of a kind is the only one of its kind, so tests cannot keep apart by ids of their own."""
    yield
    with store.transaction() as transaction:
        for table in (quarantine, execution_log, outbox):
            transaction.execute(delete(table))
        commit(transaction)


@on_a_store
@given(flow=flows(), later=flows())
def test_a_flow_survives_its_row_and_the_latest_is_kept(store: Store, flow: Flow, later: Flow) -> None:
    with store.transaction() as transaction:
        repository = SqlFlows(transaction)
        assert repository.find(flow.kind) is None
        repository.save(flow)
        assert repository.find(flow.kind) == flow
        repository.save(later)
        assert repository.find(later.kind) == later


@on_a_store
@given(execution=executions(), later=executions())
def test_an_execution_survives_its_row_and_goes_on_counting(
    store: Store, execution: Execution, later: Execution
) -> None:
    with store.transaction() as transaction:
        repository = SqlExecutions(transaction)
        assert repository.find(execution.run_id) is None
        repository.save(execution)
        assert repository.find(execution.run_id) == execution
        repository.save(evolve(later, run_id=execution.run_id))
        assert repository.find(execution.run_id) == evolve(later, run_id=execution.run_id)


@on_a_store
@given(entries=st.lists(quarantined(), max_size=6, unique_by=lambda entry: entry.key), data=st.data())
def test_an_entry_in_quarantine_keeps_the_moment_since_when_it_lies_there(
    store: Store, entries: list[Quarantined], data: st.DataObject
) -> None:
    renewed = [evolve(data.draw(quarantined()), key=entry.key) for entry in entries[::2]]
    expected = {entry.key: entry for entry in entries}
    expected |= {entry.key: evolve(entry, since=expected[entry.key].since) for entry in renewed}
    cleared = [entry.key for entry in entries[::3]]
    with store.transaction() as transaction:
        repository = SqlQuarantine(transaction)
        repository.save(ITEM, entries)
        repository.save(ITEM, renewed)
        assert repository.keys(ITEM) == sorted(expected)
        # the queries' own statements, in this transaction
        page = FlowSqlQueries(lambda: nullcontext(transaction)).quarantine(ITEM, PageRequest())
        assert list(page.rows) == [expected[key] for key in sorted(expected)]
        repository.clear(ITEM, [*cleared, "no such key"])
        assert repository.keys(ITEM) == sorted(expected.keys() - set(cleared))


def test_quarantine_takes_a_large_batch_in_few_statements(store: Store) -> None:
    entries = [Quarantined(key=f"{n:05}", reason="broken", raw={"n": n}, since=NOON) for n in range(2_000)]
    with store.transaction() as transaction:
        repository = SqlQuarantine(transaction)
        assert len(plans_of(transaction, lambda: repository.clear(ITEM, [entry.key for entry in entries]))) == 1
        repository.save(ITEM, entries)
        repository.save(ITEM, [evolve(entry, since=NOON + timedelta(1)) for entry in entries])
        assert repository.keys(ITEM) == [entry.key for entry in entries]
        _, plan = plans_of(transaction, lambda: repository.clear(ITEM, ["00001", "00002"]))
        assert "pk_quarantine" in plan or "sqlite_autoindex_quarantine_1" in plan


@on_a_store
@given(
    wanted=st.lists(st.tuples(moments() | st.just(NOON), st.uuids()), max_size=7, unique_by=lambda started: started[1]),
    limit=st.integers(1, 4),
)
def test_executions_are_listed_the_newest_first(store: Store, wanted: list[tuple[datetime, UUID]], limit: int) -> None:
    with store.transaction() as transaction:
        repository = SqlExecutions(transaction)
        for started_at, run_id in wanted:
            repository.save(Execution(run_id=run_id, kind=ITEM, started_at=started_at))
        queries = FlowSqlQueries(lambda: nullcontext(transaction))
        found: list[Execution] = []
        page = queries.executions(ITEM, PageRequest(limit=limit))
        found += page.rows
        while page.next is not None:
            assert len(page.rows) == limit
            page = queries.executions(ITEM, PageRequest(limit=limit, after=page.next))
            found += page.rows
    assert [(one.started_at, one.run_id) for one in found] == sorted(wanted, reverse=True)


@on_a_store
@given(keys=st.lists(names(), max_size=7, unique=True), limit=st.integers(1, 4))
def test_quarantine_is_listed_by_key(store: Store, keys: list[str], limit: int) -> None:
    with store.transaction() as transaction:
        entries = [Quarantined(key=key, reason="broken", raw=None, since=NOON) for key in keys]
        SqlQuarantine(transaction).save(ITEM, entries)
        queries = FlowSqlQueries(lambda: nullcontext(transaction))
        found: list[str] = []
        after = None
        while True:
            page = queries.quarantine(ITEM, PageRequest(limit=limit, after=after))
            found += [entry.key for entry in page.rows]
            if page.next is None:
                break
            after = page.next
    assert found == sorted(keys)


def test_queries_see_what_is_committed(store: Store) -> None:
    flow = Flow(kind=ITEM, source=Step(connection_id=uuid4(), aspects=("name",)))
    execution = Execution(run_id=uuid4(), kind=ITEM, started_at=NOON)
    queries = FlowSqlQueries(store.read)
    with store.transaction() as transaction:
        SqlFlows(transaction).save(flow)
        SqlExecutions(transaction).save(execution)
        assert queries.execution(execution.run_id) is None
        commit(transaction)
    assert queries.flow(ITEM) == flow
    assert queries.execution(execution.run_id) == execution
    assert queries.execution(uuid4()) is None
    with pytest.raises(InvalidInput):
        queries.executions(ITEM, PageRequest(after=("not a moment", "not an id")))
    with store.transaction() as transaction:
        transaction.execute(delete(flow_rows))
        commit(transaction)
