"""Every suite over databases, on the in-memory ones: with one writer at a time, as on SQLite."""

from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.contracts.administrations import (
    AdministrationsContract,
    TenantDatabasesContract,
    WakeContract,
)
from ordersync_core.testing.contracts.audit import AuditContract
from ordersync_core.testing.contracts.connections import ConnectionsContract
from ordersync_core.testing.contracts.flows import FlowsContract, RawRecordsContract
from ordersync_core.testing.contracts.inbox import InboxContract
from ordersync_core.testing.contracts.items import ItemsContract
from ordersync_core.testing.contracts.jobs import JobsContract
from ordersync_core.testing.contracts.leases import AdminLeaseContract, TenantLeaseContract
from ordersync_core.testing.contracts.outbox import OutboxContract
from ordersync_core.testing.contracts.unit_of_work import UnitOfWorkContract
from ordersync_core.testing.contracts.webhooks import DeliveriesContract, WebhooksContract
from ordersync_core.testing.memory import MemoryDatabases
from tests.core.testing.in_memory import OneWriter


class TestUnitOfWork(OneWriter, UnitOfWorkContract):
    pass


class TestItems(OneWriter, ItemsContract):
    pass


class TestOutbox(OneWriter, OutboxContract):
    pass


class TestInbox(OneWriter, InboxContract):
    pass


class TestWebhooks(OneWriter, WebhooksContract):
    pass


class TestDeliveries(OneWriter, DeliveriesContract):
    pass


class TestTenantLease(OneWriter, TenantLeaseContract):
    pass


class TestAdminLease(OneWriter, AdminLeaseContract):
    pass


class TestConnections(OneWriter, ConnectionsContract):
    pass


class TestFlows(OneWriter, FlowsContract):
    pass


class TestRawRecords(OneWriter, RawRecordsContract):
    pass


class TestJobs(OneWriter, JobsContract):
    pass


class TestAdministrations(OneWriter, AdministrationsContract):
    pass


class TestWake(OneWriter, WakeContract):
    pass


class TestAudit(OneWriter, AuditContract):
    pass


class TestTenantDatabases(OneWriter, TenantDatabasesContract):
    def make_tenants(self, databases: Databases) -> TenantDatabases:
        assert isinstance(databases, MemoryDatabases)
        return databases.tenants
