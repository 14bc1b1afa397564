"""Eighteen bugs of the kind that only shows when something goes wrong, each a patch of the running code."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

from attrs import evolve

from ordersync_core.flows.handlers import applying, reading
from ordersync_core.flows.model import KnownRecord, RawRecord
from ordersync_core.jobs.handlers import resubmit_run
from ordersync_core.kernel.canonical import content_hash
from ordersync_core.kernel.lease import LEASE, Lease
from ordersync_core.kernel.notification import Effect
from ordersync_core.messaging.deduplication import Collapsed, collapse, merge
from ordersync_core.messaging.handlers import owe_events_again
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.messaging.queue import CLAIM_LIMIT, LOCK, Claim
from ordersync_core.testing.memory.flows import MemoryRawRepository
from ordersync_core.testing.memory.leases import LEASES, LeaseRow, MemoryLeaseRepository
from ordersync_core.testing.memory.outbox import NUMBERS, OUTBOX, MemoryOutboxRepository
from ordersync_core.testing.memory.unit_of_work import MemoryUnitOfWork
from ordersync_core.testing.memory.webhooks import MemoryDeliveryRepository
from ordersync_core.testing.memory_queue import MemoryQueue
from ordersync_core.testing.simulation import shells
from ordersync_core.webhooks.handlers import attempts
from ordersync_core.webhooks.handlers.again import resubmit_delivery
from ordersync_core.webhooks.model import Delivery, DeliveryState
from ordersync_core.webhooks.outcome import after_attempt, probes_at


@contextmanager
def replaced(function: Callable[..., Any], by: Callable[..., Any]) -> Iterator[None]:
    """Wherever a module of the core has imported the function, it has the other one."""
    with ExitStack() as patches:
        for name, module in list(sys.modules.items()):
            if name.startswith("ordersync_core.") and vars(module).get(function.__name__) is function:
                patches.enter_context(patch.object(module, function.__name__, by))
        yield


@contextmanager
def mark_before_send() -> Iterator[None]:
    """The relay notes with the numbers that the tickets were sent, and sends them after that."""
    number = MemoryOutboxRepository.number

    def and_mark(self: MemoryOutboxRepository, numbering: Any, *, ticket_at: Any) -> None:
        number(self, numbering, ticket_at=None)  # type: ignore[arg-type]

    with patch.object(MemoryOutboxRepository, "number", and_mark):
        yield


@contextmanager
def no_inbox() -> Iterator[None]:
    with patch.object(MemoryUnitOfWork, "processed", lambda self, handler, ids: frozenset()):
        yield


@contextmanager
def cursor_ahead_of_rows() -> Iterator[None]:
    """The cursor is committed, and then the rows that it covers."""
    apply = applying.apply_batch

    def ahead(run: Any, execution: Any, batch: Any, **ports: Any) -> Any:
        if batch.cursor is not None:
            with ports["uows"]() as uow:
                uow.leases.hold(run.lease)
                _raw(uow, run).save_cursor(batch.cursor)
                uow.commit()
        return apply(run, execution, batch, **ports)

    with patch.object(reading, "apply_batch", ahead):
        yield


@contextmanager
def lock_not_renewed() -> Iterator[None]:
    with patch.object(MemoryQueue, "renew", lambda self, claims, lock=LOCK: list(claims)):
        yield


@contextmanager
def retry_counted_twice() -> Iterator[None]:
    def twice(*arguments: Any, **named: Any) -> Any:
        outcome = after_attempt(*arguments, **named)
        retried = outcome.delivery.ticket_at is not None
        return evolve(outcome, delivery=evolve(outcome.delivery, attempts=outcome.delivery.attempts + retried))

    with replaced(after_attempt, twice):
        yield


@contextmanager
def number_given_at_write() -> Iterator[None]:
    """A unit of work numbers its own rows, by what it sees of the others'."""
    write = MemoryUnitOfWork._write_audit_then_outbox

    def and_number(self: MemoryUnitOfWork) -> None:
        write(self)
        transaction = self._transaction
        for row in sorted(transaction.written(OUTBOX), key=lambda row: row.order):
            if row.number is None and row.absorbed_by is None:
                number = max(transaction.rows(NUMBERS), default=0) + 1
                transaction.insert(NUMBERS, number, row.id)
                transaction.replace(OUTBOX, row.id, evolve(row, number=number, body=b"{}", ticket_at=row.occurred_at))

    with patch.object(MemoryUnitOfWork, "_write_audit_then_outbox", and_number):
        yield


@contextmanager
def collapse_repeated_after_a_crash() -> Iterator[None]:
    """What was numbered and had no outcome in time is collapsed and rendered again, with what came since."""
    unnumbered = MemoryOutboxRepository.unnumbered

    def and_repeated(self: MemoryOutboxRepository, limit: int) -> list[OutboxRow]:
        fresh = unnumbered(self, limit)
        keys = {row.key for row in fresh}
        repeated = [
            row for row in self._rows() if row.key in keys and row.number is not None and row.handled_at is None
        ]
        return sorted([*repeated, *fresh], key=lambda row: row.order)

    with patch.object(MemoryOutboxRepository, "unnumbered", and_repeated):
        yield


