"""Every suite over databases, on the in-memory ones: with locks on rows, as on Postgres."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock, SteppingIds
from ordersync_core.testing.contracts.administrations import (
    AdministrationsContract,
    TenantDatabasesContract,
    WakeContract,
)
from ordersync_core.testing.contracts.audit import AuditContract
from ordersync_core.testing.contracts.connections import ConnectionsContract
from ordersync_core.testing.contracts.databases import ALPHA, BETA, PATIENCE, DatabasesContract
from ordersync_core.testing.contracts.flows import FlowsContract, RawRecordsContract
from ordersync_core.testing.contracts.inbox import InboxContract
from ordersync_core.testing.contracts.items import ItemsContract, OverlappingItemsContract
from ordersync_core.testing.contracts.jobs import JobsContract, OverlappingJobsContract
from ordersync_core.testing.contracts.leases import AdminLeaseContract, TenantLeaseContract
from ordersync_core.testing.contracts.outbox import LateCommitContract, OutboxContract
from ordersync_core.testing.contracts.unit_of_work import UnitOfWorkContract
from ordersync_core.testing.contracts.webhooks import DeliveriesContract, WebhooksContract
from ordersync_core.testing.memory import Locks, MemoryDatabases
from ordersync_core.testing.memory.transaction import Transaction

BOUND = timedelta(seconds=5)


class InMemory(DatabasesContract):
    def make_databases(self, clock: ManualClock) -> MemoryDatabases:
        databases = MemoryDatabases(clock, SteppingIds(), locks=Locks(bound=BOUND))
        databases.add_tenant(ALPHA)
        databases.add_tenant(BETA)
        return databases


class TestUnitOfWork(InMemory, UnitOfWorkContract):
    pass


class TestItems(InMemory, ItemsContract):
    pass


class TestOverlappingItems(InMemory, OverlappingItemsContract):
    pass


class TestOutbox(InMemory, OutboxContract):
    pass


class TestLateCommit(InMemory, LateCommitContract):
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


class TestInbox(InMemory, InboxContract):
    pass


class TestWebhooks(InMemory, WebhooksContract):
    pass


class TestDeliveries(InMemory, DeliveriesContract):
    pass


class TestTenantLease(InMemory, TenantLeaseContract):
    pass


class TestAdminLease(InMemory, AdminLeaseContract):
    pass


class TestConnections(InMemory, ConnectionsContract):
    pass


class TestFlows(InMemory, FlowsContract):
    pass


class TestRawRecords(InMemory, RawRecordsContract):
    pass


class TestJobs(InMemory, JobsContract):
    pass


class TestOverlappingJobs(InMemory, OverlappingJobsContract):
    pass


class TestAdministrations(InMemory, AdministrationsContract):
    pass


class TestWake(InMemory, WakeContract):
    pass


class TestAudit(InMemory, AuditContract):
    pass


class TestTenantDatabases(InMemory, TenantDatabasesContract):
    def make_tenants(self, databases: Databases) -> TenantDatabases:
        assert isinstance(databases, MemoryDatabases)
        return databases.tenants
