"""Connections, and the OAuth states of consents under way."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Row, delete, insert, select, update

from ordersync_adapters.sql.reads import SqlReads
from ordersync_adapters.sql.tables.connections import authorisation_states, connections, cursors
from ordersync_adapters.sql.tables.flows import flows
from ordersync_adapters.sql.tables.raw import CONNECTORS, raw_records, tombstones
from ordersync_core.connections.model import AuthorisationState, Connection, ConnectionState

_ALL = select(connections).order_by(connections.c.created_at, connections.c.id)


class SqlConnections:
    def __init__(self, connection: SqlConnection) -> None:
        self._connection = connection

    def add(self, connection: Connection) -> None:
        self._connection.execute(insert(connections).values(connection_row(connection)))

    def find(self, id: UUID) -> Connection | None:
        row = self._connection.execute(
            select(connections).where(connections.c.id == id).with_for_update()
        ).one_or_none()
        return None if row is None else to_connection(row)

    def all(self) -> list[Connection]:
        return [to_connection(row) for row in self._connection.execute(_ALL)]

    def save(self, connection: Connection) -> None:
        row = connection_row(connection)
        self._connection.execute(update(connections).where(connections.c.id == row.pop("id")).values(row))

    def flows_of(self, id: UUID) -> Sequence[str]:
        return self._connection.execute(select(flows.c.kind).where(flows.c.connection_id == id)).scalars().all()

    def delete(self, id: UUID) -> None:
        dialect = self._connection.dialect.name
        records = [of(connector, dialect) for connector in CONNECTORS for of in (raw_records, tombstones)]
        for table in (*records, cursors):
            self._connection.execute(delete(table).where(table.c.connection_id == id))
        self._connection.execute(delete(connections).where(connections.c.id == id))


class SqlAuthorisationStates:
    def __init__(self, connection: SqlConnection) -> None:
        self._connection = connection

    def add(self, state: AuthorisationState) -> None:
        self._connection.execute(insert(authorisation_states).values(authorisation_state_row(state)))

    def take(self, id: UUID) -> AuthorisationState | None:
        taken = delete(authorisation_states).where(authorisation_states.c.id == id).returning(authorisation_states)
        row = self._connection.execute(taken).one_or_none()
        return None if row is None else to_authorisation_state(row)


class ConnectionSqlQueries(SqlReads):
    def connections(self) -> Sequence[Connection]:
        with self._connect() as connection:
            return [to_connection(row) for row in connection.execute(_ALL)]

    def connection(self, id: UUID) -> Connection | None:
        with self._connect() as connection:
            row = connection.execute(select(connections).where(connections.c.id == id)).one_or_none()
        return None if row is None else to_connection(row)


def connection_row(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.id,
        "connector": connection.connector,
        "name": connection.name,
        "settings": dict(connection.settings),
        "secret_settings": connection.secret_settings,
        "state": connection.state.value,
        "tokens": connection.tokens,
        "refreshing_since": connection.refreshing_since,
        "created_at": connection.created_at,
    }


def to_connection(row: Row[Any]) -> Connection:
    return Connection(
        id=row.id,
        connector=row.connector,
        name=row.name,
        settings=row.settings,
        secret_settings=row.secret_settings,
        state=ConnectionState(row.state),
        tokens=row.tokens,
        refreshing_since=row.refreshing_since,
        created_at=row.created_at,
    )


def authorisation_state_row(state: AuthorisationState) -> dict[str, Any]:
    return {
        "id": state.id,
        "administration": state.administration,
        "connection_id": state.connection_id,
        "identity": state.identity,
        "redirect_uri": state.redirect_uri,
        "created_at": state.created_at,
    }


def to_authorisation_state(row: Row[Any]) -> AuthorisationState:
    return AuthorisationState(
        id=row.id,
        administration=row.administration,
        connection_id=row.connection_id,
        identity=row.identity,
        redirect_uri=row.redirect_uri,
        created_at=row.created_at,
    )
