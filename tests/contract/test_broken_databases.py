"""A suite that nobody has seen fail may look the other way: each of these adapters breaks one promise."""

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from ordersync_core.kernel.errors import Conflict
from ordersync_core.kernel.lease import LEASE, Lease
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.blob_contract import BlobsContract
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.administrations import (
    AdministrationsContract,
    OverlappingWakeContract,
    TenantDatabasesContract,
    WakeContract,
)
from ordersync_core.testing.contracts.audit import AuditContract
from ordersync_core.testing.contracts.connections import ConnectionsContract
from ordersync_core.testing.contracts.databases import ALPHA
from ordersync_core.testing.contracts.examples import NOON
from ordersync_core.testing.contracts.flows import FlowsContract, RawRecordsContract
from ordersync_core.testing.contracts.inbox import InboxContract
from ordersync_core.testing.contracts.items import ItemsContract, OverlappingItemsContract
from ordersync_core.testing.contracts.jobs import JobsContract, OverlappingJobsContract
from ordersync_core.testing.contracts.leases import AdminLeaseContract, TenantLeaseContract
from ordersync_core.testing.contracts.outbox import OutboxContract
from ordersync_core.testing.contracts.unit_of_work import UnitOfWorkContract
from ordersync_core.testing.contracts.webhooks import DeliveriesContract, WebhooksContract
from ordersync_core.testing.memory import MemorySecrets, MemoryTenantDatabases
from ordersync_core.testing.memory import connections as memory_connections
from ordersync_core.testing.memory import jobs as memory_jobs
from ordersync_core.testing.memory import leases as memory_leases
from ordersync_core.testing.memory import outbox as memory_outbox
from ordersync_core.testing.memory import pages as memory_pages
from ordersync_core.testing.memory import secrets as memory_secrets
from ordersync_core.testing.memory import webhooks as memory_webhooks
from ordersync_core.testing.memory.connections import MemoryConnectionRepository
from ordersync_core.testing.memory.flows import MemoryKeysSeen, MemoryQuarantineRepository, MemoryRawRepository
from ordersync_core.testing.memory.items import MemoryItemQueries, MemoryItemRepository
from ordersync_core.testing.memory.jobs import DEFINITIONS, RUNS, MemoryJobQueries, MemoryJobRunRepository
from ordersync_core.testing.memory.leases import LEASES, MemoryLeaseRepository
from ordersync_core.testing.memory.locks import Locks
from ordersync_core.testing.memory.outbox import MemoryOutboxRepository
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction
from ordersync_core.testing.memory.unit_of_work import MemoryTransaction, MemoryUnitOfWork
from ordersync_core.testing.memory.wake import WAKE, MemoryWakeRepository
from ordersync_core.testing.memory.webhooks import DELIVERIES, MemoryDeliveryRepository, MemoryWebhookRepository
from ordersync_core.testing.memory_blobs import MemoryBlobs
from ordersync_core.testing.secret_contract import SecretsContract
from tests.core.testing.in_memory import LateCommitInMemory, memory_databases

Patch = Callable[[pytest.MonkeyPatch], None]

SOON = timedelta(seconds=0.3)
"""A broken database may wait for what never comes."""


# running a suite


def failures(suite: type[Any]) -> set[str]:
    """The names of the cases that the adapter fails."""
    return {
        name.removeprefix("test_")
        for name, case in inspect.getmembers(suite, inspect.isfunction)
        if name.startswith("test_")
        for values in _parameters(case)
        if not _passes(suite(), case, values)
    }


def _parameters(case: Any) -> Iterable[dict[str, Any]]:
    for mark in getattr(case, "pytestmark", ()):
        name, values = mark.args
        return [{name: value} for value in values]
    return [{}]


def _passes(suite: Any, case: Callable[..., None], values: dict[str, Any]) -> bool:
    try:
        case(suite, **values, **_fixtures(suite, [*inspect.signature(case).parameters][1:], values))
    except (Exception, pytest.fail.Exception):
        return False
    return True


