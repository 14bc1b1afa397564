"""Which database an administration gets, and which connections stay open."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url

from ordersync_adapters.sql.creation import create_database
from ordersync_adapters.sql.engines import writing_engine
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound, TemporaryFailure
from tests.adapters.sql.places import Place, postgres_place, sqlite_place
from tests.postgres import PostgresServer

SHORT = timedelta(milliseconds=50)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield sqlite_place(tmp_path)
    else:
        with postgres_place(request.getfixturevalue("postgres"), "acme", "bolt") as place:
            yield place


@pytest.fixture
def tenants(place: Place) -> Iterator[SqlTenantDatabases]:
    databases = SqlTenantDatabases(place.tenants)
    yield databases
    databases.close()


def made(tenants: SqlTenantDatabases, code: str) -> None:
    tenants.create(code)
    tenants.migrate(code)
    tenants.initialise(code, uuid4())


def opened(opens: Callable[[str], AbstractContextManager[Connection]], code: str) -> bool:
    with opens(code) as connection:
        return bool(connection.execute(text("SELECT code FROM tenant")).scalar_one() == code)


def rename_tenant(place: Place, code: str, to: str) -> None:
    with writing_engine(place.tenant(code)).begin() as connection:
        connection.execute(text("UPDATE tenant SET code = :code"), {"code": to})


@contextmanager
def set_revision(url: str | URL, revision: str) -> Iterator[None]:
    """Until the end of the block."""
    engine = writing_engine(url)
    with engine.begin() as connection:
        kept = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": revision})
    yield
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": kept})


def test_each_administration_has_its_own(tenants: SqlTenantDatabases) -> None:
    for code in ("acme", "bolt"):
        made(tenants, code)

    for code in ("acme", "bolt"):
        assert opened(tenants.writing, code)
        assert opened(tenants.reading, code)
        assert tenants.is_current(code)


def test_a_database_that_names_another_tenant_is_refused(place: Place, tenants: SqlTenantDatabases) -> None:
    made(tenants, "acme")
    rename_tenant(place, "acme", to="bolt")

    for opens in (tenants.writing, tenants.reading):
        with pytest.raises(Conflict, match="'acme' holds the data of 'bolt'"), opens("acme"):
            pass
    with pytest.raises(Conflict, match="'acme' holds the data of 'bolt'"):
        tenants.initialise("acme", uuid4())


def test_it_is_refused_too_by_a_process_that_knew_the_right_one(place: Place) -> None:
    """A backup may have been put in its place meanwhile."""
    tenants = SqlTenantDatabases(place.tenants, keep=0)
    made(tenants, "acme")
    assert opened(tenants.writing, "acme")
    rename_tenant(place, "acme", to="bolt")

    with pytest.raises(Conflict), tenants.writing("acme"):
        pass
    rename_tenant(place, "acme", to="acme")
    assert opened(tenants.writing, "acme")


def test_one_that_is_not_there_yet_is_not_found(place: Place, tenants: SqlTenantDatabases) -> None:
    def is_refused(sentence: str) -> None:
        for opens in (tenants.writing, tenants.reading):
            with pytest.raises(NotFound, match=sentence), opens("acme"):
                pass

    is_refused("there is no database of administration 'acme'")
    with pytest.raises(NotFound):
        tenants.migrate("acme")
    with pytest.raises(NotFound):
        tenants.is_current("acme")
    with pytest.raises(NotFound, match="there is no admin database"), AdminDatabase(place.admin).writing():
        pass
    tenants.create("acme")
    is_refused("has no tables yet")
    tenants.migrate("acme")
    is_refused("was not initialised")
    tenants.initialise("acme", uuid4())
    assert opened(tenants.writing, "acme")


def test_a_database_of_a_later_release_is_not_opened(place: Place, tenants: SqlTenantDatabases) -> None:
    made(tenants, "acme")
    admin = AdminDatabase(place.admin)
    admin.create()
    admin.migrate()
    ways: tuple[tuple[str | URL, Callable[[], AbstractContextManager[Connection]]], ...] = (
        (place.tenant("acme"), lambda: tenants.writing("acme")),
        (place.tenant("acme"), lambda: tenants.reading("acme")),
        (place.admin, admin.writing),
        (place.admin, admin.reading),
    )
    for url, opens in ways:
        refused = pytest.raises(TemporaryFailure, match="later_9999, which a later release has made")
        with set_revision(url, "later_9999"), refused, opens():
            pass
        with opens():
            pass
        tenants.close()
        admin.close()


def test_an_admin_database_without_tables_is_not_opened(place: Place) -> None:
    admin = AdminDatabase(place.admin)
    admin.create()
    with pytest.raises(TemporaryFailure, match="the admin database has no tables yet"), admin.writing():
        pass
    admin.migrate()
    with admin.writing():
        pass
    admin.close()


def test_a_code_cannot_lead_elsewhere(tenants: SqlTenantDatabases) -> None:
    for code in ("../admin", "a/b", "ACME", "", "acme?host=elsewhere"):
        with pytest.raises(InvalidInput), tenants.writing(code):
            pass
    with pytest.raises(InvalidInput, match=r"\{code\}"):
        SqlTenantDatabases("sqlite:///tenant.db")


def test_creating_it_again_keeps_what_is_there(place: Place, tenants: SqlTenantDatabases) -> None:
    made(tenants, "acme")
    create_database(place.tenant("acme"))

    assert opened(tenants.writing, "acme")


def test_a_reading_connection_writes_nothing(tenants: SqlTenantDatabases) -> None:
    made(tenants, "acme")

    with tenants.reading("acme") as connection, pytest.raises(Exception, match=r"readonly|read-only"):
        connection.execute(text("UPDATE relay SET last_number = 7"))
    with tenants.reading("acme") as connection:
        assert connection.execute(text("SELECT last_number FROM relay")).scalar_one() == 0


def test_an_idle_tenant_holds_no_connection(postgres: PostgresServer) -> None:
    with postgres_place(postgres, "acme") as place:
        tenants = SqlTenantDatabases(place.tenants, idle=SHORT)
        made(tenants, "acme")
        with tenants.writing("acme"), tenants.reading("acme"):
            time.sleep(3 * SHORT.total_seconds())
            wait_until(lambda: connections(postgres, place) == 2)  # the server takes a while to end those of `made`
        wait_until(lambda: connections(postgres, place) == 0)
        assert opened(tenants.writing, "acme")
        assert connections(postgres, place) > 0
        tenants.close()
        wait_until(lambda: connections(postgres, place) == 0)


def test_only_so_many_tenants_hold_connections(postgres: PostgresServer) -> None:
    with postgres_place(postgres, "acme", "bolt") as place:
        tenants = SqlTenantDatabases(place.tenants, size=1)
        for code in ("acme", "bolt"):
            made(tenants, code)
            assert opened(tenants.writing, code)

        wait_until(lambda: connections(postgres, place, "acme") == 0)
        assert connections(postgres, place, "bolt") == 1
        with tenants.writing("bolt"), tenants.writing("acme"):
            pass
        assert opened(tenants.writing, "bolt")
        tenants.close()


def connections(server: PostgresServer, place: Place, code: str = "acme") -> int:
    url = make_url(server.url()).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        row = connection.execute(statement, (place.tenant(code).database,)).fetchone()
        assert row is not None
        count: int = row[0]
        return count


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
