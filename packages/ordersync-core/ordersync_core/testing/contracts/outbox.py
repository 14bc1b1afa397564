"""The outbox and its numbering, the event log, and what is read of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from uuid import UUID

import orjson

from ordersync_core.items.model import ItemCode, delete
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.model import number_rows
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.databases import (
    ALPHA,
    PATIENCE,
    DatabasesContract,
    all_rows,
    context,
    hesitate,
    number,
    numbered,
    open_tenant,
    put_item,
    put_items,
    queries,
    retried,
    together,
    told,
)
from ordersync_core.testing.contracts.examples import (
    MINUTE,
    NOON,
    SECOND,
    a_delivery,
    a_webhook,
    an_attempt,
    an_item,
    new_id,
)
from ordersync_core.webhooks.model import DeliveryState


class OutboxContract(DatabasesContract):
    # numbering

    def test_rows_get_the_next_numbers_in_order(self, databases: Databases) -> None:
        put_items(databases, "C", "A")
        first = number(databases)
        put_items(databases, "B")
        second = number(databases)

        assert [(row.key, row.number) for row in first] == [("C", 1), ("A", 2)]
        assert [(row.key, row.number) for row in second] == [("B", 3)]
        assert queries(databases).feed().last_number == 3
        assert told(databases) == []

    def test_a_numbered_row_holds_its_finished_body(self, databases: Databases) -> None:
        put_items(databases, "A")
        (fact,) = told(databases)
        (row,) = number(databases, ticket_at=NOON + MINUTE)

        assert row.body is not None
        body = orjson.loads(row.body)
        assert (body["sequence"], body["id"], body["administration"]) == (1, str(row.id), ALPHA)
        assert body["data"]["item"] == fact.after
        assert (row.before, row.after) == ({}, None)
        assert (row.ticket_at, row.tickets, row.handled_at) == (NOON + MINUTE, 1, None)

    def test_the_oldest_rows_come_first(self, databases: Databases) -> None:
        put_items(databases, "A", "B", "C", "D")

        assert [row.key for row in number(databases, limit=3)] == ["A", "B", "C"]
        assert [row.key for row in told(databases)] == ["D"]

    def test_what_collapsed_is_told_once(self, databases: Databases) -> None:
        """The survivor takes the last row's content; who was absorbed gets no number and comes never again."""
        put_items(databases, "A", stock=1, correlation_id="first")
        put_items(databases, "B")
        put_items(databases, "A", stock=2, correlation_id="second")
        first, _, second = told(databases)

        survivor, other = number(databases)

        assert (survivor.id, survivor.number, survivor.key) == (first.id, 1, "A")
        assert survivor.body is not None
        assert (survivor.event_type, orjson.loads(survivor.body)["data"]["item"]) == ("item.created", second.after)
        assert (survivor.correlation_id, survivor.order) == ("second", first.order)
        assert (other.number, other.key) == (2, "B")
        assert numbered(databases, [second.id]) == []
        assert told(databases) == []
        assert number(databases) == []

    def test_what_came_to_nothing_gets_no_number(self, databases: Databases) -> None:
        put_items(databases, "A")
        with open_tenant(databases) as uow:
            kept = uow.items.find(ItemCode("A"))
            uow.items.delete([kept.code])
            uow.tell(delete(kept))
            uow.commit()
        rows = told(databases)
        put_items(databases, "B")

        assert [(row.key, row.number) for row in number(databases)] == [("B", 1)]
        assert numbered(databases, [row.id for row in rows]) == []
        assert told(databases) == []

    def test_numbering_that_is_not_committed_never_was(self, databases: Databases) -> None:
        put_items(databases, "A")
        with open_tenant(databases) as uow:
            last_number = uow.outbox.lock_numbering()
            numbering = number_rows(uow.outbox.unnumbered(10), {}, last_number=last_number, administration=ALPHA)
            uow.outbox.number(numbering, ticket_at=NOON)

        assert len(told(databases)) == 1
        assert queries(databases).feed().last_number == 0
        assert [row.number for row in number(databases)] == [1]

    def test_changes_that_are_not_committed_leave_no_gap(self, databases: Databases) -> None:
        put_items(databases, "A")
        with open_tenant(databases) as uow:
            put_item(uow, an_item("B"))
        put_items(databases, "C")

        assert [(row.key, row.number) for row in number(databases)] == [("A", 1), ("C", 2)]

    def test_one_relay_numbers_at_a_time(self, databases: Databases) -> None:
        put_items(databases, "A", "B", "C")

        def other() -> list[int | None]:
            return [row.number for row in number(databases)]

        with ThreadPoolExecutor() as pool:
            with open_tenant(databases) as uow:
                last_number = uow.outbox.lock_numbering()
                waiting = pool.submit(retried, other)
                hesitate()
                numbering = number_rows(uow.outbox.unnumbered(1), {}, last_number=last_number, administration=ALPHA)
                uow.outbox.number(numbering, ticket_at=NOON)
                uow.commit()
            assert waiting.result(PATIENCE) == [2, 3]

    def test_two_relays_leave_no_gap_and_repeat_nothing(self, databases: Databases) -> None:
        """While others go on committing."""
        changes, writers = 15, 3

        def write(writer: int) -> None:
            for n in range(changes):
                retried(partial(put_items, databases, f"{writer}-{n}"))

        def relay() -> list[int | None]:
            numbers: list[int | None] = []
            for _ in range(changes):
                numbers += [row.number for row in retried(lambda: number(databases, limit=2))]
            return numbers

        jobs = [lambda w=w: write(w) for w in range(writers)]
        results = together(*jobs, relay, relay)
        left = [row.number for row in number(databases)]

        numbers = [n for result in results[writers:] for n in result or []] + left
        assert sorted(n for n in numbers if n is not None) == list(range(1, changes * writers + 1))
        events = all_rows(queries(databases).events, limit=500)
        assert [event["sequence"] for event in events] == list(range(1, changes * writers + 1))
        assert len({event["id"] for event in events}) == changes * writers

    # the window and tickets

    def test_what_is_numbered_is_unfinished_until_it_was_handled(self, databases: Databases) -> None:
        put_items(databases, "A", "B", "C")
        assert unfinished(databases) == 0
        rows = number(databases)
        assert unfinished(databases) == 3
        assert unfinished(databases, limit=2) == 2

        handle(databases, rows[0].id, rows[2].id)

        assert unfinished(databases) == 1
        (handled,) = numbered(databases, [rows[0].id])
        assert (handled.handled_at, handled.ticket_at) == (NOON + SECOND, None)

    def test_rows_owe_a_ticket_from_their_moment_on(self, databases: Databases) -> None:
        put_items(databases, "A")
        number(databases, ticket_at=NOON + MINUTE)
        put_items(databases, "B")
        number(databases, ticket_at=NOON)
        put_items(databases, "C")
        number(databases, ticket_at=NOON)
        put_items(databases, "without a number")

        with open_tenant(databases) as uow:
            assert [row.key for row in uow.outbox.owed(NOON - SECOND, limit=10)] == []
            assert [row.key for row in uow.outbox.owed(NOON, limit=10)] == ["B", "C"]
            assert [row.key for row in uow.outbox.owed(NOON + MINUTE, limit=10)] == ["A", "B", "C"]
            assert [row.key for row in uow.outbox.owed(NOON + MINUTE, limit=2)] == ["A", "B"]

    def test_a_sent_ticket_moves_the_next_one_on(self, databases: Databases) -> None:
        put_items(databases, *(f"{n:03}" for n in range(100)))
        rows = number(databases)
        note(databases, *(Ticketed(id=r.id, was=NOON, tickets=2, ticket_at=NOON + 5 * MINUTE) for r in rows))

        assert owed(databases, NOON + 4 * MINUTE) == []
        assert len(owed(databases, NOON + 5 * MINUTE)) == 100
        assert {row.tickets for row in numbered(databases, [row.id for row in rows])} == {2}

    def test_a_ticket_for_a_row_that_moved_on_notes_nothing(self, databases: Databases) -> None:
        put_items(databases, "A", "B")
        first, second = number(databases)
        handle(databases, second.id)
        stale = NOON - SECOND
        note(
            databases,
            Ticketed(id=first.id, was=stale, tickets=7, ticket_at=NOON + MINUTE),
            Ticketed(id=second.id, was=NOON, tickets=7, ticket_at=NOON + MINUTE),
            Ticketed(id=new_id(), was=NOON, tickets=7, ticket_at=NOON + MINUTE),
        )

        first, second = numbered(databases, [first.id, second.id])
        assert (first.ticket_at, first.tickets) == (NOON, 1)
        assert (second.ticket_at, second.tickets) == (None, 1)

    def test_a_handled_row_owes_nothing(self, databases: Databases) -> None:
        put_items(databases, "A")
        (row,) = number(databases)
        handle(databases, row.id)

        assert owed(databases, NOON + MINUTE) == []

    def test_a_resubmitted_row_owes_again(self, databases: Databases) -> None:
        put_items(databases, "A", "B")
        row, _ = number(databases)
        handle(databases, row.id)
        with open_tenant(databases) as uow:
            uow.outbox.owe_again([row.id, new_id()], NOON + MINUTE)
            uow.commit()

        (again,) = numbered(databases, [row.id])
        assert (again.handled_at, again.ticket_at, again.body) == (None, NOON + MINUTE, row.body)
        assert unfinished(databases) == 2
        assert row.id in owed(databases, NOON + MINUTE)

    def test_numbered_rows_are_found_by_number(self, databases: Databases) -> None:
        put_items(databases, "A", "B")
        first, second = number(databases)
        put_items(databases, "C")
        (waiting,) = told(databases)

        assert numbered(databases, [second.id, waiting.id, new_id(), first.id]) == [first, second]
        assert numbered(databases, []) == []

    def test_the_earliest_moment_covers_outbox_and_deliveries(self, databases: Databases) -> None:
        def earliest() -> object:
            with open_tenant(databases) as uow:
                return uow.outbox.earliest_ticket_at()

        assert earliest() is None
        put_items(databases, "A")
        assert earliest() == NOON
        (row,) = number(databases, ticket_at=NOON + MINUTE)
        assert earliest() == NOON + MINUTE

        webhook = a_webhook()
        with open_tenant(databases) as uow:
            uow.webhooks.add(webhook)
            uow.deliveries.add(
                [
                    a_delivery(webhook, 1, ticket_at=NOON + 30 * SECOND),
                    a_delivery(webhook, 2, ticket_at=None),
                    a_delivery(webhook, 3, state=DeliveryState.DELIVERED, ticket_at=None),
                ]
            )
            uow.commit()
        assert earliest() == NOON + 30 * SECOND

        handle(databases, row.id)
        with open_tenant(databases) as uow:
            uow.deliveries.park(webhook.id)
            uow.commit()
        assert earliest() is None

    # the event log, as webhooks see it

    def test_the_event_log_holds_what_is_numbered(self, databases: Databases) -> None:
        put_items(databases, "A", "B", "C")
        rows = number(databases)
        put_items(databases, "D")
        (waiting,) = told(databases)

        with open_tenant(databases) as uow:
            log = uow.event_log
            handled = log.handled([rows[2].id, waiting.id, rows[0].id, new_id()], NOON)
            assert [(event.id, event.number, event.type) for event in handled] == [
                (rows[0].id, 1, "item.created"),
                (rows[2].id, 3, "item.created"),
            ]
            assert log.handled([], NOON) == []
            assert [event.number for event in log.handled_after(0, 10)] == [1, 3]
            assert [event.number for event in log.handled_after(1, 10)] == [3]
            assert [event.number for event in log.handled_after(0, 1)] == [1]
            assert log.handled_after(3, 10) == []
            assert log.last_number() == 3

    def test_the_event_log_gives_the_bodies(self, databases: Databases) -> None:
        with databases.unit_of_work(context(triggered_by="auth0|7", traceparent="00-a-b-01")) as uow:
            put_item(uow, an_item("A"))
            uow.commit()
        (row,) = number(databases)
        put_items(databases, "B")
        (waiting,) = told(databases)

        bodies = queries(databases).bodies([row.id, waiting.id, new_id()])
        assert list(bodies) == [row.id]
        body = bodies[row.id]
        assert (body.body, body.triggered_by, body.traceparent) == (row.body, "auth0|7", "00-a-b-01")

    def test_fan_out_finishes_events(self, databases: Databases) -> None:
        put_items(databases, "A", "B")
        first, _ = number(databases)
        with open_tenant(databases) as uow:
            uow.event_log.handled([first.id, new_id()], NOON + SECOND)
            uow.commit()

        assert unfinished(databases) == 1
        assert numbered(databases, [first.id])[0].handled_at == NOON + SECOND

    # reading

    def test_a_new_feed_is_empty(self, databases: Databases) -> None:
        reads = queries(databases)

        assert reads.feed().last_number == 0
        assert reads.events(PageRequest()).rows == []
        assert (reads.oldest_number(), reads.trace(new_id())) == (None, None)

    def test_events_are_read_by_number_as_their_bodies(self, databases: Databases) -> None:
        put_items(databases, *"ABCDE")
        rows = number(databases)
        put_items(databases, "F")

        for limit in (1, 2, 50):
            events = all_rows(queries(databases).events, limit=limit)
            assert events == [orjson.loads(row.body or b"") for row in rows]
        later = queries(databases).events(PageRequest(after=(3,)))
        assert [event["sequence"] for event in later.rows] == [4, 5]
        assert queries(databases).oldest_number() == 1

    def test_events_are_narrowed_by_exact_type(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)
        number(databases)
        put_items(databases, "A", stock=2)
        put_items(databases, "B")
        number(databases)

        created = all_rows(lambda page: queries(databases).events(page, types=["item.created"]), limit=1)
        assert [event["sequence"] for event in created] == [1, 3]
        assert queries(databases).events(PageRequest(), types=["item"]).rows == []

    def test_a_trace_tells_the_whole_way(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)
        put_items(databases, "A", stock=2)
        _, absorbed = told(databases)
        (row,) = number(databases)
        webhook = a_webhook()
        delivery = a_delivery(webhook, event_id=row.id)
        with open_tenant(databases) as uow:
            uow.webhooks.add(webhook)
            uow.deliveries.add([delivery, a_delivery(webhook, 2)])
            uow.deliveries.record([an_attempt(delivery, 2, status=200), an_attempt(delivery, 1, status=500)])
            uow.commit()

        trace = queries(databases).trace(row.id)
        assert (trace["id"], trace["number"], trace["absorbed_by"]) == (str(row.id), 1, None)
        assert [d["id"] for d in trace["deliveries"]] == [str(delivery.id)]
        assert [a["status"] for a in trace["deliveries"][0]["attempts"]] == [500, 200]

        of_absorbed = queries(databases).trace(absorbed.id)
        assert (of_absorbed["number"], of_absorbed["absorbed_by"]) == (None, str(row.id))
        assert of_absorbed["deliveries"] == trace["deliveries"]


