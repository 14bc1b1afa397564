"""One unit of work, and one object of queries, serve all slices of a database."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from attrs import field, frozen
from sqlalchemy import Connection, Table

from ordersync_adapters.sql import audit, outbox
from ordersync_adapters.sql.administrations import (
    AdministrationSqlQueries,
    SqlAdministrations,
    SqlMemberships,
    SqlWake,
)
from ordersync_adapters.sql.audit import AuditSqlQueries
from ordersync_adapters.sql.bulk import Stored
from ordersync_adapters.sql.connections import ConnectionSqlQueries, SqlAuthorisationStates, SqlConnections
from ordersync_adapters.sql.flows import FlowSqlQueries, SqlExecutions, SqlFlows, SqlQuarantine
from ordersync_adapters.sql.items import ItemSqlQueries, SqlItems
from ordersync_adapters.sql.jobs import JobSqlQueries, SqlJobDefinitions, SqlJobRuns
from ordersync_adapters.sql.leases import SqlLeases
from ordersync_adapters.sql.outbox import EventSqlQueries, SqlOutbox, enter_inbox
from ordersync_adapters.sql.raw import SqlRaw
from ordersync_adapters.sql.tables.leases import admin_leases, tenant_leases
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.transactions import commit
from ordersync_adapters.sql.types import stored_moment, to_json
from ordersync_adapters.sql.webhooks import SqlDeliveries, SqlEventLog, SqlWebhooks, WebhookSqlQueries
from ordersync_core.audit.model import audited_after
from ordersync_core.kernel.change import Change
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.ids import Ids

_log = logging.getLogger(__name__)


class SqlTransaction:
    """What both kinds of unit of work share: a transaction that lives as long as the block.

    begin: opens a connection in a transaction that is undone at the end, unless it was committed.
    leases: the table of this database.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]], leases: Table) -> None:
        self._begin = begin
        self._leases = leases
        self._block: AbstractContextManager[Connection] | None = None
        self._open: Connection | None = None

    def __enter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("the unit of work is open already")
        block = self._begin()
        self._open = block.__enter__()
        self._block = block
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block, self._open = self._block, None, None
        if block is not None:
            block.__exit__(None, None, None)

    def commit(self) -> None:
        commit(self._connection)
        self._open = None

    @property
    def leases(self) -> SqlLeases:
        return SqlLeases(self._connection, self._leases)

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("the unit of work has no transaction: it was committed, or is used outside of its block")
        return self._open


@frozen
class _Memory:
    """What one transaction remembers of its own beginning when it comes to its end."""

    connection: Connection
    items: SqlItems
    flows: SqlFlows
    outbox: SqlOutbox
    deliveries: SqlDeliveries
    told: list[Stored] = field(factory=list)
    audited: list[Stored] = field(factory=list)

    @classmethod
    def of(cls, connection: Connection) -> Self:
        return cls(
            connection,
            items=SqlItems(connection),
            flows=SqlFlows(connection),
            outbox=SqlOutbox(connection),
            deliveries=SqlDeliveries(connection),
        )