def _fixtures(suite: Any, names: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    """What pytest would pass in: the suite's own `make_...`, here for databases in memory that soon lose patience."""
    clock = ManualClock(NOON)
    databases = memory_databases(clock, bound=SOON)
    made: dict[str, Callable[[], Any]] = {
        "clock": lambda: clock,
        "databases": lambda: databases,
        "tenants": lambda: databases.tenants,
        "blobs": MemoryBlobs,
        "secrets": lambda: suite.make_secrets("old"),
    }
    return {name: made[name]() for name in names if name not in given}


class MemorySecretsContract(SecretsContract):
    def make_secrets(self, *keys: str) -> MemorySecrets:
        return MemorySecrets([key.encode() for key in keys])


SUITES: tuple[type[Any], ...] = (
    AdministrationsContract,
    AdminLeaseContract,
    AuditContract,
    BlobsContract,
    ConnectionsContract,
    DeliveriesContract,
    FlowsContract,
    InboxContract,
    ItemsContract,
    JobsContract,
    LateCommitInMemory,
    MemorySecretsContract,
    OutboxContract,
    OverlappingItemsContract,
    OverlappingJobsContract,
    OverlappingWakeContract,
    RawRecordsContract,
    TenantDatabasesContract,
    TenantLeaseContract,
    UnitOfWorkContract,
    WakeContract,
    WebhooksContract,
)


@pytest.mark.parametrize("suite", SUITES)
def test_an_adapter_that_keeps_its_promises_fails_no_case(suite: type[Any]) -> None:
    assert failures(suite) == set()


# transactions


def overlap_surely(patch: pytest.MonkeyPatch) -> None:
    """Where the suites let others come in between, these have time enough."""
    patch.setattr("ordersync_core.testing.contracts.databases.sleep", lambda seconds: time.sleep(0.03))


def loses_commits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryDatabase, "apply", _apply_nothing_but_the_first_rows)


def _apply_nothing_but_the_first_rows(self: MemoryDatabase, written: Any) -> None:
    for name, rows in written.items():
        if name in ("tenant", "feed"):
            self._tables[name] |= rows


def loses_the_outbox(patch: pytest.MonkeyPatch) -> None:
    apply = MemoryDatabase.apply

    def without_outbox(self: MemoryDatabase, written: Any) -> None:
        apply(self, {name: rows for name, rows in written.items() if name != "outbox"})

    patch.setattr(MemoryDatabase, "apply", without_outbox)


def commits_after_an_error(patch: pytest.MonkeyPatch) -> None:
    def commit_and_leave(self: MemoryUnitOfWork, kind: object, error: object, trace: object) -> None:
        if not self._transaction._ended and not self._transaction._failed:
            self.commit()
        self._transaction.end()
        self._open = None

    patch.setattr(MemoryTransaction, "__exit__", commit_and_leave)


def swallows_errors(patch: pytest.MonkeyPatch) -> None:
    leave = MemoryTransaction.__exit__

    def leave_quietly(self: MemoryTransaction, *error: Any) -> bool:
        leave(self, *error)
        return True

    patch.setattr(MemoryTransaction, "__exit__", leave_quietly)


def shows_what_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    save = Transaction.save

    def save_at_once(self: Transaction, table: Any, key: Any, value: Any) -> None:
        save(self, table, key, value)
        self.database.apply({table.name: {key: value}})

    patch.setattr(Transaction, "save", save_at_once)


def forgets_its_failures(patch: pytest.MonkeyPatch) -> None:
    def fail(self: Transaction, error: Exception) -> None:
        raise error

    patch.setattr(Transaction, "fail", fail)


def locks_nothing(patch: pytest.MonkeyPatch) -> None:
    overlap_surely(patch)
    patch.setattr(Locks, "acquire", lambda self, owner, key: None)


def locks_and_reads_what_was(patch: pytest.MonkeyPatch) -> None:
    """As under a snapshot that is never checked: the row is read before the wait."""

    def find(self: Transaction, table: Any, key: Any) -> Any:
        found = self.row(table, key)
        if found is not None:
            self.lock(table, key)
        return found

    overlap_surely(patch)
    patch.setattr(Transaction, "find", find)


def overwrites_twins(patch: pytest.MonkeyPatch) -> None:
    overlap_surely(patch)

    def save(self: Transaction, table: Any, key: Any, value: Any) -> None:
        self.lock(table, key)
        self._written[table.name][key] = value

    patch.setattr(Transaction, "save", save)


def mixes_tenants_up(patch: pytest.MonkeyPatch) -> None:
    of = MemoryTenantDatabases.of
    patch.setattr(MemoryTenantDatabases, "of", lambda self, code: of(self, ALPHA))


