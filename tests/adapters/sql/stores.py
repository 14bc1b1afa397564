"""A database with all tables, on SQLite and on Postgres, for tests of single repositories."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Engine, event

from ordersync_adapters.sql.engines import create_sqlite_file, reading_engine, writing_engine
from ordersync_adapters.sql.metadata import admin, tenant
from ordersync_adapters.sql.tables import administrations, audit, items, leases, messaging, webhooks
from ordersync_adapters.sql.tables.raw import RAW
from ordersync_adapters.sql.transactions import reading, transaction
from tests.postgres import PostgresServer

REGISTERED = (administrations, audit, items, leases, messaging, webhooks)
"""Modules whose import enters their tables into the metadata."""

_numbers = itertools.count(1)


@frozen
class Store:
    """The admin tables and the tenant tables in one database."""

    writing: Engine
    reading: Engine

    def transaction(self) -> AbstractContextManager[Connection]:
        """Undone at the end, unless it is committed."""
        return transaction(self.writing)

    def read(self) -> AbstractContextManager[Connection]:
        return reading(self.reading)

    @property
    def is_postgres(self) -> bool:
        return self.writing.dialect.name == "postgresql"


@contextmanager
def sqlite_store(folder: Path) -> Iterator[Store]:
    path = folder / "store.db"
    create_sqlite_file(path)
    with _store(f"sqlite:///{path}") as store:
        yield store


@contextmanager
def postgres_store(server: PostgresServer) -> Iterator[Store]:
    name = f"store_{next(_numbers)}"
    server.create_database(name)
    with _store(server.url(name)) as store:
        yield store
    server.drop_database(name)


@contextmanager
def _store(url: str) -> Iterator[Store]:
    store = Store(writing_engine(url, keep=1), reading_engine(url, keep=1))
    with store.writing.begin() as connection:
        for metadata in (admin, tenant, RAW[connection.dialect.name]):
            metadata.create_all(connection)
    yield store
    store.writing.dispose()
    store.reading.dispose()


def plans_of(connection: Connection, act: Callable[[], object]) -> list[str]:
    """How the database goes about the statements that `act` sends through SQLAlchemy, one text for each of them."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(connection, "before_cursor_execute", note)
    explain, place = ("EXPLAIN", 0) if connection.dialect.name == "postgresql" else ("EXPLAIN QUERY PLAN", 3)
    return [
        "\n".join(row[place] for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))
        for statement, parameters in sent
    ]
