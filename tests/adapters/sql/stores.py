"""A database with all tables, on SQLite and on Postgres, for tests of single repositories."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from attrs import frozen
from sqlalchemy import Connection, Engine, text

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


def plan_of(connection: Connection, statement: str) -> str:
    """How the database would go about the statement."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}").scalars())
    return "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}"))
