"""How the suites build the in-memory databases."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock, SteppingIds
from ordersync_core.testing.contracts.databases import ALPHA, BETA, PATIENCE, DatabasesContract
from ordersync_core.testing.contracts.outbox import LateCommitContract
from ordersync_core.testing.memory import Locks, MemoryDatabases
from ordersync_core.testing.memory.transaction import Transaction

BOUND = timedelta(seconds=10)


def memory_databases(clock: ManualClock, *, one_writer: bool = False, bound: timedelta = BOUND) -> MemoryDatabases:
    databases = MemoryDatabases(clock, SteppingIds(), one_writer=one_writer, locks=Locks(bound=bound))
    databases.add_tenant(ALPHA)
    databases.add_tenant(BETA)
    return databases


class RowLocks(DatabasesContract):
    """As on Postgres."""

    def make_databases(self, clock: ManualClock) -> MemoryDatabases:
        return memory_databases(clock)


class OneWriter(DatabasesContract):
    """As on SQLite."""

    def make_databases(self, clock: ManualClock) -> MemoryDatabases:
        return memory_databases(clock, one_writer=True)


class LateCommitInMemory(RowLocks, LateCommitContract):
    @contextmanager
    def hold_commits(self, databases: Databases, correlation_id: str) -> Iterator[Callable[[], None]]:
        assert isinstance(databases, MemoryDatabases)
        held, released = threading.Event(), threading.Event()

        def pause(transaction: object) -> None:
            assert isinstance(transaction, Transaction)
            if transaction.context.correlation_id == correlation_id:
                held.set()
                assert released.wait(PATIENCE)

        databases.locks.pause = pause
        try:
            yield lambda: _arrived(held)
        finally:
            released.set()


def _arrived(event: threading.Event) -> None:
    assert event.wait(PATIENCE)
