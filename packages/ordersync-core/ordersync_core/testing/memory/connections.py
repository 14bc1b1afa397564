from collections.abc import Sequence
from uuid import UUID

from attrs import evolve

from ordersync_core.connections.model import AuthorisationState, Connection
from ordersync_core.testing.memory.flows import CURSORS, FLOWS, tables_of
from ordersync_core.testing.memory.transaction import MemoryDatabase, Reader, Table, Transaction, json_copy

CONNECTIONS = Table[UUID, Connection]("connections")
AUTHORISATION_STATES = Table[UUID, AuthorisationState]("authorisation_states")


class MemoryConnectionRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, connection: Connection) -> None:
        self._transaction.insert(CONNECTIONS, connection.id, _stored(connection))

    def find(self, id: UUID) -> Connection | None:
        return self._transaction.find(CONNECTIONS, id)

    def all(self) -> list[Connection]:
        return _all(self._transaction)

    def save(self, connection: Connection) -> None:
        self._transaction.replace(CONNECTIONS, connection.id, _stored(connection))

    def flows_of(self, id: UUID) -> Sequence[str]:
        flows = self._transaction.rows(FLOWS).values()
        return [flow.kind.value for flow in flows if flow.source.connection_id == id]

    def delete(self, id: UUID) -> None:
        for place in self._transaction.rows(CURSORS):
            if place[0] == id:
                self._transaction.delete(CURSORS, place)
        for table in tables_of(self._transaction, id):
            for key in sorted(self._transaction.rows(table)):
                self._transaction.delete(table, key)
        self._transaction.delete(CONNECTIONS, id)


class MemoryAuthorisationStateRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, state: AuthorisationState) -> None:
        self._transaction.insert(AUTHORISATION_STATES, state.id, state)

    def take(self, id: UUID) -> AuthorisationState | None:
        state = self._transaction.find(AUTHORISATION_STATES, id)
        self._transaction.delete(AUTHORISATION_STATES, id)
        return state


class MemoryConnectionQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def connections(self) -> Sequence[Connection]:
        return _all(self._database)

    def connection(self, id: UUID) -> Connection | None:
        return self._database.row(CONNECTIONS, id)


def _all(reader: Reader) -> list[Connection]:
    return sorted(reader.rows(CONNECTIONS).values(), key=lambda connection: connection.id)


def _stored(connection: Connection) -> Connection:
    return evolve(connection, settings=json_copy(connection.settings))
