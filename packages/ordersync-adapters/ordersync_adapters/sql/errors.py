"""What the databases' errors mean to the core."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as postgres
from sqlalchemy import exc

from ordersync_core.kernel.errors import ChangedMeanwhile, OrderSyncError, PermanentFailure, TemporaryFailure

_LONGEST_LINE = 300

_POSTGRES_TWIN = (
    postgres.SerializationFailure,
    postgres.DeadlockDetected,
    postgres.LockNotAvailable,
    postgres.UniqueViolation,
    postgres.ExclusionViolation,
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, resources, operator intervention, system
_POSTGRES_AWAY = ("08", "53", "57", "58")
_POSTGRES_NOT_NOW = (
    postgres.IdleInTransactionSessionTimeout,
    postgres.TransactionTimeout,
    postgres.ObjectInUse,  # others are making or dropping a database
)
_POSTGRES_BROKEN = (postgres.DataCorrupted, postgres.IndexCorrupted)

# https://www.sqlite.org/rescode.html; the low byte is the primary code
_SQLITE_TWIN = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_UNIQUE = (
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
)
_SQLITE_AWAY = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
)
_SQLITE_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def sql_errors() -> Iterator[None]:
    """Raise the core's errors for those of SQLAlchemy and of the drivers beneath it.

    What is a mistake in the program or in the set-up, such as a statement that does not parse or a right that is not
    granted, passes as it is.

    Raises:
        ChangedMeanwhile: a serialization failure, a deadlock, a lock that was not given in time, a unique key that is
            taken, or a transaction that has failed before.
        TemporaryFailure: the database cannot be reached, has no room or no connection left, ended the session, or
            takes no writes for now.
        PermanentFailure: the data are damaged, or the file is no database.
    """
    try:
        yield
    except (exc.SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
        meaning = _meaning(error)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(error: BaseException | None) -> OrderSyncError | None:
    match error:
        case exc.DBAPIError():
            return _meaning(error.orig)
        case exc.TimeoutError():
            return TemporaryFailure("all connections to the database are in use")
        case psycopg.Error():
            return _meaning_on_postgres(error)
        case sqlite3.Error():
            return _meaning_on_sqlite(error)
        case _:
            return None


def _meaning_on_postgres(error: psycopg.Error) -> OrderSyncError | None:
    if isinstance(error, _POSTGRES_TWIN):
        return ChangedMeanwhile(f"another transaction came first: {_line(error)}")
    if isinstance(error, postgres.InFailedSqlTransaction):
        return ChangedMeanwhile("the transaction has failed before: nothing of it can be kept")
    if isinstance(error, postgres.ReadOnlySqlTransaction):
        # the server is a standby: a failover has not ended yet, or went elsewhere
        return TemporaryFailure(f"the database takes no writes for now: {_line(error)}")
    if isinstance(error, _POSTGRES_BROKEN):
        return PermanentFailure(f"the database is damaged: {_line(error)}")
    if error.sqlstate is not None:
        away = error.sqlstate.startswith(_POSTGRES_AWAY) or isinstance(error, _POSTGRES_NOT_NOW)
    else:
        # what psycopg says by itself, without an answer of the server: no connection, or one that broke
        away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return TemporaryFailure(f"the database does not answer: {_line(error)}") if away else None


def _meaning_on_sqlite(error: sqlite3.Error) -> OrderSyncError | None:
    # errors that the module raises by itself have no code
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary in _SQLITE_TWIN or code in _SQLITE_UNIQUE:
        return ChangedMeanwhile(f"another transaction came first: {_line(error)}")
    if primary in _SQLITE_AWAY:
        return TemporaryFailure(f"the database file cannot be used: {_line(error)}")
    if primary in _SQLITE_BROKEN:
        return PermanentFailure(f"the database file is damaged: {_line(error)}")
    return None


def _line(error: BaseException) -> str:
    """The driver's text, which may have several lines, as one."""
    line = " ".join(str(error).split())
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."