def opens_a_tenant_for_nobody(patch: pytest.MonkeyPatch) -> None:
    of = MemoryTenantDatabases.of
    patch.setattr(MemoryTenantDatabases, "of", lambda self, code: of(self, code or ALPHA))


def starts_over_at_each_creation(patch: pytest.MonkeyPatch) -> None:
    def create(self: MemoryTenantDatabases, code: str) -> None:
        self._databases[code] = MemoryDatabase(code, self._locks, one_writer=False)

    patch.setattr(MemoryTenantDatabases, "create", create)


# telling and numbering


def tells_backwards(patch: pytest.MonkeyPatch) -> None:
    write = MemoryUnitOfWork._write_audit_then_outbox

    def write_backwards(self: MemoryUnitOfWork) -> None:
        self._outbox.reverse()
        write(self)

    patch.setattr(MemoryUnitOfWork, "_write_audit_then_outbox", write_backwards)


def audits_nothing(patch: pytest.MonkeyPatch) -> None:
    write = MemoryUnitOfWork._write_audit_then_outbox

    def write_outbox_only(self: MemoryUnitOfWork) -> None:
        self._audit.clear()
        write(self)

    patch.setattr(MemoryUnitOfWork, "_write_audit_then_outbox", write_outbox_only)


def gives_each_audit_entry_an_id_of_its_own(patch: pytest.MonkeyPatch) -> None:
    write = MemoryUnitOfWork._write_audit_then_outbox

    def write_under_other_ids(self: MemoryUnitOfWork) -> None:
        self._audit = [evolve(entry, id=self._ids.new()) for entry in self._audit]
        write(self)

    patch.setattr(MemoryUnitOfWork, "_write_audit_then_outbox", write_under_other_ids)


def goes_on_from_any_position(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory_pages, "position_of", lambda page, *kinds: None)


def goes_by_the_order_of_writing(patch: pytest.MonkeyPatch) -> None:
    """The rows after the last one numbered, as if the order of writing were the number: what comes late is skipped."""
    unnumbered = MemoryOutboxRepository.unnumbered

    def after_the_last(self: MemoryOutboxRepository, limit: int) -> Any:
        last = max((row.order for row in self._rows() if row.number is not None), default=0)
        return [row for row in unnumbered(self, limit) if row.order > last]

    patch.setattr(MemoryOutboxRepository, "unnumbered", after_the_last)


def numbers_by_the_order_of_writing(patch: pytest.MonkeyPatch) -> None:
    """Two counters in one: numbers have gaps wherever something was not committed or collapsed."""
    number = MemoryOutboxRepository.number

    def number_by_order(self: MemoryOutboxRepository, numbering: Any, *, ticket_at: datetime) -> None:
        rows = [evolve(row, number=row.order) for row in numbering.numbered]
        number(self, evolve(numbering, numbered=rows), ticket_at=ticket_at)

    patch.setattr(MemoryOutboxRepository, "number", number_by_order)


def lets_two_relays_number(patch: pytest.MonkeyPatch) -> None:
    def last_number(self: MemoryOutboxRepository) -> int:
        feed = self._transaction.row(memory_outbox.FEED, memory_outbox.THE_FEED)
        return 0 if feed is None else feed.last_number

    overlap_surely(patch)
    patch.setattr(MemoryOutboxRepository, "lock_numbering", last_number)


def keeps_the_first_content(patch: pytest.MonkeyPatch) -> None:
    number = MemoryOutboxRepository.number

    def number_only(self: MemoryOutboxRepository, numbering: Any, *, ticket_at: datetime) -> None:
        kept = self._transaction.rows(memory_outbox.OUTBOX)
        rows = [evolve(kept[row.id], number=row.number, body=row.body, tickets=1) for row in numbering.numbered]
        number(self, evolve(numbering, numbered=rows), ticket_at=ticket_at)

    patch.setattr(MemoryOutboxRepository, "number", number_only)


def forgets_who_was_absorbed(patch: pytest.MonkeyPatch) -> None:
    number = MemoryOutboxRepository.number

    def without_absorbed(self: MemoryOutboxRepository, numbering: Any, *, ticket_at: datetime) -> None:
        number(self, evolve(numbering, absorbed={}), ticket_at=ticket_at)

    patch.setattr(MemoryOutboxRepository, "number", without_absorbed)


