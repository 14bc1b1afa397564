"""Connections to SQLite files and to Postgres, set up in the one way that keeps OrderSync's promises."""

import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg import errors as postgres
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.types import POSTGRES
from ordersync_core.kernel.errors import InvalidInput, TemporaryFailure

SQLITE = "sqlite"
BUSY_TIMEOUT = 10.0
"""Seconds that a SQLite connection waits for another one's transaction."""

LOOK_EVERY = 0.002
"""Seconds between two looks whether the file's write lock is free."""

_OVERFLOW = 20
_WAL = b"\x02\x02"

_POSTGRES_DEFAULTS = {
    "application_name": "ordersync",
    # seconds, for each address of the host; libpq waits for ever by default
    "connect_timeout": "10",
    # a peer that vanished without a word is given up after about a minute, and not after hours
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


def database_url(url: str | URL) -> URL:
    """The parsed address; `postgresql://` and `postgres://` mean psycopg 3, and what the address says outdoes defaults.

    Raises:
        InvalidInput: it is no SQLAlchemy URL of a SQLite file or of Postgres.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput("a database is named by a URL such as sqlite:///folder/file.db") from error
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if parsed.database in (None, "", ":memory:"):
            raise InvalidInput("SQLite needs the name of a file: sqlite:///folder/file.db")
        return parsed.set(drivername="sqlite+pysqlite")
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg").update_query_dict(
            {name: value for name, value in _POSTGRES_DEFAULTS.items() if name not in parsed.query}
        )
    raise InvalidInput(f"{parsed.drivername} is not supported: a database URL begins with sqlite: or postgresql:")


def writing_engine(url: str | URL, *, keep: int = 0) -> Engine:
    """For transactions that write. On SQLite each holds the file's one write lock from its beginning.

    keep: how many connections stay open while nobody uses them. With 0 an idle database holds none; otherwise
        `engine.dispose()` closes the idle ones, and the engine stays usable.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == SQLITE:
        return _sqlite_engine(parsed, keep=keep, begin="BEGIN IMMEDIATE", read_only=False)
    return _postgres_engine(parsed, keep=keep, read_only=False)


def reading_engine(url: str | URL, *, keep: int = 0) -> Engine:
    """For reads: on SQLite a transaction sees one moment, on Postgres each of its statements does; a write is refused.

    Single statements are cheapest with `execution_options(isolation_level="AUTOCOMMIT")`.

    keep: as for `writing_engine`.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == SQLITE:
        return _sqlite_engine(parsed, keep=keep, begin="BEGIN", read_only=True)
    return _postgres_engine(parsed, keep=keep, read_only=True)


def now_in_microseconds() -> int:
    """SQLite's clock, which is this machine's; also a function of that name in SQL."""
    return time.time_ns() // 1000


def create_sqlite_file(path: Path) -> None:
    """Make an empty database in WAL mode, unless there is one; any number of processes may do so at once.

    The mode is a property of the file. Switching it on at each connect fails now and then with "database is locked".

    Raises:
        TemporaryFailure: the folder or the file cannot be made or used.
    """
    try:
        with sql_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _link_new_file(path)
            if not _is_wal(path):
                # a file that a backup or another program made
                _switch_to_wal(path)
    except OSError as error:
        raise TemporaryFailure(f"the database file {path} cannot be made: {error.strerror}") from error


def _link_new_file(path: Path) -> None:
    """Nobody sees the file before it is complete, and nobody's file is replaced."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        _switch_to_wal(draft)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_wal(path: Path) -> bool:
    # https://www.sqlite.org/fileformat.html: read and write version
    with path.open("rb") as file:
        return file.read(20)[18:20] == _WAL


def _switch_to_wal(path: Path) -> None:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _sqlite_engine(url: URL, *, keep: int, begin: str, read_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: a missing file is an error, and not a new empty database. Without an isolation level the driver
        # begins no transaction by itself; its own way loses updates and leaves half migrations
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(url.database))}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.OperationalError as error:
            error.args = (f"{error}: {url.database}",)
            raise
        connection.create_function("now_in_microseconds", 0, now_in_microseconds)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection

    engine = create_engine(url, creator=connect, **_pooling(keep))

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        # the event comes in autocommit too, where each statement is to see its own moment
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            _begin_when_free(connection.connection.driver_connection, begin)

    return engine


def _begin_when_free(driver: Any, begin: str) -> None:
    """SQLite's own waiting sleeps up to 100 ms between two looks: a bulk write leaves the file free for less."""
    give_up_at = time.monotonic() + BUSY_TIMEOUT
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                driver.execute(begin)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                    raise
                time.sleep(LOOK_EVERY)
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")


def _postgres_engine(url: URL, *, keep: int, read_only: bool) -> Engine:
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        **_pooling(keep),
    )
    if read_only:

        @event.listens_for(engine, "connect")
        def refuse_writes(connection: Any, _: ConnectionPoolEntry) -> None:
            connection.read_only = True

    else:

        @event.listens_for(engine, "handle_error")
        def leave_standby(context: ExceptionContext) -> None:
            # it answers, but its server has become a standby: the next connection may find the right one
            if isinstance(context.original_exception, postgres.ReadOnlySqlTransaction):
                context.is_disconnect = True

    return engine


def _pooling(keep: int) -> dict[str, Any]:
    if keep == 0:
        return {"poolclass": NullPool}
    # the ping finds the connections that a restarted server has closed
    return {"poolclass": QueuePool, "pool_size": keep, "max_overflow": _OVERFLOW, "pool_pre_ping": True}


def is_postgres(url: URL) -> bool:
    return url.get_backend_name() == POSTGRES
