"""Where a test's databases lie, and the databases of the suites: the admin database and two tenants."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_core.kernel.clock import Clock
from ordersync_core.testing.clocks import SteppingIds
from ordersync_core.testing.contracts.databases import ALPHA, BETA
from tests.postgres import PostgresServer

_numbers = itertools.count(1)


@frozen
class Place:
    """admin: the URL of the admin database. tenants: that of the tenants' databases, with `{code}`."""

    admin: str
    tenants: str

    @property
    def is_postgres(self) -> bool:
        return self.admin.startswith("postgresql")

    def tenant(self, code: str) -> str:
        return self.tenants.replace("{code}", code)


def sqlite_place(folder: Path) -> Place:
    return Place(f"sqlite:///{folder}/admin.db", f"sqlite:///{folder}/tenants/{{code}}.db")


@contextmanager
def postgres_place(server: PostgresServer, *codes: str) -> Iterator[Place]:
    """Names of databases that are dropped at the end, as far as they were made: the admin database and these codes."""
    number = next(_numbers)
    yield Place(server.url(f"admin_{number}"), server.url(f"tenant_{number}_{{code}}"))
    for name in (f"admin_{number}", *(f"tenant_{number}_{code}" for code in codes)):
        server.drop_database(name)


@frozen
class Migrated:
    """Copies of databases that were migrated once: a migration for each test would take most of its time."""

    copy: Callable[[str, str], None]
    """Copies a database to a new one, both by URL."""
    template: Place = field()

    def databases(self, place: Place, clock: Clock) -> "SuiteDatabases":
        """The admin database, and the two tenants of the suites."""
        self.copy(self.template.admin, place.admin)
        tenants = SqlTenantDatabases(place.tenants)
        ids = SteppingIds()
        for code in (ALPHA, BETA):
            self.copy(self.template.tenant(ALPHA), place.tenant(code))
            tenants.initialise(code, ids.new())
        return SuiteDatabases(AdminDatabase(place.admin), tenants, clock=clock, ids=ids)


class SuiteDatabases(SqlDatabases):
    @property
    def tenants(self) -> SqlTenantDatabases:
        return self._tenants


def migrated(place: Place, copy: Callable[[str, str], None]) -> Migrated:
    admin = AdminDatabase(place.admin)
    admin.create()
    admin.migrate()
    tenants = SqlTenantDatabases(place.tenants)
    tenants.create(ALPHA)
    tenants.migrate(ALPHA)
    return Migrated(copy, place)


def copy_file(template: str, new: str) -> None:
    path = Path(new.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template.removeprefix("sqlite:///"), path)


def copy_on(server: PostgresServer) -> Callable[[str, str], None]:
    return lambda template, new: server.create_database(_name(new), _name(template))


def _name(url: str) -> str:
    return url.rpartition("/")[2]
