"""Every suite over databases, on SQLite and on Postgres."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from attrs import frozen
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.engine import make_url

from ordersync_adapters.sql.metadata import admin, tenant
from ordersync_adapters.sql.tables.raw import RAW
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.transactions import commit
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock, SteppingIds
from ordersync_core.testing.contracts.administrations import (
    AdministrationsContract,
    OverlappingWakeContract,
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
from tests.postgres import PostgresServer

GAMMA = "gamma"
KEPT = ("tenant", "relay")

on_postgres = pytest.mark.parametrize("server", ["postgres"], indirect=True)


@frozen
class Server:
    """Where the databases lie. Those of the suites' tenants are made once, kept open, and wiped for each test.

    drop: removes the database of an administration.
    """

    admin: AdminDatabase
    tenants: SqlTenantDatabases
    url: Callable[[str], str]
    drop: Callable[[str], None]

    def create(self) -> None:
        ids = SteppingIds()
        self.admin.create()
        self.admin.migrate()
        for code in (ALPHA, BETA):
            self.tenants.create(code)
            self.tenants.migrate(code)
            self.tenants.initialise(code, ids.new())

    def wipe(self) -> None:
        with self.admin.writing() as connection:
            _wipe(connection, admin)
        for code in (ALPHA, BETA):
            with self.tenants.writing(code) as connection:
                connection.execute(text("UPDATE relay SET last_number = 0"))
                _wipe(connection, RAW[connection.dialect.name], tenant)

    def databases(self, clock: ManualClock) -> SqlDatabases:
        return SqlDatabases(self.admin, self.tenants, clock=clock, ids=SteppingIds())

    def close(self) -> None:
        self.admin.close()
        self.tenants.close()


def _wipe(connection: Connection, *metadata: MetaData) -> None:
    for table in [table for part in metadata for table in reversed(part.sorted_tables)]:
        if table.name not in KEPT:
            connection.execute(table.delete())
    commit(connection)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("contracts")
        opened = _server(lambda code: f"sqlite:///{folder}/{code}.db", _remove_from(folder))
        yield opened
        opened.close()
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    opened = _server(
        lambda code: postgres.url(f"contracts_{code}"), lambda code: postgres.drop_database(f"contracts_{code}")
    )
    yield opened
    opened.close()
    for name in ("admin", ALPHA, BETA):
        opened.drop(name)


def _server(url: Callable[[str], str], drop: Callable[[str], None]) -> Server:
    server = Server(AdminDatabase(url("admin")), SqlTenantDatabases(url("{code}")), url, drop)
    server.create()
    return server


def _remove_from(folder: Path) -> Callable[[str], None]:
    def remove(code: str) -> None:
        for file in folder.glob(f"{code}.db*"):
            file.unlink()

    return remove


class OnSql(DatabasesContract):
    @pytest.fixture
    def databases(self, server: Server, clock: ManualClock) -> SqlDatabases:
        server.wipe()
        return server.databases(clock)

    def pass_time(self, clock: ManualClock, duration: timedelta) -> None:
        time.sleep(duration.total_seconds())


class TestUnitOfWork(OnSql, UnitOfWorkContract):
    pass


class TestItems(OnSql, ItemsContract):
    pass


@on_postgres
class TestOverlappingItems(OnSql, OverlappingItemsContract):
    pass


class TestOutbox(OnSql, OutboxContract):
    pass


@on_postgres
class TestLateCommit(OnSql, LateCommitContract):
    """A deferred trigger runs within COMMIT, when all rows are written and nobody sees them yet."""

    LOCK = 4711

    @pytest.fixture(autouse=True)
    def remember_server(self, server: Server) -> None:
        self.server = server

    @contextmanager
    def hold_commits(self, databases: Databases, correlation_id: str) -> Iterator[Callable[[], None]]:
        conninfo = make_url(self.server.url(ALPHA)).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                f"""
                CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF NEW.correlation_id = '{correlation_id}' THEN
                        PERFORM pg_advisory_xact_lock({self.LOCK});
                    END IF;
                    RETURN NULL;
                END $$;
                CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT ON outbox
                    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_commit();
                """
            )
            connection.execute("SELECT pg_advisory_lock(%s)", (self.LOCK,))
            try:
                yield lambda: self._wait_until_held(connection)
            finally:
                connection.execute("SELECT pg_advisory_unlock(%s)", (self.LOCK,))
                connection.execute("DROP FUNCTION hold_commit() CASCADE")

    def _wait_until_held(self, connection: psycopg.Connection[tuple[int]]) -> None:
        end = time.monotonic() + PATIENCE
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
        while connection.execute(waiting, (self.LOCK,)).fetchone() == (0,):
            assert time.monotonic() < end
            time.sleep(0.005)


class TestInbox(OnSql, InboxContract):
    pass


class TestWebhooks(OnSql, WebhooksContract):
    pass


class TestDeliveries(OnSql, DeliveriesContract):
    pass


class TestTenantLease(OnSql, TenantLeaseContract):
    pass


class TestAdminLease(OnSql, AdminLeaseContract):
    pass


class TestConnections(OnSql, ConnectionsContract):
    pass


class TestFlows(OnSql, FlowsContract):
    pass


class TestRawRecords(OnSql, RawRecordsContract):
    pass


class TestJobs(OnSql, JobsContract):
    pass


@on_postgres
class TestOverlappingJobs(OnSql, OverlappingJobsContract):
    pass


class TestAdministrations(OnSql, AdministrationsContract):
    pass


class TestWake(OnSql, WakeContract):
    pass


@on_postgres
class TestOverlappingWake(OnSql, OverlappingWakeContract):
    pass


class TestAudit(OnSql, AuditContract):
    pass


class TestTenantDatabases(OnSql, TenantDatabasesContract):
    @pytest.fixture
    def databases(self, server: Server, clock: ManualClock) -> Iterator[SqlDatabases]:
        """With connections of its own, so that none is left to the database that the test makes."""
        self.own = SqlTenantDatabases(server.url("{code}"))
        yield SqlDatabases(server.admin, self.own, clock=clock, ids=SteppingIds())
        self.own.close()
        server.drop(GAMMA)

    def make_tenants(self, databases: Databases) -> TenantDatabases:
        return self.own
