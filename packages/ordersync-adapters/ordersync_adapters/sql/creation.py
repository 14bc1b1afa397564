"""Making databases: a file for SQLite, CREATE DATABASE for Postgres. Every step may be repeated."""

from pathlib import Path

from psycopg import errors as postgres
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ordersync_adapters.sql.engines import create_sqlite_file, is_postgres, reading_engine
from ordersync_adapters.sql.errors import sql_errors
from ordersync_core.kernel.errors import TemporaryFailure

_MAINTENANCE = "postgres"


def create_database(url: URL) -> None:
    """Make it, empty, if it is absent. `url` is one of `engines.database_url`."""
    if not is_postgres(url):
        create_sqlite_file(_file(url))
    elif not database_exists(url):
        _create_on_postgres(url)


def database_exists(url: URL) -> bool:
    """Asks Postgres's maintenance database only where it must: not everyone may connect to that."""
    if not is_postgres(url):
        return _file(url).exists()
    if _answers(url):
        return True
    with sql_errors(), _maintenance(url).connect() as connection:
        statement = text("SELECT count(*) FROM pg_database WHERE datname = :name")
        return bool(connection.execute(statement, {"name": url.database}).scalar_one())


def _create_on_postgres(url: URL) -> None:
    engine = _maintenance(url)
    name = engine.dialect.identifier_preparer.quote_identifier(str(url.database))
    with sql_errors(), engine.connect() as connection:
        try:
            connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        except DBAPIError as error:
            # a twin was faster; the second error is what it looks like at the very same moment
            if not isinstance(error.orig, postgres.DuplicateDatabase | postgres.UniqueViolation):
                raise


def _answers(url: URL) -> bool:
    try:
        with sql_errors(), reading_engine(url).connect():
            return True
    except TemporaryFailure:
        return False


def _maintenance(url: URL) -> Engine:
    return create_engine(url.set(database=_MAINTENANCE), isolation_level="AUTOCOMMIT", poolclass=NullPool)


def _file(url: URL) -> Path:
    return Path(str(url.database))
