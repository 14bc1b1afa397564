"""One unit of work serves all slices of its database."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from attrs import evolve

from ordersync_core.audit.model import AuditEntry, audit_entry
from ordersync_core.kernel.change import Change
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.ids import Ids
from ordersync_core.messaging.model import OutboxRow, outbox_row
from ordersync_core.testing.memory.administrations import MemoryAdministrationRepository, MemoryMembershipRepository
from ordersync_core.testing.memory.audit import AUDIT
from ordersync_core.testing.memory.connections import MemoryAuthorisationStateRepository, MemoryConnectionRepository
from ordersync_core.testing.memory.flows import (
    MemoryExecutionRepository,
    MemoryFlowRepository,
    MemoryQuarantineRepository,
    MemoryRawRepository,
)
from ordersync_core.testing.memory.items import MemoryItemRepository
from ordersync_core.testing.memory.jobs import MemoryJobDefinitionRepository, MemoryJobRunRepository
from ordersync_core.testing.memory.leases import MemoryLeaseRepository
from ordersync_core.testing.memory.outbox import OUTBOX, MemoryEventLog, MemoryOutboxRepository
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction, json_copy
from ordersync_core.testing.memory.wake import MemoryWakeRepository
from ordersync_core.testing.memory.webhooks import DELIVERIES, MemoryDeliveryRepository, MemoryWebhookRepository
from ordersync_core.webhooks.model import Delivery

INBOX = Table[tuple[str, UUID], UUID]("inbox")


class MemoryTransaction:
    """What both kinds of unit of work share: a transaction that lives as long as the block."""

    def __init__(self, database: MemoryDatabase, context: Context, clock: Clock) -> None:
        self._database = database
        self._context = context
        self._clock = clock
        self._open: Transaction | None = None

    def __enter__(self) -> Self:
        if self._open is not None:
            raise RuntimeError("the unit of work is open already")
        self._open = Transaction(self._database, self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.end()
        self._open = None

    def commit(self) -> None:
        self._transaction.commit()

    @property
    def leases(self) -> MemoryLeaseRepository:
        return MemoryLeaseRepository(self._transaction, self._clock)

    @property
    def _transaction(self) -> Transaction:
        if self._open is None:
            raise RuntimeError("the unit of work is used outside of its block")
        return self._open


class MemoryUnitOfWork(MemoryTransaction):
    """on_commit: told the administration after a commit that leaves something to be sent; the commit stands, whatever
    it raises."""

    def __init__(
        self,
        database: MemoryDatabase,
        context: Context,
        clock: Clock,
        *,
        ids: Ids,
        on_commit: Callable[[str], None] | None,
    ) -> None:
        super().__init__(database, context, clock)
        self._ids = ids
        self._on_commit = on_commit
        self._outbox: list[OutboxRow] = []
        self._audit: list[AuditEntry] = []

    def __enter__(self) -> Self:
        self._outbox, self._audit = [], []
        return super().__enter__()

    def tell(self, *changes: Change[Any]) -> None:
        now = self._clock.now()
        for notification in (change.notification for change in changes):
            id = self._ids.new()
            self._outbox.append(outbox_row(notification, id=id, at=now, context=self._context))
            self._audit.append(audit_entry(notification, id=id, at=now, context=self._context))

    def processed(self, handler: str, message_ids: Sequence[UUID]) -> frozenset[UUID]:
        new = {id for id in sorted(set(message_ids)) if self._transaction.insert_absent(INBOX, (handler, id), id)}
        return frozenset(message_ids) - new

    def commit(self) -> None:
        self._write_audit_then_outbox()
        written: list[OutboxRow | Delivery] = [
            *self._transaction.written(OUTBOX),
            *self._transaction.written(DELIVERIES),
        ]
        owes = any(_is_to_be_sent(row) for row in written)
        super().commit()
        if owes and self._on_commit is not None:
            with suppress(Exception):
                self._on_commit(self._database.name)

    def _write_audit_then_outbox(self) -> None:
        for entry in self._audit:
            stored = evolve(entry, before=json_copy(entry.before), after=json_copy(entry.after))
            self._transaction.insert(AUDIT, entry.id, stored)
        for row in self._outbox:
            content = {"before": json_copy(row.before), "after": json_copy(row.after)}
            self._transaction.insert(OUTBOX, row.id, evolve(row, order=self._database.next_order(), **content))

    @property
    def items(self) -> MemoryItemRepository:
        return MemoryItemRepository(self._transaction)

    @property
    def outbox(self) -> MemoryOutboxRepository:
        return MemoryOutboxRepository(self._transaction)

    @property
    def webhooks(self) -> MemoryWebhookRepository:
        return MemoryWebhookRepository(self._transaction)

    @property
    def deliveries(self) -> MemoryDeliveryRepository:
        return MemoryDeliveryRepository(self._transaction)

    @property
    def event_log(self) -> MemoryEventLog:
        return MemoryEventLog(self._transaction)

    @property
    def connections(self) -> MemoryConnectionRepository:
        return MemoryConnectionRepository(self._transaction)

    @property
    def flows(self) -> MemoryFlowRepository:
        return MemoryFlowRepository(self._transaction)

    @property
    def executions(self) -> MemoryExecutionRepository:
        return MemoryExecutionRepository(self._transaction)

    @property
    def quarantine(self) -> MemoryQuarantineRepository:
        return MemoryQuarantineRepository(self._transaction)

    def raw(self, connector: str, connection_id: UUID, entity: str) -> MemoryRawRepository:
        return MemoryRawRepository(self._transaction, connector, connection_id, entity)


class MemoryAdminUnitOfWork(MemoryTransaction):
    @property
    def administrations(self) -> MemoryAdministrationRepository:
        return MemoryAdministrationRepository(self._transaction)

    @property
    def memberships(self) -> MemoryMembershipRepository:
        return MemoryMembershipRepository(self._transaction)

    @property
    def definitions(self) -> MemoryJobDefinitionRepository:
        return MemoryJobDefinitionRepository(self._transaction)

    @property
    def runs(self) -> MemoryJobRunRepository:
        return MemoryJobRunRepository(self._transaction)

    @property
    def authorisation_states(self) -> MemoryAuthorisationStateRepository:
        return MemoryAuthorisationStateRepository(self._transaction)

    @property
    def wake(self) -> MemoryWakeRepository:
        return MemoryWakeRepository(self._transaction)


def _is_to_be_sent(row: OutboxRow | Delivery) -> bool:
    """Whether the row waits for its number, or for a first ticket."""
    return row.tickets == 0 and (isinstance(row, OutboxRow) or row.ticket_at is not None)