class SqlUnitOfWork(SqlTransaction):
    """A transaction on the database of the context's administration.

    on_commit: called after a commit that leaves something to be sent; an error of it is only logged.
    """

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Connection]],
        context: Context,
        *,
        clock: Clock,
        ids: Ids,
        on_commit: Callable[[], None],
    ) -> None:
        super().__init__(begin, tenant_leases)
        self._context = context
        self._clock = clock
        self._ids = ids
        self._on_commit = on_commit
        self._memory: _Memory | None = None

    def tell(self, *changes: Change[Any]) -> None:
        memory, context = self._remembered, self._context
        at = stored_moment(self._clock.now(), memory.connection.dialect)
        for told in (change.notification for change in changes):
            id = str(self._ids.new())
            # JSON is made here and once: what was told would otherwise be held until the end, and then spelled twice
            before = to_json(told.before) if told.before else "{}"
            after = None if told.after is None else to_json(told.after)
            audited = audited_after(told)
            audited_json = after if after is not None and audited is told.after else to_json(audited)
            memory.told.append(outbox.to_row(told, id=id, at=at, context=context, before=before, after=after))
            memory.audited.append(audit.to_row(told, id=id, at=at, context=context, before=before, after=audited_json))

    def processed(self, handler: str, message_ids: Sequence[UUID]) -> frozenset[UUID]:
        return enter_inbox(self._connection, handler, message_ids, self._clock.now())

    def commit(self) -> None:
        memory = self._remembered
        audit.write_entries(self._connection, memory.audited)
        # the outbox comes last: its counter then follows the order of commits as closely as it can
        outbox.write_rows(self._connection, memory.told)
        super().commit()
        if memory.told or memory.outbox.owes or memory.deliveries.owes:
            self._tell_of_commit()

    def _tell_of_commit(self) -> None:
        try:
            self._on_commit()
        except Exception:
            _log.exception("what is to be done after a commit has failed; the commit stands")

    @property
    def items(self) -> SqlItems:
        return self._remembered.items

    @property
    def outbox(self) -> SqlOutbox:
        return self._remembered.outbox

    @property
    def webhooks(self) -> SqlWebhooks:
        return SqlWebhooks(self._connection)

    @property
    def deliveries(self) -> SqlDeliveries:
        return self._remembered.deliveries

    @property
    def event_log(self) -> SqlEventLog:
        return SqlEventLog(self._connection)

    @property
    def connections(self) -> SqlConnections:
        return SqlConnections(self._connection)

    @property
    def flows(self) -> SqlFlows:
        return self._remembered.flows

    @property
    def executions(self) -> SqlExecutions:
        return SqlExecutions(self._connection)

    @property
    def quarantine(self) -> SqlQuarantine:
        return SqlQuarantine(self._connection)

    def raw(self, connector: str, connection_id: UUID, entity: str) -> SqlRaw:
        return SqlRaw(self._connection, connector, connection_id, entity)

    @property
    def _remembered(self) -> _Memory:
        connection = self._connection
        if self._memory is None or self._memory.connection is not connection:
            self._memory = _Memory.of(connection)
        return self._memory


class SqlAdminUnitOfWork(SqlTransaction):
    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        super().__init__(begin, admin_leases)

    @property
    def administrations(self) -> SqlAdministrations:
        return SqlAdministrations(self._connection)

    @property
    def memberships(self) -> SqlMemberships:
        return SqlMemberships(self._connection)

    @property
    def definitions(self) -> SqlJobDefinitions:
        return SqlJobDefinitions(self._connection)

    @property
    def runs(self) -> SqlJobRuns:
        return SqlJobRuns(self._connection)

    @property
    def authorisation_states(self) -> SqlAuthorisationStates:
        return SqlAuthorisationStates(self._connection)

    @property
    def wake(self) -> SqlWake:
        return SqlWake(self._connection)


class SqlQueries(
    ItemSqlQueries,
    EventSqlQueries,
    WebhookSqlQueries,
    ConnectionSqlQueries,
    FlowSqlQueries,
    AuditSqlQueries,
):
    """What is committed in the database of one administration."""


class SqlAdminQueries(AdministrationSqlQueries, JobSqlQueries):
    """What is committed in the admin database."""


class SqlDatabases:
    """The admin database, and the one of each administration.

    on_commit: told the administration after a commit that leaves something to be sent: a wake-up. It must not block;
        an error of it is only logged.
    """

    def __init__(
        self,
        admin: AdminDatabase,
        tenants: SqlTenantDatabases,
        *,
        clock: Clock,
        ids: Ids,
        on_commit: Callable[[str], None] | None = None,
    ) -> None:
        self._admin = admin
        self._tenants = tenants
        self._clock = clock
        self._ids = ids
        self._on_commit = on_commit

    def unit_of_work(self, context: Context) -> SqlUnitOfWork:
        code = _administration(context)
        return SqlUnitOfWork(
            lambda: self._tenants.writing(code),
            context,
            clock=self._clock,
            ids=self._ids,
            on_commit=lambda: self._committed(code),
        )

    def admin_unit_of_work(self, context: Context) -> SqlAdminUnitOfWork:
        return SqlAdminUnitOfWork(self._admin.writing)

    def queries(self, context: Context) -> SqlQueries:
        code = _administration(context)
        return SqlQueries(lambda: self._tenants.reading(code))

    def admin_queries(self) -> SqlAdminQueries:
        return SqlAdminQueries(self._admin.reading)

    def close(self) -> None:
        """Close all idle connections."""
        self._admin.close()
        self._tenants.close()

    def _committed(self, code: str) -> None:
        if self._on_commit is not None:
            self._on_commit(code)


def _administration(context: Context) -> str:
    if context.administration is None:
        raise NotFound("work on the platform itself has no tenant database")
    return context.administration
