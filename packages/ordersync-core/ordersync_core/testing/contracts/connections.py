"""Connections of a tenant, and the rows behind the OAuth parameter `state`."""

from uuid import UUID

import pytest
from attrs import evolve

from ordersync_core.connections.model import AuthorisationState, Connection, ConnectionState
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.contracts.databases import (
    DatabasesContract,
    hesitate,
    open_admin,
    open_tenant,
    queries,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import (
    CONNECTOR,
    ENTITY,
    MINUTE,
    NOON,
    a_connection,
    a_flow,
    a_record,
    an_authorisation_state,
    new_id,
)


class ConnectionsContract(DatabasesContract):
    def test_a_connection_comes_back_as_it_was_added(self, databases: Databases) -> None:
        bare = a_connection()
        full = a_connection(
            state=ConnectionState.CONNECTED,
            tokens=b"\x00\xfftokens",
            refreshing_since=NOON + MINUTE,
            settings={"nested": {"list": [1, None, "x"]}, "empty": {}},
        )
        add(databases, bare, full)

        for connection in (bare, full):
            with open_tenant(databases) as uow:
                assert uow.connections.find(connection.id) == connection
            assert queries(databases).connection(connection.id) == connection

    def test_one_that_was_never_added_is_not_there(self, databases: Databases) -> None:
        with open_tenant(databases) as uow:
            assert uow.connections.find(new_id()) is None
            assert uow.connections.all() == []
        assert queries(databases).connection(new_id()) is None

    def test_adding_it_twice_is_refused(self, databases: Databases) -> None:
        connection = a_connection()
        add(databases, connection)

        with pytest.raises(ChangedMeanwhile):
            add(databases, connection)

    def test_all_are_listed(self, databases: Databases) -> None:
        connections = [a_connection() for _ in range(3)]
        add(databases, *connections)

        with open_tenant(databases) as uow:
            listed = uow.connections.all()
        assert sorted(listed, key=lambda c: c.id) == sorted(connections, key=lambda c: c.id)
        assert sorted(queries(databases).connections(), key=lambda c: c.id) == sorted(connections, key=lambda c: c.id)

    def test_saving_replaces(self, databases: Databases) -> None:
        connection, other = a_connection(), a_connection()
        add(databases, connection, other)
        changed = evolve(connection.authorised(b"tokens"), name="Their books", settings={}, refreshing_since=NOON)
        with open_tenant(databases) as uow:
            uow.connections.save(changed)
            uow.commit()
        assert queries(databases).connection(connection.id) == changed

        with open_tenant(databases) as uow:
            uow.connections.save(connection)
            uow.commit()
        assert queries(databases).connection(connection.id) == connection
        assert queries(databases).connection(other.id) == other

    def test_a_deleted_connection_is_gone(self, databases: Databases) -> None:
        connection, other = a_connection(), a_connection()
        add(databases, connection, other)
        with open_tenant(databases) as uow:
            uow.connections.delete(connection.id)
            uow.connections.delete(new_id())
            uow.commit()

        assert list(queries(databases).connections()) == [other]

    def test_a_deleted_connection_takes_along_what_was_read_over_it(self, databases: Databases) -> None:
        connection, other = a_connection(), a_connection()
        add(databases, connection, other)
        with open_tenant(databases) as uow:
            for kept in (connection, other):
                for entity in (ENTITY, "customer"):
                    raw = uow.raw(CONNECTOR, kept.id, entity)
                    raw.save([a_record("K"), a_record("L")])
                    raw.save_tombstones({"M": 7})
                    raw.save_cursor({"timestamp": 7})
            uow.commit()
        with open_tenant(databases) as uow:
            uow.connections.delete(connection.id)
            uow.commit()

        with open_tenant(databases) as uow:
            for entity in (ENTITY, "customer"):
                gone, kept = uow.raw(CONNECTOR, connection.id, entity), uow.raw(CONNECTOR, other.id, entity)
                assert (gone.count(), gone.tombstones(["M"]), gone.cursor()) == ((0, 0), {}, None)
                assert (kept.count(), kept.tombstones(["M"]), kept.cursor()) == ((2, 0), {"M": 7}, {"timestamp": 7})

    def test_the_flows_of_a_connection(self, databases: Databases) -> None:
        flow, connection = a_flow(), a_connection()
        add(databases, connection)
        with open_tenant(databases) as uow:
            uow.flows.save(flow)
            uow.commit()

        with open_tenant(databases) as uow:
            assert list(uow.connections.flows_of(flow.source.connection_id)) == [flow.kind.value]
            assert list(uow.connections.flows_of(connection.id)) == []

    def test_no_update_is_lost(self, databases: Databases) -> None:
        connection = a_connection(settings={"count": 0})
        add(databases, connection)

        def count() -> None:
            with open_tenant(databases) as uow:
                kept = uow.connections.find(connection.id)
                hesitate()
                uow.connections.save(evolve(kept, settings={"count": kept.settings["count"] + 1}))
                uow.commit()

        together(*[lambda: retried(count)] * 8)

        assert queries(databases).connection(connection.id).settings == {"count": 8}

    # authorisation states

    def test_a_state_is_good_for_one_answer(self, databases: Databases) -> None:
        state, other = an_authorisation_state(), an_authorisation_state()
        begin(databases, state, other)

        assert self.take(databases, state.id) == state
        assert self.take(databases, state.id) is None
        assert self.take(databases, other.id) == other
        assert self.take(databases, new_id()) is None

    def test_an_answer_that_is_not_committed_uses_nothing(self, databases: Databases) -> None:
        state = an_authorisation_state()
        begin(databases, state)
        with open_admin(databases) as uow:
            assert uow.authorisation_states.take(state.id) == state

        assert self.take(databases, state.id) == state

    def test_of_many_answers_at_once_one_is_believed(self, databases: Databases) -> None:
        state = an_authorisation_state()
        begin(databases, state)

        taken = together(*[lambda: retried(lambda: self.take(databases, state.id))] * 6)

        assert [found for found in taken if found is not None] == [state]

    def take(self, databases: Databases, id: UUID) -> AuthorisationState | None:
        with open_admin(databases) as uow:
            state: AuthorisationState | None = uow.authorisation_states.take(id)
            hesitate()
            uow.commit()
            return state


def add(databases: Databases, *connections: Connection) -> None:
    with open_tenant(databases) as uow:
        for connection in connections:
            uow.connections.add(connection)
        uow.commit()


def begin(databases: Databases, *states: AuthorisationState) -> None:
    with open_admin(databases) as uow:
        for state in states:
            uow.authorisation_states.add(state)
        uow.commit()
