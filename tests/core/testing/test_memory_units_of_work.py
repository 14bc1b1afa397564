"""What the in-memory databases do that the suites cannot ask of every adapter."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ordersync_core.administrations.ports import AdministrationQueries, AdministrationsUnitOfWork, TenantDatabases
from ordersync_core.audit.ports import AuditQueries
from ordersync_core.connections.ports import AuthorisationUnitOfWork, ConnectionQueries, ConnectionsUnitOfWork
from ordersync_core.flows.ports import FlowQueries, FlowReads, FlowsUnitOfWork
from ordersync_core.items.model import ItemCode
from ordersync_core.items.ports import ItemQueries, ItemsUnitOfWork
from ordersync_core.jobs.ports import JobQueries, JobsUnitOfWork
from ordersync_core.kernel.errors import ChangedMeanwhile, Conflict, InvalidInput, NotFound
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.ports import EventQueries, MessagingUnitOfWork, WakeUnitOfWork
from ordersync_core.testing.clocks import ManualClock, SteppingIds
from ordersync_core.testing.contracts.databases import (
    ALPHA,
    context,
    number,
    open_admin,
    open_tenant,
    put_item,
    put_items,
    queries,
    retried,
)
from ordersync_core.testing.contracts.examples import (
    CONNECTOR,
    ENTITY,
    MINUTE,
    NOON,
    a_connection,
    a_delivery,
    a_record,
    a_webhook,
    an_attempt,
    an_item,
    new_id,
    stock_of,
    with_stock,
)
from ordersync_core.testing.memory import MemoryDatabases, MemoryHeartbeat, NoHeartbeat
from ordersync_core.webhooks.ports import WebhookQueries, WebhooksUnitOfWork
from tests.core.testing.in_memory import memory_databases

A = ItemCode("A")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def databases(clock: ManualClock) -> MemoryDatabases:
    return memory_databases(clock, bound=timedelta(milliseconds=50))


def test_one_object_serves_every_slice(databases: MemoryDatabases, clock: ManualClock) -> None:
    """The assignments are what the type checker looks at."""
    all_databases: Databases = databases
    tenants: TenantDatabases = databases.tenants
    unit = databases.unit_of_work(context())
    slices: tuple[ItemsUnitOfWork, MessagingUnitOfWork, WebhooksUnitOfWork, ConnectionsUnitOfWork, FlowsUnitOfWork] = (
        unit,
        unit,
        unit,
        unit,
        unit,
    )
    admin = databases.admin_unit_of_work(context(None))
    admin_slices: tuple[AdministrationsUnitOfWork, JobsUnitOfWork, AuthorisationUnitOfWork, WakeUnitOfWork] = (
        admin,
        admin,
        admin,
        admin,
    )
    reads = databases.queries(context())
    views: tuple[ItemQueries, EventQueries, WebhookQueries, ConnectionQueries, FlowQueries, FlowReads, AuditQueries] = (
        reads,
        reads,
        reads,
        reads,
        reads,
        reads,
        reads,
    )
    admin_reads = databases.admin_queries()
    admin_views: tuple[AdministrationQueries, JobQueries] = (admin_reads, admin_reads)
    heartbeats: tuple[Heartbeat, Heartbeat] = (NoHeartbeat(), MemoryHeartbeat(clock))

    assert all((all_databases, tenants, slices, admin_slices, views, admin_views, heartbeats))


# life of a unit of work


def test_it_is_used_inside_its_block_and_before_its_commit(databases: MemoryDatabases) -> None:
    uow = databases.unit_of_work(context())
    with pytest.raises(RuntimeError, match="outside of its block"):
        _ = uow.items

    with uow:
        with pytest.raises(RuntimeError, match="open already"):
            uow.__enter__()
        put_item(uow, an_item("A"))
        uow.commit()
        with pytest.raises(RuntimeError, match="has ended"):
            uow.items.find(A)
        with pytest.raises(RuntimeError, match="has ended"):
            uow.commit()

    with uow:
        assert uow.items.find(A) is not None
        uow.commit()
    assert number(databases)[0].number == 1, "what was told is told once"
    assert number(databases) == []


def test_a_lock_that_is_not_given_up_in_time_is_refused(databases: MemoryDatabases) -> None:
    put_items(databases, "A")
    with open_tenant(databases) as uow:
        uow.items.find(A)
        with pytest.raises(ChangedMeanwhile, match="in time"):
            put_items(databases, "A", stock=2)


def test_one_writer_keeps_all_others_out(clock: ManualClock) -> None:
    databases = memory_databases(clock, one_writer=True, bound=timedelta(milliseconds=50))
    with open_tenant(databases):
        with pytest.raises(ChangedMeanwhile, match="in time"):
            put_items(databases, "A")
        with open_admin(databases) as admin:
            admin.wake.wake({ALPHA: NOON})
            admin.commit()
        assert queries(databases).count_items() == 0


def test_a_failed_transaction_only_can_be_left(databases: MemoryDatabases) -> None:
    webhook = a_webhook()
    with open_tenant(databases) as uow:
        uow.webhooks.add(webhook)
        with pytest.raises(ChangedMeanwhile):
            uow.webhooks.add(webhook)
        for use in (lambda: uow.webhooks.find(webhook.id), uow.webhooks.enabled, uow.commit):
            with pytest.raises(ChangedMeanwhile, match="has failed before"):
                use()


def test_rows_are_unlocked_when_a_commit_crashes(databases: MemoryDatabases) -> None:
    class Crash(BaseException):
        pass

    def crash(transaction: object) -> None:
        raise Crash

    put_items(databases, "A", stock=1)
    databases.locks.pause = crash
    with pytest.raises(Crash):
        put_items(databases, "A", stock=2)
    databases.locks.pause = lambda transaction: None

    assert stock_of(queries(databases).item(A)) == 1
    put_items(databases, "A", stock=3)
    assert [row.key for row in number(databases)] == ["A"]


def test_a_place_taken_by_what_was_never_committed_stays_empty(databases: MemoryDatabases) -> None:
    with open_tenant(databases) as uow:
        put_item(uow, an_item("A"))
        uow._write_audit_then_outbox()
    put_items(databases, "B")

    (row,) = number(databases)
    assert (row.key, row.order, row.number) == ("B", 2, 1)


def test_what_hangs_on_nothing_is_refused(databases: MemoryDatabases) -> None:
    with open_tenant(databases) as uow:
        with pytest.raises(ValueError, match="no webhook"):
            uow.deliveries.add([a_delivery(a_webhook())])
        with pytest.raises(ValueError, match="no delivery"):
            uow.deliveries.record([an_attempt(a_delivery(a_webhook()))])


def test_only_json_can_be_kept(databases: MemoryDatabases) -> None:
    with open_tenant(databases) as uow:
        with pytest.raises(TypeError):
            uow.items.save([an_item("A", attributes={"price": object()})])
        with pytest.raises(TypeError):
            uow.raw(CONNECTOR, new_id(), ENTITY).save([a_record("K", raw={"id": {1, 2}})])


def test_what_is_kept_does_not_change_with_what_was_given(databases: MemoryDatabases) -> None:
    settings = {"regions": ["nl"]}
    connection = a_connection(settings=settings)
    with open_tenant(databases) as uow:
        uow.connections.add(connection)
        uow.commit()
    settings["regions"].append("be")

    assert queries(databases).connection(connection.id).settings == {"regions": ["nl"]}


def test_a_page_of_another_order_is_refused(databases: MemoryDatabases) -> None:
    put_items(databases, "A")

    with pytest.raises(InvalidInput):
        queries(databases).items(PageRequest(after=("A",)), sort="updated_at")
    with pytest.raises(InvalidInput):
        queries(databases).items(PageRequest(), sort="price")


# who is told of commits


def test_a_commit_that_leaves_something_to_send_is_told(clock: ManualClock) -> None:
    told: list[str] = []
    databases = MemoryDatabases(clock, SteppingIds(), told.append)
    databases.add_tenant(ALPHA)
    webhook = a_webhook()
    delivery = a_delivery(webhook)

    def committed(*, owes: bool) -> None:
        assert told == ([ALPHA] if owes else [])
        told.clear()

    put_items(databases, "A")
    committed(owes=True)
    put_items(databases, "A")
    committed(owes=False)
    (row,) = number(databases)
    committed(owes=False)
    with open_tenant(databases) as uow:
        uow.webhooks.add(webhook)
        uow.deliveries.add([a_delivery(webhook, 2, tickets=1), a_delivery(webhook, 3, ticket_at=None)])
        uow.commit()
    committed(owes=False)
    with open_tenant(databases) as uow:
        uow.deliveries.add([delivery])
        uow.commit()
    committed(owes=True)
    with open_tenant(databases) as uow:
        uow.outbox.owe_again([row.id], NOON)
        uow.commit()
    committed(owes=True)
    with open_tenant(databases) as uow:
        uow.outbox.owe_again([row.id], NOON)
    committed(owes=False)


def test_an_error_of_who_is_told_leaves_the_commit_as_it_is(clock: ManualClock) -> None:
    def fail(administration: str) -> None:
        raise ConnectionError(administration)

    databases = MemoryDatabases(clock, SteppingIds(), fail)
    databases.add_tenant(ALPHA)
    put_items(databases, "A")

    assert queries(databases).count_items() == 1


# tenants


def test_creating_a_tenant_goes_step_by_step(databases: MemoryDatabases) -> None:
    tenants = databases.tenants
    for step in (tenants.migrate, lambda code: tenants.initialise(code, new_id())):
        with pytest.raises(NotFound):
            step("gamma")
    tenants.create("gamma")
    with pytest.raises(NotFound, match="no tables"):
        tenants.initialise("gamma", new_id())
    with pytest.raises(NotFound, match="not initialised"):
        databases.queries(context("gamma"))


def test_the_database_of_another_tenant_is_refused(databases: MemoryDatabases) -> None:
    tenants = databases.tenants
    tenants._databases["gamma"] = tenants.of(ALPHA)
    tenants.migrate("gamma")
    tenants._migrated.add("gamma")

    with pytest.raises(Conflict, match="holds the data of alpha"):
        tenants.initialise("gamma", new_id())
    with pytest.raises(Conflict, match="holds the data of alpha"):
        databases.unit_of_work(context("gamma"))


# heartbeats


def test_a_heartbeat_beats_when_its_time_has_come(clock: ManualClock) -> None:
    heartbeat = MemoryHeartbeat(clock)
    beats: list[str] = []
    with heartbeat.every(RENEW_EVERY, lambda: beats.append("one")):
        assert heartbeat.beat_due() == 0
        clock.advance(RENEW_EVERY)
        with heartbeat.every(RENEW_EVERY, lambda: beats.append("other")):
            assert heartbeat.beat_due() == 1
            assert heartbeat.beat_due() == 0
            clock.advance(RENEW_EVERY)
            assert heartbeat.beat_due() == 2
    clock.advance(MINUTE)

    assert heartbeat.beat_due() == 0
    assert beats == ["one", "one", "other"]


def test_a_beat_that_fails_disturbs_nobody(clock: ManualClock) -> None:
    heartbeat = MemoryHeartbeat(clock)

    def fail() -> None:
        raise ChangedMeanwhile("lost")

    with heartbeat.every(RENEW_EVERY, fail):
        clock.advance(RENEW_EVERY)
        assert heartbeat.beat_due() == 1


def test_no_heartbeat_never_beats(clock: ManualClock) -> None:
    with NoHeartbeat().every(RENEW_EVERY, lambda: pytest.fail("it beat")):
        clock.advance(MINUTE)


# waiting


def test_a_waiting_reader_reads_what_was_committed_meanwhile(clock: ManualClock) -> None:
    databases = memory_databases(clock)
    put_items(databases, "A", stock=1)

    def double() -> None:
        with open_tenant(databases) as uow:
            item = uow.items.find(A)
            uow.items.save([with_stock(item, 2 * stock_of(item))])
            uow.commit()

    with ThreadPoolExecutor() as pool:
        with open_tenant(databases) as uow:
            uow.items.save([with_stock(uow.items.find(A), 5)])
            waiting = pool.submit(retried, double)
            while not databases.locks._awaited:
                pass
            uow.commit()
        waiting.result(30)

    assert stock_of(queries(databases).item(A)) == 10
