from datetime import UTC, datetime
from uuid import UUID, uuid4

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ordersync_adapters.sql.connections import ConnectionSqlQueries, SqlAuthorisationStates, SqlConnections
from ordersync_adapters.sql.raw import SqlRaw
from ordersync_adapters.sql.transactions import commit
from ordersync_core.connections.model import AuthorisationState, Connection
from ordersync_core.flows.model import KnownRecord, RawRecord
from ordersync_core.testing.strategies import authorisation_states, connections
from tests.adapters.sql.stores import Store

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

on_a_store = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@on_a_store
@given(connection=connections())
def test_a_connection_survives_its_row(store: Store, connection: Connection) -> None:
    with store.transaction() as transaction:
        repository = SqlConnections(transaction)
        assert repository.find(connection.id) is None
        repository.add(connection)
        assert repository.find(connection.id) == connection
        assert connection in repository.all()


@on_a_store
@given(connection=connections(), wanted=connections())
def test_a_saved_connection_takes_the_place_of_the_one_before(
    store: Store, connection: Connection, wanted: Connection
) -> None:
    changed = evolve(wanted, id=connection.id)
    with store.transaction() as transaction:
        repository = SqlConnections(transaction)
        repository.add(connection)
        repository.save(changed)
        assert repository.find(connection.id) == changed


@on_a_store
@given(wanted=st.lists(connections(), max_size=4, unique_by=lambda connection: connection.id))
def test_all_connections_come_the_oldest_first(store: Store, wanted: list[Connection]) -> None:
    with store.transaction() as transaction:
        repository = SqlConnections(transaction)
        for connection in wanted:
            repository.add(connection)
        ids = {connection.id for connection in wanted}
        found = [connection for connection in repository.all() if connection.id in ids]
    assert found == sorted(wanted, key=lambda connection: (connection.created_at, connection.id))


def test_a_deleted_connection_takes_its_cursors_and_raw_records_along(store: Store) -> None:
    gone, other = (a_connection(store) for _ in range(2))
    record = RawRecord(known=KnownRecord(key="k", content_hash="h", source_version=None), raw={})
    with store.transaction() as transaction:
        raws = {id: SqlRaw(transaction, "exact_online", id, "item") for id in (gone, other)}
        for raw in raws.values():
            raw.save([record])
            raw.save_cursor({"timestamp": 5})
            raw.save_tombstones({"k": 4})
        repository = SqlConnections(transaction)
        repository.delete(gone)
        assert repository.find(gone) is None
        assert (raws[gone].count(), raws[gone].cursor(), raws[gone].tombstones(["k"])) == ((0, 0), None, {})
        assert repository.find(other) is not None
        assert (raws[other].count(), raws[other].cursor()) == ((1, 0), {"timestamp": 5})
        assert raws[other].tombstones(["k"]) == {"k": 4}
        repository.delete(gone)


@on_a_store
@given(state=authorisation_states())
def test_an_authorisation_state_can_be_taken_once(store: Store, state: AuthorisationState) -> None:
    with store.transaction() as transaction:
        repository = SqlAuthorisationStates(transaction)
        repository.add(state)
        assert repository.take(uuid4()) is None
        assert repository.take(state.id) == state
        assert repository.take(state.id) is None


def test_queries_see_what_is_committed(store: Store) -> None:
    queries = ConnectionSqlQueries(store.read)
    id = a_connection(store)
    found = queries.connection(id)
    assert found is not None
    assert found in queries.connections()
    assert queries.connection(uuid4()) is None
    with store.transaction() as transaction:
        SqlConnections(transaction).delete(id)
    assert queries.connection(id) == found


def a_connection(store: Store) -> UUID:
    """The id of a new one, committed."""
    connection = Connection(
        id=uuid4(), connector="exact_online", name="ERP", settings={}, secret_settings=b"sealed", created_at=NOON
    )
    with store.transaction() as transaction:
        SqlConnections(transaction).add(connection)
        commit(transaction)
    return connection.id