@contextmanager
def collapse_across_a_delete() -> Iterator[None]:
    """A creation that follows a deletion is told as one update of what was there before."""

    def across(rows: Sequence[OutboxRow]) -> Collapsed:
        done = collapse(rows)
        survivors: dict[UUID, OutboxRow] = {}
        absorbed = dict(done.absorbed)
        deleted: dict[str, UUID] = {}
        for row in done.survivors:
            if row.key in deleted:
                first = deleted.pop(row.key)
                survivors[first] = merge(survivors[first], row)
                absorbed |= {id: first for id, other in absorbed.items() if other == row.id} | {row.id: first}
                continue
            survivors[row.id] = row
            if row.effect is Effect.DELETE:
                deleted[row.key] = row.id
        return Collapsed(list(survivors.values()), absorbed)

    with replaced(collapse, across):
        yield


@contextmanager
def lease_taken_without_its_term() -> Iterator[None]:
    def same_term(self: MemoryLeaseRepository, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        lease = take(self, name, holder, duration)
        if lease is None:
            return None
        term = max(1, lease.term - 1)
        kept = self._transaction.row(LEASES, name)
        assert kept is not None
        self._transaction.save(LEASES, name, LeaseRow(holder=holder, term=term, until=kept.until))
        return evolve(lease, term=term)

    take = MemoryLeaseRepository.take
    with patch.object(MemoryLeaseRepository, "take", same_term):
        yield


@contextmanager
def raw_rows_saved_never_applied() -> Iterator[None]:
    """The records are committed with the cursor, and built after that; what was not built then never is."""
    apply = applying.apply_batch

    def saved_first(run: Any, execution: Any, batch: Any, **ports: Any) -> Any:
        with ports["uows"]() as uow:
            uow.leases.hold(run.lease)
            raw = _raw(uow, run)
            known = raw.stored([record.key for record in batch.records]).known
            raw.save([_unapplied(record) for record in batch.records if record.key not in known])
            if batch.cursor is not None:
                raw.save_cursor(batch.cursor)
            uow.commit()
        return apply(run, execution, batch, **ports)

    with (
        patch.object(reading, "apply_batch", saved_first),
        patch.object(MemoryRawRepository, "unapplied", lambda self, version, limit: []),
    ):
        yield


@contextmanager
def two_claimers_of_one_row() -> Iterator[None]:
    """What was claimed stays in sight of the next one who claims."""
    claim = MemoryQueue.claim

    def and_leave(self: MemoryQueue, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        self._ready = [number for number in self._ready if number in self._entries]
        claims = claim(self, limit, lock)
        self._ready = [int(claim.token.partition(":")[0]) for claim in claims] + self._ready
        return claims

    with patch.object(MemoryQueue, "claim", and_leave):
        yield


@contextmanager
def resubmit_swallowed() -> Iterator[None]:
    """The dead letter is gone, and its row is as it was."""
    with ExitStack() as patches:
        for handler in (owe_events_again, resubmit_delivery, resubmit_run):
            patches.enter_context(replaced(handler, _nothing))
        yield


@contextmanager
def held_back_is_sent() -> Iterator[None]:
    """A ticket that lies in the queue is sent, although its delivery waits behind a breaker by now."""

    def waits(delivery: Delivery, attempt: int, now: Any) -> bool:
        return delivery.state is DeliveryState.WAITING and delivery.attempts + 1 == attempt

    with (
        patch.object(attempts, "_hold_back", lambda uow, doubtful, now: set()),
        patch.object(attempts, "_is_due", waits),
    ):
        yield


@contextmanager
def everybody_probes() -> Iterator[None]:
    """An open breaker holds nobody back."""
    with held_back_is_sent(), patch.object(MemoryDeliveryRepository, "hold_back", lambda self, webhook_id, besides: 0):
        yield


@contextmanager
def takes_over_at_once() -> Iterator[None]:
    """Who becomes the probe because the one before it died does not wait for the receiver to recover."""
    with replaced(probes_at, lambda delivery, *, failed_at, delays: failed_at):
        yield


@contextmanager
def all_let_in_at_once() -> Iterator[None]:
    let_in = MemoryDeliveryRepository.let_in

    def all_of_them(self: MemoryDeliveryRepository, webhook_id: UUID, at: Any, *, limit: int) -> int:
        return let_in(self, webhook_id, at, limit=1_000)

    with patch.object(MemoryDeliveryRepository, "let_in", all_of_them):
        yield


@contextmanager
def retries_pulled_forward() -> Iterator[None]:
    """A breaker that closes lets in those too that have a moment of their own."""

    def whoever_waits(self: MemoryDeliveryRepository, webhook_id: UUID, at: Any, *, limit: int) -> int:
        return self._change(
            webhook_id,
            lambda d: d.state is DeliveryState.WAITING and d.tickets == 0,
            lambda d: evolve(d, ticket_at=at),
            limit=limit,
        )

    with patch.object(MemoryDeliveryRepository, "let_in", whoever_waits):
        yield


@contextmanager
def nothing_given_back() -> Iterator[None]:
    """Who is asked to end goes with its messages in hand."""
    with patch.object(shells, "_give_back", lambda queue, claims: None):
        yield


def _nothing(command: Any) -> None: ...


def _raw(uow: Any, run: Any) -> Any:
    return uow.raw(run.connection.connector, run.connection.id, run.flow.kind.value)


def _unapplied(record: Any) -> RawRecord:
    known = KnownRecord(key=record.key, content_hash=content_hash(record.raw), source_version=record.version)
    return RawRecord(known=known, raw=record.raw)
