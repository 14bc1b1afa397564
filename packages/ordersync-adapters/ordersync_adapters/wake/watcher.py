"""Learns that the admin database's table `wake` may have changed."""

import time
from datetime import timedelta
from typing import Any, Protocol

import psycopg

from ordersync_adapters.sql.administrations import WAKE_CHANNEL
from ordersync_adapters.sql.engines import database_url, is_postgres, reading_engine
from ordersync_adapters.sql.errors import sql_errors
from ordersync_core.kernel.errors import OrderSyncError

POLL = 0.02
REST = 1.0
"""Seconds between two tries while the database does not answer."""


class WakeWatcher(Protocol):
    """For one thread."""

    def wait(self, timeout: timedelta) -> bool:
        """True as soon as something may have changed since the last call, False after `timeout`.

        A database that does not answer raises nothing: the timers go on without hints.
        """
        ...

    def close(self) -> None: ...


def watch(url: str) -> WakeWatcher:
    """The watcher for an admin database; it connects at the first wait."""
    return PostgresWakeWatcher(url) if is_postgres(database_url(url)) else SqliteWakeWatcher(url)


class SqliteWakeWatcher:
    """Asks `PRAGMA data_version` every 20 ms: it changes with each commit of another connection to the file."""

    def __init__(self, url: str) -> None:
        self._engine = reading_engine(url)
        self._connection: Any = None
        self._seen: int | None = None

    def wait(self, timeout: timedelta) -> bool:
        end = time.monotonic() + timeout.total_seconds()
        try:
            while (version := self._version()) == self._seen:
                if time.monotonic() >= end:
                    return False
                time.sleep(POLL)
        except OrderSyncError:
            self.close()
            time.sleep(max(0.0, min(REST, end - time.monotonic())))
            return False
        self._seen = version
        return True

    def close(self) -> None:
        # the number means something on the same connection only
        self._seen = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _version(self) -> int:
        with sql_errors():
            if self._connection is None:
                # outside of a transaction, which would stand still at its first moment
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            version: int = self._connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            return version


class PostgresWakeWatcher:
    """Listens on a connection of its own. A connection that had to be made anew may have missed something."""

    def __init__(self, url: str) -> None:
        self._address = database_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout: timedelta) -> bool:
        end = time.monotonic() + timeout.total_seconds()
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._address, autocommit=True)
                self._connection.execute(f"LISTEN {WAKE_CHANNEL}")
                return True
            return any(True for _ in self._connection.notifies(timeout=timeout.total_seconds(), stop_after=1))
        except psycopg.Error:
            self.close()
            time.sleep(max(0.0, min(REST, end - time.monotonic())))
            return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