def notes_tickets_whatever_happened(patch: pytest.MonkeyPatch) -> None:
    def note(transaction: Transaction, table: Table[UUID, Any], tickets: Sequence[Ticketed]) -> None:
        for ticket in tickets:
            kept = transaction.find(table, ticket.id)
            if kept is not None:
                transaction.replace(table, ticket.id, evolve(kept, tickets=ticket.tickets, ticket_at=ticket.ticket_at))

    for module in (memory_outbox, memory_webhooks, memory_jobs):
        patch.setattr(module, "note_tickets", note)


def owes_what_was_handled(patch: pytest.MonkeyPatch) -> None:
    def handled(self: MemoryOutboxRepository, ids: Sequence[UUID], at: datetime) -> None:
        for id in ids:
            self._transaction.update(memory_outbox.OUTBOX, id, lambda kept: evolve(kept, tickets=kept.tickets + 1))

    patch.setattr(MemoryOutboxRepository, "handled", handled)


# the inbox


def forgets_the_inbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryUnitOfWork, "processed", lambda self, handler, ids: frozenset())


def has_one_inbox_for_all_handlers(patch: pytest.MonkeyPatch) -> None:
    processed = MemoryUnitOfWork.processed
    patch.setattr(MemoryUnitOfWork, "processed", lambda self, handler, ids: processed(self, "all", ids))


def enters_the_inbox_without_waiting(patch: pytest.MonkeyPatch) -> None:
    """Looks first and enters then."""

    def insert_absent(self: Transaction, table: Any, key: Any, value: Any) -> bool:
        if self.row(table, key) is not None:
            return False
        self._written[table.name][key] = value
        return True

    overlap_surely(patch)
    patch.setattr(Transaction, "insert_absent", insert_absent)


# leases


