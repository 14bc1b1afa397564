"""Every suite over databases, on SQLite and on Postgres."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from attrs import frozen
from sqlalchemy import MetaData, text
from sqlalchemy.engine import make_url

from ordersync_adapters.sql.engines import writing_engine
from ordersync_adapters.sql.metadata import admin, tenant
from ordersync_adapters.sql.tables.raw import RAW
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
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
from tests.postgres import PostgresServer

GAMMA = "gamma"
KEPT = ("tenant", "relay", "alembic_version")

on_postgres = pytest.mark.parametrize("server", ["postgres"], indirect=True)


@frozen
class Server:
    """Where the databases lie: those of the suites' tenants are made once, and wiped for each test."""

    admin_url: str
    tenants_url: str
    drop: Callable[[str], None]

    def open(self, clock: ManualClock) -> SqlDatabases:
        return SqlDatabases(self.admin, self.tenants, clock=clock, ids=SteppingIds())

    @property
    def admin(self) -> AdminDatabase:
        return AdminDatabase(self.admin_url)

    @property
    def tenants(self) -> SqlTenantDatabases:
        return SqlTenantDatabases(self.tenants_url)

    def create(self) -> None:
        ids = SteppingIds()
        self.admin.create()
        self.admin.migrate()
        for code in (ALPHA, BETA):
            self.tenants.create(code)
            self.tenants.migrate(code)
            self.tenants.initialise(code, ids.new())

    def wipe(self) -> None:
        _wipe(self.admin_url, admin)
        for code in (ALPHA, BETA):
            _wipe(self.url(code), tenant)

    def url(self, code: str) -> str:
        return self.tenants_url.replace("{code}", code)


def _wipe(url: str, metadata: MetaData) -> None:
    engine = writing_engine(url)
    others = RAW[engine.dialect.name] if metadata is tenant else MetaData()
    with engine.begin() as connection:
        for table in reversed([*metadata.sorted_tables, *others.sorted_tables]):
            if table.name not in KEPT:
                connection.execute(table.delete())
        if metadata is tenant:
            connection.execute(text("UPDATE relay SET last_number = 0"))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("contracts")
        opened = Server(f"sqlite:///{folder}/admin.db", f"sqlite:///{folder}/{{code}}.db", _remove_from(folder))
        opened.create()
        yield opened
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    admin_url = make_url(postgres.url("contracts_admin")).render_as_string(hide_password=False)
    opened = Server(
        admin_url,
        admin_url.replace("contracts_admin", "contracts_{code}"),
        lambda code: postgres.drop_database(f"contracts_{code}"),
    )
    opened.create()
    yield opened
    for name in ("admin", ALPHA, BETA):
        postgres.drop_database(f"contracts_{name}")


def _remove_from(folder: Path) -> Callable[[str], None]:
    def remove(code: str) -> None:
        for file in folder.glob(f"{code}.db*"):
            file.unlink()

    return remove


class OnSql(DatabasesContract):
    @pytest.fixture
    def databases(self, server: Server, clock: ManualClock) -> Iterator[SqlDatabases]:
        server.wipe()
        opened = server.open(clock)
        yield opened
        opened.close()

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


class TestAudit(OnSql, AuditContract):
    pass


class TestTenantDatabases(OnSql, TenantDatabasesContract):
    @pytest.fixture
    def tenants(self, server: Server, databases: SqlDatabases) -> Iterator[TenantDatabases]:
        yield server.tenants
        databases.close()
        server.drop(GAMMA)
