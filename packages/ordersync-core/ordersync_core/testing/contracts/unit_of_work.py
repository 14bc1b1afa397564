"""What every unit of work promises, whatever it is about; items stand for all that it can keep."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from ordersync_core.flows.model import FlowKind
from ordersync_core.items.model import Item, ItemCode, delete, put
from ordersync_core.kernel.errors import ChangedMeanwhile, InvalidInput, OrderSyncError
from ordersync_core.kernel.notification import Effect
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.databases import (
    ALPHA,
    BETA,
    PATIENCE,
    DatabasesContract,
    context,
    hesitate,
    number,
    open_admin,
    open_tenant,
    put_item,
    put_items,
    queries,
    retried,
    together,
    told,
)
from ordersync_core.testing.contracts.examples import (
    CONNECTOR,
    ENTITY,
    MINUTE,
    NOON,
    a_connection,
    a_delivery,
    a_flow,
    a_quarantined,
    a_record,
    a_run,
    a_webhook,
    an_execution,
    an_item,
    new_id,
    stock_of,
    with_stock,
)

A = ItemCode("A")
B = ItemCode("B")


class UnitOfWorkContract(DatabasesContract):
    # keeping all or nothing

    def test_what_was_committed_is_kept(self, databases: Databases) -> None:
        put_items(databases, "A", "B")

        assert codes(databases) == ["A", "B"]

    def test_leaving_without_commit_keeps_nothing(self, databases: Databases) -> None:
        with open_tenant(databases) as uow:
            put_item(uow, an_item("A"))
            uow.processed("a handler", [new_id()])

        assert codes(databases) == []
        assert told(databases) == []
        assert queries(databases).audit_entries(PageRequest()).rows == []

    def test_leaving_by_an_error_keeps_nothing_and_lets_it_pass(self, databases: Databases) -> None:
        def break_off() -> None:
            with open_tenant(databases) as uow:
                put_item(uow, an_item("A"))
                raise KeyError("a mistake")

        with pytest.raises(KeyError, match="a mistake"):
            break_off()

        assert codes(databases) == []
        assert told(databases) == []

    def test_an_error_after_the_commit_undoes_nothing(self, databases: Databases) -> None:
        def break_off() -> None:
            with open_tenant(databases) as uow:
                put_item(uow, an_item("A"))
                uow.commit()
                raise KeyError("a mistake")

        with pytest.raises(KeyError, match="a mistake"):
            break_off()

        assert codes(databases) == ["A"]
        assert len(told(databases)) == 1

    def test_leaving_undoes_changes_and_deletions_too(self, databases: Databases) -> None:
        put_items(databases, "A", "B", stock=1)

        with open_tenant(databases) as uow:
            uow.items.save([with_stock(uow.items.find(A), 9)])
            uow.items.delete([B])

        assert {code: stock(databases, code) for code in (A, B)} == {A: 1, B: 1}

    def test_a_unit_of_work_sees_its_own_writes(self, databases: Databases) -> None:
        put_items(databases, "B")

        with open_tenant(databases) as uow:
            uow.items.save([an_item("A", stock=3)])
            uow.items.delete([B])

            assert stock_of(uow.items.find(A)) == 3
            assert list(uow.items.get([A, B])) == [A]

    def test_nobody_sees_what_is_not_committed(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)

        with open_tenant(databases) as uow:
            uow.items.save([with_stock(uow.items.find(A), 2), an_item("B")])

            assert codes(databases) == ["A"]
            assert stock(databases, A) == 1
            uow.commit()

        assert codes(databases) == ["A", "B"]
        assert stock(databases, A) == 2

    def test_the_admin_database_keeps_all_or_nothing_too(self, databases: Databases) -> None:
        kept, left = a_run(), a_run()
        with open_admin(databases) as uow:
            uow.runs.add([kept])
            uow.commit()
        with open_admin(databases) as uow:
            uow.runs.add([left])

        assert databases.admin_queries().runs(ALPHA, PageRequest()).rows == [kept]

    def test_nothing_is_kept_once_the_database_has_refused(self, databases: Databases) -> None:
        """Also when the handler goes on as if nothing had happened."""
        webhook = a_webhook()

        with suppress(Exception), open_tenant(databases) as uow:
            put_item(uow, an_item("A"))
            uow.webhooks.add(webhook)
            with pytest.raises(ChangedMeanwhile):
                uow.webhooks.add(webhook)
            uow.commit()

        assert codes(databases) == []
        assert told(databases) == []

    # telling

    def test_what_is_told_is_stamped(self, databases: Databases, clock: ManualClock) -> None:
        clock.advance(MINUTE)
        why = context(triggered_by="auth0|7", correlation_id="request 7", traceparent="00-abc-def-01")
        change = put(None, an_item("A"), at=NOON)
        assert change is not None

        with databases.unit_of_work(why) as uow:
            uow.tell(change)
            uow.commit()

        (row,) = told(databases)
        assert (row.event_type, row.version, row.effect) == ("item.created", 1, Effect.CREATE)
        assert (row.entity_type, row.key) == ("item", "A")
        assert (row.before, row.after) == ({}, change.notification.after)
        assert row.occurred_at == NOON + MINUTE
        assert (row.triggered_by, row.correlation_id, row.traceparent) == ("auth0|7", "request 7", "00-abc-def-01")
        assert (row.number, row.body, row.absorbed_by, row.handled_at) == (None, None, None, None)

    def test_what_is_told_is_audited(self, databases: Databases, clock: ManualClock) -> None:
        put_items(databases, "A", stock=1)
        clock.advance(MINUTE)
        put_items(databases, "A", stock=2)

        latest, first = queries(databases).audit_entries(PageRequest()).rows
        assert (first.at, latest.at) == (NOON, NOON + MINUTE)
        assert (latest.entity_type, latest.key, latest.effect) == ("item", "A", Effect.UPDATE)
        assert (latest.triggered_by, latest.correlation_id) == ("somebody", "a correlation")
        assert latest.before == {"stocks": [{"warehouse": "main", "quantity": "1"}]}
        assert latest.after == {"stocks": [{"warehouse": "main", "quantity": "2"}]}
        assert (first.effect, first.before, first.after["code"]) == (Effect.CREATE, {}, "A")
        assert [first.id, latest.id] == [row.id for row in told(databases)]

    def test_a_deletion_tells_what_was(self, databases: Databases) -> None:
        put_items(databases, "A")
        with open_tenant(databases) as uow:
            kept = uow.items.find(A)
            uow.items.delete([A])
            uow.tell(delete(kept))
            uow.commit()

        _, row = told(databases)
        assert (row.event_type, row.after, row.before) == ("item.deleted", None, kept.content())

    def test_rows_stand_in_the_order_in_which_they_were_told(self, databases: Databases) -> None:
        """Those of one unit of work, and those of one after the other. The many go another way than the few."""
        put_items(databases, "Z", "A", "M")
        put_items(databases, "B")
        put_items(databases, *(f"{n:03}" for n in range(100, 0, -1)))

        rows = told(databases)
        assert [row.key for row in rows] == ["Z", "A", "M", "B", *(f"{n:03}" for n in range(100, 0, -1))]
        assert sorted({row.order for row in rows}) == [row.order for row in rows]

    def test_nothing_told_is_nothing_written(self, databases: Databases) -> None:
        with open_tenant(databases) as uow:
            uow.tell()
            uow.commit()

        assert told(databases) == []

    # lists

    def test_a_position_of_another_list_is_refused(self, databases: Databases) -> None:
        """Whether the list is empty or not."""
        webhook = a_webhook()
        self.refuse_positions(databases, webhook.id)
        put_items(databases, "A")
        number(databases)
        with open_tenant(databases) as uow:
            uow.webhooks.add(webhook)
            uow.deliveries.add([a_delivery(webhook)])
            uow.quarantine.save(FlowKind.ITEM, [a_quarantined("K")])
            uow.executions.save(an_execution())
            uow.commit()
        with open_admin(databases) as uow:
            uow.runs.add([a_run()])
            uow.commit()
        self.refuse_positions(databases, webhook.id)

    def refuse_positions(self, databases: Databases, webhook_id: UUID) -> None:
        reads, admin = queries(databases), databases.admin_queries()
        lists: tuple[tuple[Callable[[PageRequest], object], tuple[Any, ...]], ...] = (
            (reads.items, ("A", "A")),
            (lambda page: reads.items(page, sort="-updated_at"), ("A", "A")),
            (reads.events, ("A",)),
            (reads.audit_entries, (1, "A")),
            (reads.webhooks, ("A",)),
            (lambda page: reads.deliveries(webhook_id, page), ("A",)),
            (lambda page: reads.quarantine(FlowKind.ITEM, page), ("A", "A")),
            (lambda page: reads.executions(FlowKind.ITEM, page), ("A", "A")),
            (lambda page: admin.runs(ALPHA, page), ("A", "A")),
        )
        for read, after in lists:
            for position in (after, (), (1, 2, 3)):
                with pytest.raises(InvalidInput, match="cursor"):
                    read(PageRequest(after=position))

    # several at once

    def test_the_second_sees_what_the_first_committed(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)

        def double() -> None:
            with open_tenant(databases) as uow:
                item = uow.items.find(A)
                uow.items.save([with_stock(item, 2 * stock_of(item))])
                uow.commit()

        with ThreadPoolExecutor() as pool:
            with open_tenant(databases) as uow:
                item = uow.items.find(A)
                second = pool.submit(retried, double)
                hesitate()
                uow.items.save([with_stock(item, 10)])
                uow.commit()
            second.result(PATIENCE)

        assert stock(databases, A) == 20

    def test_the_second_goes_on_when_the_first_gives_up(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)

        with ThreadPoolExecutor() as pool:
            with open_tenant(databases) as uow:
                uow.items.save([with_stock(uow.items.find(A), 10)])
                second = pool.submit(retried, self.one_more(databases, A))
                hesitate()
            second.result(PATIENCE)

        assert stock(databases, A) == 2

    def test_no_update_is_lost(self, databases: Databases) -> None:
        put_items(databases, "A", stock=0)

        together(*[lambda: retried(self.one_more(databases, A))] * 20)

        assert stock(databases, A) == 20
        rows = told(databases)
        assert [row.after["stocks"][0]["quantity"] for row in rows if row.after] == [str(n) for n in range(21)]

    def test_of_twins_that_create_the_same_one_sees_the_other(self, databases: Databases) -> None:
        def create() -> bool:
            with open_tenant(databases) as uow:
                kept = uow.items.find(A)
                hesitate()
                change = put(kept, with_stock(an_item("A"), 1 if kept is None else stock_of(kept) + 1), at=NOON)
                assert change is not None
                uow.items.save([change.after])
                uow.tell(change)
                uow.commit()
                return kept is None

        created = together(*[lambda: retried(create)] * 6)

        assert sorted(created) == [False] * 5 + [True]
        assert stock(databases, A) == 6
        assert [row.event_type for row in told(databases)] == ["item.created"] + ["item.updated"] * 5

    def test_opposite_orders_of_locks_end(self, databases: Databases) -> None:
        put_items(databases, "A", "B", stock=0)

        def both(first: ItemCode, second: ItemCode) -> Callable[[], None]:
            def change() -> None:
                with open_tenant(databases) as uow:
                    for code in (first, second):
                        item = uow.items.find(code)
                        hesitate()
                        uow.items.save([with_stock(item, stock_of(item) + 1)])
                    uow.commit()

            return lambda: retried(change)

        together(both(A, B), both(B, A))

        assert {code: stock(databases, code) for code in (A, B)} == {A: 2, B: 2}

    # tenants

    def test_tenants_see_nothing_of_each_other(self, databases: Databases) -> None:
        webhook, connection, flow, execution = a_webhook(), a_connection(), a_flow(), an_execution()
        delivery = a_delivery(webhook)
        message = new_id()
        put_items(databases, "A")
        (event,) = number(databases)
        with open_tenant(databases) as uow:
            uow.webhooks.add(webhook)
            uow.deliveries.add([delivery])
            uow.connections.add(connection)
            uow.flows.save(flow)
            uow.executions.save(execution)
            uow.quarantine.save(FlowKind.ITEM, [a_quarantined("K")])
            uow.raw(CONNECTOR, connection.id, ENTITY).save([a_record("K")])
            uow.raw(CONNECTOR, connection.id, ENTITY).save_cursor({"timestamp": 7})
            uow.processed("a handler", [message])
            uow.leases.take("a lease", "somebody")
            uow.commit()

        reads = queries(databases, BETA)
        assert codes(databases, BETA) == []
        assert reads.item(A) is None
        assert reads.events(PageRequest()).rows == []
        assert (reads.oldest_number(), reads.trace(event.id)) == (None, None)
        assert reads.feed().epoch != queries(databases).feed().epoch
        assert reads.audit_entries(PageRequest()).rows == []
        assert reads.webhooks(PageRequest()).rows == []
        assert (reads.webhook(webhook.id), reads.delivery(delivery.id)) == (None, None)
        assert list(reads.connections()) == []
        assert (reads.flow(FlowKind.ITEM), reads.execution(execution.run_id)) == (None, None)
        assert reads.quarantine(FlowKind.ITEM, PageRequest()).rows == []
        with open_tenant(databases, BETA) as uow:
            raw = uow.raw(CONNECTOR, connection.id, ENTITY)
            assert (raw.cursor(), raw.count()) == (None, (0, 0))
            assert uow.processed("a handler", [message]) == frozenset()
            assert uow.leases.take("a lease", "somebody else") is not None
            assert uow.outbox.unnumbered(10) == []
            assert uow.outbox.lock_numbering() == 0
            assert uow.webhooks.enabled() == []
            assert uow.deliveries.owed(NOON, window=10) == []

    def test_tenants_do_not_wait_for_each_other(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)
        put_items(databases, "A", administration=BETA, stock=5)

        with open_tenant(databases) as one, open_tenant(databases, BETA) as other:
            one.items.save([with_stock(one.items.find(A), 2)])
            other.items.save([with_stock(other.items.find(A), 6)])
            other.commit()
            one.commit()

        assert (stock(databases, A), stock(databases, A, BETA)) == (2, 6)

    def test_without_an_administration_no_tenant_database_opens(self, databases: Databases) -> None:
        def open_nobody() -> None:
            with databases.unit_of_work(context(None)):
                pass

        with pytest.raises((OrderSyncError, ValueError)):
            open_nobody()

    def test_an_unknown_administration_has_no_database(self, databases: Databases) -> None:
        def open_unknown() -> None:
            with databases.unit_of_work(context("nobody")) as uow:
                uow.items.find(A)

        with pytest.raises(OrderSyncError):
            open_unknown()

    def one_more(self, databases: Databases, code: ItemCode) -> Callable[[], None]:
        """One more in stock, read and written in one unit of work."""

        def change() -> None:
            with open_tenant(databases) as uow:
                item = uow.items.find(code)
                hesitate()
                put_item(uow, with_stock(item, stock_of(item) + 1))
                uow.commit()

        return change


def codes(databases: Databases, administration: str = ALPHA) -> list[str]:
    return [str(item.code) for item in queries(databases, administration).items(PageRequest(limit=500)).rows]


def stock(databases: Databases, code: ItemCode, administration: str = ALPHA) -> int:
    item: Item = queries(databases, administration).item(code)
    return stock_of(item)