def never_lets_a_lease_run_out(patch: pytest.MonkeyPatch) -> None:
    take = MemoryLeaseRepository.take

    def take_for_ever(self: Any, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        return take(self, name, holder, timedelta(days=1000))

    patch.setattr(MemoryLeaseRepository, "take", take_for_ever)


def accepts_a_stale_lease(patch: pytest.MonkeyPatch) -> None:
    def hold(self: MemoryLeaseRepository, lease: Lease, duration: timedelta = LEASE) -> None:
        self._transaction.update(LEASES, lease.name, lambda kept: evolve(kept, until=self._clock.now() + duration))

    patch.setattr(MemoryLeaseRepository, "hold", hold)


def refuses_a_lease_that_ran_out(patch: pytest.MonkeyPatch) -> None:
    hold = MemoryLeaseRepository.hold

    def hold_in_time(self: MemoryLeaseRepository, lease: Lease, duration: timedelta = LEASE) -> None:
        kept = self._transaction.row(LEASES, lease.name)
        late = kept is not None and kept.until <= self._clock.now()
        hold(self, evolve(lease, term=0) if late else lease, duration)

    patch.setattr(MemoryLeaseRepository, "hold", hold_in_time)


def keeps_the_term(patch: pytest.MonkeyPatch) -> None:
    class OneTerm(memory_leases.LeaseRow):
        def __attrs_post_init__(self) -> None:
            object.__setattr__(self, "term", 1)

    patch.setattr(memory_leases, "LeaseRow", OneTerm)
    take = MemoryLeaseRepository.take

    def take_under_one(self: Any, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        lease = take(self, name, holder, duration)
        return None if lease is None else evolve(lease, term=1)

    patch.setattr(MemoryLeaseRepository, "take", take_under_one)


def gives_a_lease_to_everybody(patch: pytest.MonkeyPatch) -> None:
    take = MemoryLeaseRepository.take

    def take_from_anybody(self: Any, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        kept = self._transaction.row(LEASES, name)
        return take(self, name, holder if kept is None else kept.holder, duration)

    patch.setattr(MemoryLeaseRepository, "take", take_from_anybody)


# webhooks and deliveries


def owes_beyond_the_window(patch: pytest.MonkeyPatch) -> None:
    owed = MemoryDeliveryRepository.owed
    patch.setattr(MemoryDeliveryRepository, "owed", lambda self, now, *, window: owed(self, now, window=10_000))


def counts_only_new_ones_into_the_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory_webhooks, "_is_out", lambda delivery: False)


def owes_in_any_order(patch: pytest.MonkeyPatch) -> None:
    owed = MemoryDeliveryRepository.owed
    patch.setattr(MemoryDeliveryRepository, "owed", lambda self, now, *, window: owed(self, now, window=window)[::-1])


def gives_a_position_twice(patch: pytest.MonkeyPatch) -> None:
    def add(self: MemoryDeliveryRepository, deliveries: Any) -> None:
        for delivery in deliveries:
            self._transaction.insert_absent(DELIVERIES, delivery.id, delivery)

    patch.setattr(MemoryDeliveryRepository, "add", add)


def replaces_deliveries_that_are_there(patch: pytest.MonkeyPatch) -> None:
    add = MemoryDeliveryRepository.add

    def add_or_replace(self: MemoryDeliveryRepository, deliveries: Any) -> None:
        add(self, deliveries)
        self.save(deliveries)

    patch.setattr(MemoryDeliveryRepository, "add", add_or_replace)


def parks_the_webhooks_of_others(patch: pytest.MonkeyPatch) -> None:
    park = MemoryDeliveryRepository.park

    def park_all(self: MemoryDeliveryRepository, webhook_id: UUID) -> int:
        ids = {delivery.webhook_id for delivery in self._transaction.rows(DELIVERIES).values()}
        return sum(park(self, id) for id in ids)

    patch.setattr(MemoryDeliveryRepository, "park", park_all)


def lets_everything_in(patch: pytest.MonkeyPatch) -> None:
    let_in = MemoryDeliveryRepository.let_in
    patch.setattr(MemoryDeliveryRepository, "let_in", lambda self, id, at, *, limit: let_in(self, id, at, limit=10_000))


def leaves_deliveries_of_a_deleted_webhook(patch: pytest.MonkeyPatch) -> None:
    def delete(self: MemoryWebhookRepository, id: UUID) -> None:
        self._transaction.delete(memory_webhooks.WEBHOOKS, id)

    patch.setattr(MemoryWebhookRepository, "delete", delete)


def leaves_what_a_deleted_connection_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        MemoryConnectionRepository,
        "delete",
        lambda self, id: self._transaction.delete(memory_connections.CONNECTIONS, id),
    )


# flows


def forgets_the_keys_seen(patch: pytest.MonkeyPatch) -> None:
    def add(self: MemoryKeysSeen, keys: Sequence[str]) -> None:
        self._seen = set(keys)

    patch.setattr(MemoryKeysSeen, "add", add)


def remembers_the_keys_seen(patch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    patch.setattr(MemoryKeysSeen, "add", lambda self, keys: seen.update(keys))
    patch.setattr(MemoryKeysSeen, "_seen", seen, raising=False)
    patch.setattr(MemoryKeysSeen, "__init__", _keep_the_class_attribute)


def _keep_the_class_attribute(self: MemoryKeysSeen, database: MemoryDatabase, table: Any) -> None:
    self._database, self._table = database, table


def asks_for_applied_hashes_only(patch: pytest.MonkeyPatch) -> None:
    def unapplied(self: MemoryRawRepository, flow_version: int, limit: int) -> Any:
        rows = [r for r in self._rows() if r.known.applied_hash != r.known.content_hash and not r.known.dropped]
        return sorted(rows, key=lambda r: r.known.key)[:limit]

    patch.setattr(MemoryRawRepository, "unapplied", unapplied)


def starts_the_quarantine_anew(patch: pytest.MonkeyPatch) -> None:
    save = MemoryQuarantineRepository.save

    def clear_and_save(self: MemoryQuarantineRepository, kind: Any, entries: Any) -> None:
        self.clear(kind, [entry.key for entry in entries])
        save(self, kind, entries)

    patch.setattr(MemoryQuarantineRepository, "save", clear_and_save)


# items


def ignores_the_case_of_codes(patch: pytest.MonkeyPatch) -> None:
    find = MemoryItemQueries.item

    def item(self: MemoryItemQueries, code: Any) -> Any:
        return find(self, type(code)(code.lower())) or find(self, code)

    patch.setattr(MemoryItemQueries, "item", item)


def loses_unknown_values(patch: pytest.MonkeyPatch) -> None:
    save = MemoryItemRepository.save

    def save_known(self: MemoryItemRepository, items: Any) -> None:
        known = [evolve(i, attributes={k: v for k, v in i.attributes.items() if v is not None}) for i in items]
        save(self, known)

    patch.setattr(MemoryItemRepository, "save", save_known)


# jobs and administrations


def shows_runs_to_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryJobQueries, "run", lambda self, administration, id: self._database.row(RUNS, id))


def shows_definitions_to_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        MemoryJobQueries, "definitions", lambda self, administration: list(self._database.rows(DEFINITIONS).values())
    )


