from collections.abc import Callable
from uuid import UUID

from attrs import frozen

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, NotFound
from ordersync_core.kernel.ids import Ids
from ordersync_core.messaging.ports import Feed
from ordersync_core.testing.memory.administrations import MemoryAdministrationQueries
from ordersync_core.testing.memory.audit import MemoryAuditQueries
from ordersync_core.testing.memory.connections import MemoryConnectionQueries
from ordersync_core.testing.memory.flows import MemoryFlowQueries
from ordersync_core.testing.memory.items import MemoryItemQueries
from ordersync_core.testing.memory.jobs import MemoryJobQueries
from ordersync_core.testing.memory.locks import Locks
from ordersync_core.testing.memory.outbox import FEED, THE_FEED, MemoryEventQueries
from ordersync_core.testing.memory.transaction import MemoryDatabase, Observe, Table
from ordersync_core.testing.memory.unit_of_work import MemoryAdminUnitOfWork, MemoryUnitOfWork
from ordersync_core.testing.memory.webhooks import MemoryWebhookQueries


@frozen
class Tenant:
    """Whose database it is."""

    code: str
    epoch: UUID


TENANT = Table[str, Tenant]("tenant")
THE_TENANT = "the one row"


class MemoryQueries(
    MemoryItemQueries,
    MemoryEventQueries,
    MemoryWebhookQueries,
    MemoryConnectionQueries,
    MemoryFlowQueries,
    MemoryAuditQueries,
):
    """What is committed in the database of one administration."""


class MemoryAdminQueries(MemoryAdministrationQueries, MemoryJobQueries):
    """What is committed in the admin database."""


class MemoryTenantDatabases:
    """The databases of the administrations.

    one_writer, observe: as for `MemoryDatabases`.
    """

    def __init__(self, locks: Locks, *, one_writer: bool = False, observe: Observe | None = None) -> None:
        self._locks = locks
        self._one_writer = one_writer
        self._observe = observe
        self._databases: dict[str, MemoryDatabase] = {}
        self._migrated: set[str] = set()

    def create(self, code: str) -> None:
        if code not in self._databases:
            database = MemoryDatabase(code, self._locks, one_writer=self._one_writer, observe=self._observe)
            self._databases[code] = database

    def migrate(self, code: str) -> None:
        self._migrated.add(self._created(code).name)

    def initialise(self, code: str, epoch: UUID) -> None:
        database = self._created(code)
        if code not in self._migrated:
            raise NotFound(f"the database of {code} has no tables yet")
        with database.moment():
            kept = database.row(TENANT, THE_TENANT)
            if kept is None:
                database.apply(
                    {
                        TENANT.name: {THE_TENANT: Tenant(code, epoch)},
                        FEED.name: {THE_FEED: Feed(epoch=epoch, last_number=0)},
                    }
                )
            elif kept.code != code:
                raise Conflict(f"the database of {code} holds the data of {kept.code}")

    def of(self, code: str | None) -> MemoryDatabase:
        """The database that this administration works in.

        Raises:
            NotFound: there is none, or its creation broke off.
            Conflict: it is another tenant's.
        """
        if code is None:
            raise NotFound("work on the platform itself has no tenant database")
        database = self._created(code)
        tenant = database.row(TENANT, THE_TENANT)
        if tenant is None:
            raise NotFound(f"the database of {code} was not initialised")
        if tenant.code != code:
            raise Conflict(f"the database of {code} holds the data of {tenant.code}")
        return database

    def _created(self, code: str) -> MemoryDatabase:
        if code not in self._databases:
            raise NotFound(f"there is no database of {code}")
        return self._databases[code]


class MemoryDatabases:
    """The admin database, and those of the tenants that `tenants` makes. Nothing outlives the object.

    clock: stamps what is told, and is the databases' own clock for leases too.
    on_commit: told the administration after a commit that leaves something to be sent; the commit stands, whatever it
        raises.
    one_writer: False: rows are locked, as on Postgres. True: a unit of work has its database to itself, as on SQLite.
    locks: the one place where a unit of work waits for another one.
    observe: told of each commit in any of the databases, before it is seen.
    """

    def __init__(
        self,
        clock: Clock,
        ids: Ids,
        on_commit: Callable[[str], None] | None = None,
        *,
        one_writer: bool = False,
        locks: Locks | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._on_commit = on_commit
        self.locks = locks or Locks()
        self.admin = MemoryDatabase("the admin database", self.locks, one_writer=one_writer, observe=observe)
        self.tenants = MemoryTenantDatabases(self.locks, one_writer=one_writer, observe=observe)

    def add_tenant(self, code: str) -> None:
        """Its database alone, ready for use: no row in the admin database."""
        self.tenants.create(code)
        self.tenants.migrate(code)
        self.tenants.initialise(code, self._ids.new())

    def unit_of_work(self, context: Context) -> MemoryUnitOfWork:
        database = self.tenants.of(context.administration)
        return MemoryUnitOfWork(database, context, self._clock, ids=self._ids, on_commit=self._on_commit)

    def admin_unit_of_work(self, context: Context) -> MemoryAdminUnitOfWork:
        return MemoryAdminUnitOfWork(self.admin, context, self._clock)

    def queries(self, context: Context) -> MemoryQueries:
        return MemoryQueries(self.tenants.of(context.administration))

    def admin_queries(self) -> MemoryAdminQueries:
        return MemoryAdminQueries(self.admin)
