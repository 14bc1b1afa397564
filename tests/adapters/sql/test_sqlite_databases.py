"""Every suite over databases, on SQLite."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.administrations import (
    AdministrationsContract,
    TenantDatabasesContract,
    WakeContract,
)
from ordersync_core.testing.contracts.audit import AuditContract
from ordersync_core.testing.contracts.connections import ConnectionsContract
from ordersync_core.testing.contracts.databases import DatabasesContract
from ordersync_core.testing.contracts.flows import FlowsContract, RawRecordsContract
from ordersync_core.testing.contracts.inbox import InboxContract
from ordersync_core.testing.contracts.items import ItemsContract
from ordersync_core.testing.contracts.jobs import JobsContract
from ordersync_core.testing.contracts.leases import AdminLeaseContract, TenantLeaseContract
from ordersync_core.testing.contracts.outbox import OutboxContract
from ordersync_core.testing.contracts.unit_of_work import UnitOfWorkContract
from ordersync_core.testing.contracts.webhooks import DeliveriesContract, WebhooksContract
from tests.adapters.sql.places import Migrated, SuiteDatabases, copy_file, migrated, sqlite_place


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    return migrated(sqlite_place(tmp_path_factory.mktemp("template")), copy_file)


class OnSqlite(DatabasesContract):
    one_writer = True

    @pytest.fixture
    def databases(self, template: Migrated, tmp_path: Path, clock: ManualClock) -> Iterator[SuiteDatabases]:
        databases = template.databases(sqlite_place(tmp_path), clock)
        yield databases
        databases.close()

    def pass_time(self, clock: ManualClock, duration: timedelta) -> None:
        time.sleep(duration.total_seconds())


class TestUnitOfWork(OnSqlite, UnitOfWorkContract):
    pass


class TestItems(OnSqlite, ItemsContract):
    pass


class TestOutbox(OnSqlite, OutboxContract):
    pass


class TestInbox(OnSqlite, InboxContract):
    pass


class TestWebhooks(OnSqlite, WebhooksContract):
    pass


class TestDeliveries(OnSqlite, DeliveriesContract):
    pass


class TestTenantLease(OnSqlite, TenantLeaseContract):
    pass


class TestAdminLease(OnSqlite, AdminLeaseContract):
    pass


class TestConnections(OnSqlite, ConnectionsContract):
    pass


class TestFlows(OnSqlite, FlowsContract):
    pass


class TestRawRecords(OnSqlite, RawRecordsContract):
    pass


class TestJobs(OnSqlite, JobsContract):
    pass


class TestAdministrations(OnSqlite, AdministrationsContract):
    pass


class TestWake(OnSqlite, WakeContract):
    pass


class TestAudit(OnSqlite, AuditContract):
    pass


class TestTenantDatabases(OnSqlite, TenantDatabasesContract):
    def make_tenants(self, databases: Databases) -> TenantDatabases:
        assert isinstance(databases, SuiteDatabases)
        return databases.tenants