class LateCommitContract(DatabasesContract):
    """For databases in which transactions overlap: the one that came first may become visible last."""

    def hold_commits(self, databases: Databases, correlation_id: str) -> AbstractContextManager[Callable[[], None]]:
        """Inside the block, a commit under this correlation stops after its rows have got their order and before
        anybody sees them. What the block gets waits until one has come that far."""
        raise NotImplementedError

    def test_a_late_commit_is_not_skipped(self, databases: Databases, clock: ManualClock) -> None:
        with ThreadPoolExecutor() as pool:
            with self.hold_commits(databases, "late") as wait_until_held:
                late = pool.submit(put_items, databases, "late", correlation_id="late")
                wait_until_held()
                put_items(databases, "early")
                first = number(databases)
            late.result(PATIENCE)
        second = number(databases)

        assert [(row.key, row.number) for row in first] == [("early", 1)]
        assert [(row.key, row.number) for row in second] == [("late", 2)]
        assert second[0].order < first[0].order, "the example did not overlap"
        assert [event["sequence"] for event in all_rows(queries(databases).events, limit=1)] == [1, 2]


def unfinished(databases: Databases, limit: int = 1_000) -> int:
    with open_tenant(databases) as uow:
        count: int = uow.outbox.unfinished(limit)
        return count


def owed(databases: Databases, now: datetime) -> list[UUID]:
    with open_tenant(databases) as uow:
        return [row.id for row in uow.outbox.owed(now, limit=1_000)]


def note(databases: Databases, *tickets: Ticketed) -> None:
    with open_tenant(databases) as uow:
        uow.outbox.ticketed(tickets)
        uow.commit()


def handle(databases: Databases, *ids: UUID) -> None:
    with open_tenant(databases) as uow:
        uow.outbox.handled(ids, NOON + SECOND)
        uow.commit()