def adds_a_second_run_of_a_moment(patch: pytest.MonkeyPatch) -> None:
    def add(self: MemoryJobRunRepository, run: Any) -> bool:
        return self._transaction.insert_absent(RUNS, run.id, run)

    patch.setattr(MemoryJobRunRepository, "_add", add)


def waits_for_other_schedulers(patch: pytest.MonkeyPatch) -> None:
    def lock(self: Transaction, table: Any, key: Any) -> bool:
        self.lock(table, key)
        return True

    patch.setattr(Transaction, "try_lock", lock)


def keeps_the_later_moment(patch: pytest.MonkeyPatch) -> None:
    def wake(self: MemoryWakeRepository, due: dict[str, datetime]) -> None:
        for administration, moment in due.items():
            self._transaction.save(WAKE, administration, moment)

    patch.setattr(MemoryWakeRepository, "wake", wake)


def takes_whoever_is_there(patch: pytest.MonkeyPatch) -> None:
    take_due = MemoryWakeRepository.take_due
    patch.setattr(MemoryWakeRepository, "take_due", lambda self, now: take_due(self, now + timedelta(days=1)))


def gives_a_code_twice(patch: pytest.MonkeyPatch) -> None:
    def insert(self: Transaction, table: Any, key: Any, value: Any) -> None:
        self._written[table.name][key] = value

    patch.setattr(Transaction, "insert", insert)


# blobs and secrets


def shows_half_a_blob(patch: pytest.MonkeyPatch) -> None:
    put = MemoryBlobs.put

    def put_piece_by_piece(
        self: MemoryBlobs, name: str, content: bytes | Iterable[bytes], if_absent: bool = False
    ) -> None:
        put(self, name, b"", if_absent)
        for piece in [content] if isinstance(content, bytes) else content:
            put(self, name, self.get(name) + piece)

    patch.setattr(MemoryBlobs, "put", put_piece_by_piece)


def looks_for_absence_too_early(patch: pytest.MonkeyPatch) -> None:
    put = MemoryBlobs.put

    def look_then_put(self: MemoryBlobs, name: str, content: bytes | Iterable[bytes], if_absent: bool = False) -> None:
        absent = name not in self._contents
        whole = content if isinstance(content, bytes) else b"".join(content)
        if if_absent:
            # long enough for the others to look too
            time.sleep(0.05)
            if not absent:
                raise Conflict(name)
        put(self, name, whole)

    patch.setattr(MemoryBlobs, "put", look_then_put)


def lets_names_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("ordersync_core.testing.memory_blobs.blob_name", lambda name: name)


def lists_folders_after_files(patch: pytest.MonkeyPatch) -> None:
    def names(self: MemoryBlobs, prefix: str = "", limit: int = 1_000, after: str = "") -> list[str]:
        place = after.split("/")
        found = [name for name in self._contents if name.startswith(prefix) and name.split("/") > place]
        return sorted(found, key=lambda name: name.split("/"))[:limit]

    patch.setattr(MemoryBlobs, "names", names)


def opens_changed_secrets(patch: pytest.MonkeyPatch) -> None:
    def decrypt(self: MemorySecrets, sealed: bytes) -> bytes:
        hidden = sealed[memory_secrets._SEAL :]
        number, text = hidden[: memory_secrets._NUMBER], hidden[memory_secrets._NUMBER :]
        return memory_secrets._mask(text, self._keys[0], number)

    patch.setattr(MemorySecrets, "decrypt", decrypt)


def seals_with_the_oldest_key(patch: pytest.MonkeyPatch) -> None:
    encrypt = MemorySecrets.encrypt
    patch.setattr(MemorySecrets, "encrypt", lambda self, plain: encrypt(MemorySecrets(self._keys[::-1]), plain))


def seals_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemorySecrets, "encrypt", lambda self, plain: plain)
    patch.setattr(MemorySecrets, "decrypt", lambda self, sealed: sealed)


