"""How a waiting consumer learns that something may have been sent."""

import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Protocol

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ordersync_adapters.queues.postgres_statements import CHANNEL
from ordersync_adapters.sql.errors import sql_errors
from ordersync_core.kernel.errors import OrderSyncError

POLL = 0.02
BLIND_POLL = 1.0
"""Seconds between two looks at a database that cannot tell when something changes."""

_STOP_WITHIN = 0.5


class Changes(Protocol):
    def seen(self, queue: str) -> int:
        """A number that is another one after a send to the queue; it may also change for other reasons."""
        ...

    def wait(self, queue: str, seen: int | None, timeout: timedelta) -> int | None:
        """Return when the number is not `seen`, at the latest after `timeout`; answers the number.

        An unreachable database raises nothing: the next claim will tell.
        """
        ...

    def sent(self) -> None:
        """This process has just committed a send: those of it who wait need not be told by the database."""
        ...

    def close(self) -> None: ...


class SqliteChanges:
    """Polls `PRAGMA data_version`, which changes with each commit of another connection to the file; what this process
    sends itself ends a wait at once.

    It does so on a connection of its own, because the number means something on the same connection only.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._sent = threading.Condition()

    def seen(self, queue: str) -> int:
        with self._lock, sql_errors():
            if self._connection is None:
                # outside of a transaction, which would stand still at its first moment
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            version: int = self._connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            return version

    def wait(self, queue: str, seen: int | None, timeout: timedelta) -> int | None:
        end = time.monotonic() + timeout.total_seconds()
        try:
            while (now := self.seen(queue)) == seen and (left := end - time.monotonic()) > 0:
                with self._sent:
                    self._sent.wait(min(POLL, left))
            return now
        except OrderSyncError:
            time.sleep(max(0.0, min(BLIND_POLL, end - time.monotonic())))
            return seen

    def sent(self) -> None:
        with self._sent:
            self._sent.notify_all()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class PostgresChanges:
    """Listens to the channel that each send notifies, in a thread that starts with the first wait.

    A listener that had to connect anew may have missed something, so it counts that as a change of every queue.
    While it has no connection, those who wait look once a second.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._condition = threading.Condition()
        self._sends: Counter[str] = Counter()
        self._interruptions = 0
        self._listening = False
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def seen(self, queue: str) -> int:
        with self._condition:
            return self._count(queue)

    def wait(self, queue: str, seen: int | None, timeout: timedelta) -> int | None:
        seconds = timeout.total_seconds()
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="queue-listener", daemon=True)
                self._thread.start()
            patience = seconds if self._listening else min(seconds, BLIND_POLL)
            self._condition.wait_for(lambda: self._count(queue) != seen, patience)
            return self._count(queue)

    def sent(self) -> None:
        """The server tells everybody alike, and in time."""

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _count(self, queue: str) -> int:
        return self._sends[queue] + self._interruptions

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                with sql_errors(), self._engine.connect() as connection:
                    self._listen(connection)
            except (OrderSyncError, SQLAlchemyError, psycopg.Error):
                self._interrupted(listening=False)
                self._closed.wait(BLIND_POLL)

    def _listen(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        # it never goes back to the other threads while it still listens
        connection.detach()
        self._interrupted(listening=True)
        while not self._closed.is_set():
            for notification in driver.notifies(timeout=_STOP_WITHIN):
                with self._condition:
                    self._sends[notification.payload] += 1
                    self._condition.notify_all()

    def _interrupted(self, *, listening: bool) -> None:
        with self._condition:
            self._listening = listening
            self._interruptions += 1
            self._condition.notify_all()
