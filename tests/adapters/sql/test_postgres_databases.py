"""Every suite over databases, on Postgres."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, event, text

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
from ordersync_core.testing.contracts.databases import ALPHA, BETA, PATIENCE, DatabasesContract
from ordersync_core.testing.contracts.flows import FlowsContract, RawRecordsContract
from ordersync_core.testing.contracts.inbox import InboxContract
from ordersync_core.testing.contracts.items import ItemsContract, OverlappingItemsContract
from ordersync_core.testing.contracts.jobs import JobsContract, OverlappingJobsContract
from ordersync_core.testing.contracts.leases import AdminLeaseContract, TenantLeaseContract
from ordersync_core.testing.contracts.outbox import LateCommitContract, OutboxContract
from ordersync_core.testing.contracts.unit_of_work import UnitOfWorkContract
from ordersync_core.testing.contracts.webhooks import DeliveriesContract, WebhooksContract
from tests.adapters.sql.places import Migrated, SuiteDatabases, copy_on, migrated, postgres_place
from tests.postgres import PostgresServer


@pytest.fixture(scope="module")
def template(postgres: PostgresServer) -> Iterator[Migrated]:
    with postgres_place(postgres, ALPHA) as place:
        yield migrated(place, copy_on(postgres))


class OnPostgres(DatabasesContract):
    @pytest.fixture
    def databases(self, template: Migrated, postgres: PostgresServer, clock: ManualClock) -> Iterator[SuiteDatabases]:
        with postgres_place(postgres, ALPHA, BETA, "gamma") as place:
            databases = template.databases(place, clock)
            yield databases
            databases.close()

    def pass_time(self, clock: ManualClock, duration: timedelta) -> None:
        time.sleep(duration.total_seconds())


class TestUnitOfWork(OnPostgres, UnitOfWorkContract):
    pass


class TestItems(OnPostgres, ItemsContract):
    pass


class TestOverlappingItems(OnPostgres, OverlappingItemsContract):
    pass


class TestOutbox(OnPostgres, OutboxContract):
    pass


class TestLateCommit(OnPostgres, LateCommitContract):
    @contextmanager
    def hold_commits(self, databases: Databases, correlation_id: str) -> Iterator[Callable[[], None]]:
        held, released = threading.Event(), threading.Event()
        mine = text("SELECT count(*) FROM outbox WHERE correlation_id = :id AND xmin = pg_current_xact_id()::xid")

        def stop(connection: Connection) -> None:
            if connection.execute(mine, {"id": correlation_id}).scalar_one():
                held.set()
                assert released.wait(PATIENCE)

        event.listen(Engine, "commit", stop)
        try:
            yield lambda: _arrived(held)
        finally:
            released.set()
            event.remove(Engine, "commit", stop)


def _arrived(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


class TestInbox(OnPostgres, InboxContract):
    pass


class TestWebhooks(OnPostgres, WebhooksContract):
    pass


class TestDeliveries(OnPostgres, DeliveriesContract):
    pass


class TestTenantLease(OnPostgres, TenantLeaseContract):
    pass


class TestAdminLease(OnPostgres, AdminLeaseContract):
    pass


class TestConnections(OnPostgres, ConnectionsContract):
    pass


class TestFlows(OnPostgres, FlowsContract):
    pass


class TestRawRecords(OnPostgres, RawRecordsContract):
    pass


class TestJobs(OnPostgres, JobsContract):
    pass


class TestOverlappingJobs(OnPostgres, OverlappingJobsContract):
    pass


class TestAdministrations(OnPostgres, AdministrationsContract):
    pass


class TestWake(OnPostgres, WakeContract):
    pass


class TestAudit(OnPostgres, AuditContract):
    pass


class TestTenantDatabases(OnPostgres, TenantDatabasesContract):
    def make_tenants(self, databases: Databases) -> TenantDatabases:
        assert isinstance(databases, SuiteDatabases)
        return databases.tenants