@pytest.mark.parametrize(
    ("broken", "suite", "case"),
    [
        (loses_commits, UnitOfWorkContract, "what_was_committed_is_kept"),
        (loses_the_outbox, UnitOfWorkContract, "what_is_told_is_stamped"),
        (commits_after_an_error, UnitOfWorkContract, "leaving_by_an_error_keeps_nothing_and_lets_it_pass"),
        (commits_after_an_error, UnitOfWorkContract, "leaving_without_commit_keeps_nothing"),
        (swallows_errors, UnitOfWorkContract, "leaving_by_an_error_keeps_nothing_and_lets_it_pass"),
        (shows_what_is_not_committed, UnitOfWorkContract, "nobody_sees_what_is_not_committed"),
        (shows_what_is_not_committed, OverlappingItemsContract, "rows_that_are_not_committed_are_seen_by_nobody"),
        (forgets_its_failures, UnitOfWorkContract, "nothing_is_kept_once_the_database_has_refused"),
        (forgets_its_failures, TenantLeaseContract, "nothing_is_kept_under_a_stale_lease"),
        (locks_nothing, UnitOfWorkContract, "no_update_is_lost"),
        (locks_nothing, UnitOfWorkContract, "the_second_sees_what_the_first_committed"),
        (locks_nothing, ConnectionsContract, "of_many_answers_at_once_one_is_believed"),
        (locks_nothing, WebhooksContract, "a_webhook_is_locked_however_it_was_found"),
        (locks_nothing, DeliveriesContract, "no_attempt_is_lost"),
        (locks_nothing, FlowsContract, "no_count_of_an_execution_is_lost"),
        (locks_nothing, JobsContract, "no_update_of_a_run_is_lost"),
        (locks_nothing, AdminLeaseContract, "terms_given_at_once_differ"),
        (locks_and_reads_what_was, UnitOfWorkContract, "no_update_is_lost"),
        (locks_and_reads_what_was, WebhooksContract, "a_webhook_is_locked_however_it_was_found"),
        (overwrites_twins, OverlappingItemsContract, "a_twin_that_was_not_seen_is_not_overwritten"),
        (overwrites_twins, FlowsContract, "no_version_of_a_flow_is_lost"),
        (mixes_tenants_up, UnitOfWorkContract, "tenants_see_nothing_of_each_other"),
        (opens_a_tenant_for_nobody, UnitOfWorkContract, "without_an_administration_no_tenant_database_opens"),
        (starts_over_at_each_creation, TenantDatabasesContract, "every_step_may_be_repeated"),
        (tells_backwards, UnitOfWorkContract, "rows_stand_in_the_order_in_which_they_were_told"),
        (audits_nothing, UnitOfWorkContract, "what_is_told_is_audited"),
        (gives_each_audit_entry_an_id_of_its_own, UnitOfWorkContract, "what_is_told_is_audited"),
        (goes_on_from_any_position, UnitOfWorkContract, "a_position_of_another_list_is_refused"),
        (audits_nothing, AuditContract, "entries_are_listed_the_newest_first"),
        (goes_by_the_order_of_writing, LateCommitInMemory, "a_late_commit_is_not_skipped"),
        (numbers_by_the_order_of_writing, OutboxContract, "what_came_to_nothing_gets_no_number"),
        (lets_two_relays_number, OutboxContract, "one_relay_numbers_at_a_time"),
        (keeps_the_first_content, OutboxContract, "what_collapsed_is_told_once"),
        (forgets_who_was_absorbed, OutboxContract, "what_came_to_nothing_gets_no_number"),
        (notes_tickets_whatever_happened, OutboxContract, "a_ticket_for_a_row_that_moved_on_notes_nothing"),
        (notes_tickets_whatever_happened, DeliveriesContract, "a_ticket_for_one_that_moved_on_notes_nothing"),
        (notes_tickets_whatever_happened, JobsContract, "a_ticket_for_a_run_that_moved_on_notes_nothing"),
        (owes_what_was_handled, OutboxContract, "a_handled_row_owes_nothing"),
        (forgets_the_inbox, InboxContract, "exactly_the_repeated_ones_are_answered"),
        (has_one_inbox_for_all_handlers, InboxContract, "each_handler_has_its_own_inbox"),
        (enters_the_inbox_without_waiting, InboxContract, "effects_happen_once_when_deliveries_race"),
        (enters_the_inbox_without_waiting, InboxContract, "the_twin_of_one_that_commits_leaves_it_out"),
        (never_lets_a_lease_run_out, TenantLeaseContract, "a_lease_that_ran_out_is_taken_over_under_a_higher_term"),
        (accepts_a_stale_lease, TenantLeaseContract, "nothing_is_kept_under_a_stale_lease"),
        (accepts_a_stale_lease, AdminLeaseContract, "a_lease_that_ran_out_is_taken_over_under_a_higher_term"),
        (refuses_a_lease_that_ran_out, AdminLeaseContract, "a_lease_that_ran_out_and_was_not_taken_over_is_still_ours"),
        (keeps_the_term, TenantLeaseContract, "a_restarted_holder_gets_it_again_and_fences_its_earlier_self"),
        (gives_a_lease_to_everybody, AdminLeaseContract, "only_one_holds_a_lease"),
        (owes_beyond_the_window, DeliveriesContract, "no_more_are_owed_than_the_window_leaves_room_for"),
        (counts_only_new_ones_into_the_window, DeliveriesContract, "one_whose_ticket_is_out_takes_no_new_room"),
        (counts_only_new_ones_into_the_window, DeliveriesContract, "the_window_counts_what_has_a_ticket_out"),
        (owes_in_any_order, DeliveriesContract, "deliveries_owe_from_their_moment_on_by_webhook_and_position"),
        (gives_a_position_twice, DeliveriesContract, "a_position_is_given_once"),
        (replaces_deliveries_that_are_there, DeliveriesContract, "one_that_stands_there_already_stays_as_it_is"),
        (parks_the_webhooks_of_others, DeliveriesContract, "parking_takes_what_waits"),
        (lets_everything_in, DeliveriesContract, "the_first_ones_that_were_held_back_are_let_in"),
        (
            leaves_what_a_deleted_connection_read,
            ConnectionsContract,
            "a_deleted_connection_takes_along_what_was_read_over_it",
        ),
        (leaves_deliveries_of_a_deleted_webhook, WebhooksContract, "a_deleted_webhook_takes_its_deliveries_along"),
        (forgets_the_keys_seen, RawRecordsContract, "what_was_not_seen_is_missing"),
        (remembers_the_keys_seen, RawRecordsContract, "what_was_seen_is_forgotten_with_the_block"),
        (asks_for_applied_hashes_only, RawRecordsContract, "what_was_built_otherwise_is_unapplied"),
        (starts_the_quarantine_anew, FlowsContract, "an_entry_keeps_since_when_it_lies_there"),
        (ignores_the_case_of_codes, ItemsContract, "codes_are_compared_exactly"),
        (loses_unknown_values, ItemsContract, "an_item_comes_back_as_it_was_saved"),
        (shows_runs_to_everybody, JobsContract, "rows_of_another_administration_are_not_there"),
        (shows_definitions_to_everybody, JobsContract, "rows_of_another_administration_are_not_there"),
        (adds_a_second_run_of_a_moment, JobsContract, "a_run_is_added_once"),
        (waits_for_other_schedulers, OverlappingJobsContract, "what_another_scheduler_holds_is_passed_over"),
        (waits_for_other_schedulers, OverlappingWakeContract, "what_another_takes_is_passed_over"),
        (keeps_the_later_moment, WakeContract, "the_earlier_moment_stays"),
        (takes_whoever_is_there, WakeContract, "who_is_due_is_taken_once"),
        (gives_a_code_twice, AdministrationsContract, "a_code_is_given_once"),
        (gives_a_code_twice, AdministrationsContract, "of_twins_one_gets_the_code"),
        (shows_half_a_blob, BlobsContract, "nobody_sees_a_content_that_is_being_put"),
        (shows_half_a_blob, BlobsContract, "a_content_that_breaks_off_changes_nothing"),
        (looks_for_absence_too_early, BlobsContract, "of_many_that_ask_for_absence_one_is_kept"),
        (lets_names_out, BlobsContract, "a_bad_name_is_refused"),
        (lists_folders_after_files, BlobsContract, "names_are_listed_by_code_point"),
        (opens_changed_secrets, MemorySecretsContract, "changed_bytes_are_refused"),
        (seals_with_the_oldest_key, MemorySecretsContract, "after_a_rotation_both_are_opened_and_the_new_key_seals"),
        (seals_nothing, MemorySecretsContract, "the_plain_text_does_not_show"),
    ],
)
def test_an_adapter_that_breaks_a_promise_fails_the_case_about_it(
    monkeypatch: pytest.MonkeyPatch, broken: Patch, suite: type[Any], case: str
) -> None:
    broken(monkeypatch)

    assert case in failures(suite)
