"""Every suite over databases, on the in-memory ones: with locks on rows, as on Postgres."""

from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.contracts.administrations import (
    AdministrationsContract,
    OverlappingWakeContract,
    TenantDatabasesContract,
    WakeContract,
)
from ordersync_core.testing.contracts.audit import AuditContract
from ordersync_core.testing.contracts.connections import ConnectionsContract
from ordersync_core.testing.contracts.flows import FlowsContract, RawRecordsContract
from ordersync_core.testing.contracts.inbox import InboxContract
from ordersync_core.testing.contracts.items import ItemsContract, OverlappingItemsContract
from ordersync_core.testing.contracts.jobs import JobsContract, OverlappingJobsContract
from ordersync_core.testing.contracts.leases import AdminLeaseContract, TenantLeaseContract
from ordersync_core.testing.contracts.outbox import OutboxContract
from ordersync_core.testing.contracts.unit_of_work import UnitOfWorkContract
from ordersync_core.testing.contracts.webhooks import DeliveriesContract, WebhooksContract
from ordersync_core.testing.memory import MemoryDatabases
from tests.core.testing.in_memory import LateCommitInMemory, RowLocks


class TestUnitOfWork(RowLocks, UnitOfWorkContract):
    pass


class TestItems(RowLocks, ItemsContract):
    pass


class TestOverlappingItems(RowLocks, OverlappingItemsContract):
    pass


class TestOutbox(RowLocks, OutboxContract):
    pass


class TestLateCommit(LateCommitInMemory):
    pass


class TestInbox(RowLocks, InboxContract):
    pass


class TestWebhooks(RowLocks, WebhooksContract):
    pass


class TestDeliveries(RowLocks, DeliveriesContract):
    pass


class TestTenantLease(RowLocks, TenantLeaseContract):
    pass


class TestAdminLease(RowLocks, AdminLeaseContract):
    pass


class TestConnections(RowLocks, ConnectionsContract):
    pass


class TestFlows(RowLocks, FlowsContract):
    pass


class TestRawRecords(RowLocks, RawRecordsContract):
    pass


class TestJobs(RowLocks, JobsContract):
    pass


class TestOverlappingJobs(RowLocks, OverlappingJobsContract):
    pass


class TestAdministrations(RowLocks, AdministrationsContract):
    pass


class TestWake(RowLocks, WakeContract):
    pass


class TestOverlappingWake(RowLocks, OverlappingWakeContract):
    pass


class TestAudit(RowLocks, AuditContract):
    pass


class TestTenantDatabases(RowLocks, TenantDatabasesContract):
    def make_tenants(self, databases: Databases) -> TenantDatabases:
        assert isinstance(databases, MemoryDatabases)
        return databases.tenants
