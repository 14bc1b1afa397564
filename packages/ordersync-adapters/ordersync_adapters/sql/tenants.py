"""The admin database and the databases of the administrations: made, migrated, and opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import errors as postgres
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from ordersync_adapters.sql import migrations
from ordersync_adapters.sql.bulk import insert_into
from ordersync_adapters.sql.creation import create_database, database_exists
from ordersync_adapters.sql.engine_cache import EngineCache, Engines
from ordersync_adapters.sql.engines import database_url, is_postgres, reading_engine, writing_engine
from ordersync_adapters.sql.tables.messaging import relay, tenant_row
from ordersync_adapters.sql.transactions import commit, raise_core_errors, reading, transaction
from ordersync_core.administrations.model import administration_code
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound, TemporaryFailure

KEEP = 4
"""Connections of each kind that stay open between uses of a database."""

IDLE = timedelta(seconds=30)
"""After so long without use a database has no connection open."""

SIZE = 200
"""Tenant databases whose engines are kept."""

_CODE = "{code}"
_REVISION = "(SELECT version_num FROM alembic_version)"


class AdminDatabase:
    """Opening it raises TemporaryFailure while it has no tables, or those of a later release.

    url: a SQLAlchemy URL; InvalidInput for any other than of a SQLite file or of Postgres.
    """

    def __init__(self, url: str | URL, *, keep: int = KEEP, idle: timedelta = IDLE) -> None:
        self._url = database_url(url)
        self._keep = keep
        self._engines = EngineCache(self._open, size=1, idle=idle)

    def create(self) -> None:
        """Make the database if it is absent."""
        create_database(self._url)

    def migrate(self) -> None:
        """Bring its tables to the present revision."""
        migrations.upgrade(self._url, migrations.ADMIN)

    def is_current(self) -> bool:
        """Whether `migrate` would do nothing; NotFound when there is no database."""
        _must_exist(self._url, "there is no admin database")
        return migrations.is_current(self._url, migrations.ADMIN)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, undone at the end unless it was committed."""
        with self._engines.use("") as engines, transaction(engines.writing) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for one statement that reads."""
        with self._engines.use("") as engines, reading(engines.reading) as connection:
            yield connection

    def close(self) -> None:
        self._engines.close()

    def _open(self, _: str) -> Engines:
        _must_exist(self._url, "there is no admin database")
        engines = _engines(self._url, keep=self._keep)
        for engine in (engines.writing, engines.reading):
            event.listen(engine, "connect", _check_admin_connection)
        return engines


class SqlTenantDatabases:
    """One database for each administration.

    template: a SQLAlchemy URL in which `{code}` stands for the administration's code.
    """

    def __init__(self, template: str, *, keep: int = KEEP, idle: timedelta = IDLE, size: int = SIZE) -> None:
        if _CODE not in template:
            raise InvalidInput(f"the URL of the tenant databases must hold {_CODE} where the code goes")
        self._template = template
        self._keep = keep
        self._engines = EngineCache(self._open, size=size, idle=idle)

    def create(self, code: str) -> None:
        create_database(self._url(code))

    def migrate(self, code: str) -> None:
        migrations.upgrade(self._existing(code), migrations.TENANT)

    def is_current(self, code: str) -> bool:
        """Whether `migrate` would do nothing; NotFound when there is no database."""
        return migrations.is_current(self._existing(code), migrations.TENANT)

    def initialise(self, code: str, epoch: UUID) -> None:
        engine = writing_engine(self._existing(code))
        raise_core_errors(engine)
        with transaction(engine) as connection:
            for row in (
                insert_into(connection, tenant_row).values(id=1, code=code, epoch=epoch),
                insert_into(connection, relay).values(id=1, last_number=0),
            ):
                connection.execute(row.on_conflict_do_nothing())
            kept = connection.execute(select(tenant_row.c.code)).scalar_one()
            if kept != code:
                raise _another_tenants(code, kept)
            commit(connection)

    def writing(self, code: str) -> AbstractContextManager[Connection]:
        """A transaction, undone at the end unless it was committed.

        Raises:
            NotFound: there is no such database, or its creation broke off.
            Conflict: its `tenant` row names another administration.
            TemporaryFailure: it does not answer, or a later release has migrated it: this one must not write there.
        """
        return self._opened(code, write=True)

    def reading(self, code: str) -> AbstractContextManager[Connection]:
        """A connection for one statement that reads; raises as `writing` does."""
        return self._opened(code, write=False)

    def close(self) -> None:
        """Close all idle connections."""
        self._engines.close()

    @contextmanager
    def _opened(self, code: str, *, write: bool) -> Iterator[Connection]:
        with self._engines.use(code) as engines:
            opened = transaction(engines.writing) if write else reading(engines.reading)
            with opened as connection:
                yield connection

    def _open(self, code: str) -> Engines:
        engines = _engines(self._existing(code), keep=self._keep)
        for engine in (engines.writing, engines.reading):
            _check_each_connection(engine, code)
        return engines

    def _existing(self, code: str) -> URL:
        url = self._url(code)
        _must_exist(url, f"there is no database of administration {code!r}")
        return url

    def _url(self, code: str) -> URL:
        return database_url(self._template.replace(_CODE, administration_code(code)))


def _engines(url: URL, *, keep: int) -> Engines:
    writing, reading = writing_engine(url, keep=keep), reading_engine(url, keep=keep)
    if is_postgres(url):
        # a single statement needs no transaction around it, which would cost two more round trips
        reading = reading.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(reading, "connect", _refuse_writes)
    for engine in (writing, reading):
        raise_core_errors(engine)
    return Engines(writing, reading)


def _refuse_writes(connection: Any, _: ConnectionPoolEntry) -> None:
    _run(connection, "SET default_transaction_read_only = on")


def _check_admin_connection(connection: Any, _: ConnectionPoolEntry) -> None:
    try:
        (revision,) = _run(connection, f"SELECT {_REVISION}")
    except (postgres.UndefinedTable, sqlite3.OperationalError) as error:
        raise TemporaryFailure("the admin database has no tables yet") from error
    _refuse_later_release(revision, migrations.ADMIN)


def _check_each_connection(engine: Engine, code: str) -> None:
    @event.listens_for(engine, "connect")
    def check(connection: Any, _: ConnectionPoolEntry) -> None:
        try:
            revision, kept = _run(connection, f"SELECT {_REVISION}, (SELECT code FROM tenant)")
        except (postgres.UndefinedTable, sqlite3.OperationalError) as error:
            raise NotFound(f"the database of administration {code!r} has no tables yet") from error
        _refuse_later_release(revision, migrations.TENANT)
        if kept is None:
            raise NotFound(f"the database of administration {code!r} was not initialised")
        if kept != code:
            raise _another_tenants(code, kept)


def _refuse_later_release(revision: str | None, folder: Path) -> None:
    later = migrations.later_release(revision, folder)
    if later is not None:
        raise TemporaryFailure(later)


def _run(connection: Any, statement: str) -> Any:
    """The first row, if there is any, of a statement in a transaction of its own, on the driver's connection."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None
    finally:
        cursor.close()
        connection.commit()


def _must_exist(url: URL, sentence: str) -> None:
    if not database_exists(url):
        raise NotFound(sentence)


def _another_tenants(code: str, kept: str) -> Conflict:
    return Conflict(f"the database of administration {code!r} holds the data of {kept!r}")
