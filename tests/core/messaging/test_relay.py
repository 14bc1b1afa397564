"""Number first, send later: what has a number is never changed again, and nothing is skipped."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordersync_core.kernel.errors import NotFound, TemporaryFailure
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.messaging.commands import GiveUpEvents, OweEventsAgain, Relay, TakeDue, Wake
from ordersync_core.messaging.envelope import EVENTS, Envelope
from ordersync_core.messaging.handlers import (
    give_up_events,
    owe_events_again,
    relay,
    send_owed,
    take_due,
    wake,
)
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.messaging.queue import Message, Queues
from ordersync_core.testing.contracts.databases import ALPHA, BETA, PATIENCE, all_rows, open_tenant
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND
from ordersync_core.testing.memory.transaction import Transaction
from tests.core.embedded import ConsumedAtOnce, Embedded, sqlite_databases


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Embedded]:
    if request.param == "memory":
        yield Embedded()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Embedded(databases)


def publish(site: Embedded, *, window: int = 2_000) -> list[Envelope]:
    """One visit of the relay; the messages that it sent."""
    sent = site.run(relay, Relay(window=window))
    messages = site.take(EVENTS)
    assert len(messages) == sent
    return messages


def feed(site: Embedded, administration: str = ALPHA) -> list[dict[str, Any]]:
    """The numbered events as receivers get them."""
    return all_rows(lambda page: site.queries(administration).events(page), limit=PageRequest().limit)


def told(site: Embedded) -> list[tuple[int, str, str]]:
    return [(event["sequence"], event["type"].removeprefix("item."), event["data"]["code"]) for event in feed(site)]


def rows(site: Embedded, messages: Sequence[Envelope]) -> list[OutboxRow]:
    with open_tenant(site.databases) as uow:
        found: list[OutboxRow] = uow.outbox.find([message.id for message in messages])
        return found


def handle(site: Embedded, messages: Sequence[Envelope]) -> None:
    with open_tenant(site.databases) as uow:
        uow.outbox.handled([message.id for message in messages], site.clock.now())
        uow.commit()


class Unreliable:
    """Queues that take so many messages more and then fail."""

    def __init__(self, site: Embedded, *, takes: int) -> None:
        self._site = site
        self._takes = takes

    def __getitem__(self, name: str) -> "Unreliable":
        return self

    def send(self, messages: Sequence[Message]) -> None:
        taken, self._takes = messages[: self._takes], max(0, self._takes - len(messages))
        self._site.queues[EVENTS].send(taken)
        if len(taken) < len(messages):
            raise TemporaryFailure("the queue is away")


class TestNumbering:
    def test_numbers_go_by_the_order_of_the_changes_without_a_gap(self, site: Embedded) -> None:
        site.put("B", "A")
        assert [m.body["number"] for m in publish(site)] == [1, 2]
        site.put("C")
        site.delete("B")
        publish(site)
        assert told(site) == [(1, "created", "B"), (2, "created", "A"), (3, "created", "C"), (4, "deleted", "B")]

    def test_a_message_carries_who_when_and_why(self, site: Embedded) -> None:
        site.put("A", triggered_by="auth0|7", correlation_id="request 7", traceparent="00-abc-def-01")
        site.pass_time(SECOND)
        [message] = publish(site)
        [row] = rows(site, [message])
        assert message == Envelope(
            id=row.id,
            type="item.created",
            administration=ALPHA,
            occurred_at=NOON,
            triggered_by="auth0|7",
            correlation_id="request 7",
            traceparent="00-abc-def-01",
            body={"number": 1},
        )
        assert row.body is not None
        assert orjson.loads(row.body)["sequence"] == 1
        assert (row.tickets, row.ticket_at) == (1, site.clock.now() + MINUTE)

    def test_there_is_nothing_to_do_where_nothing_happened(self, site: Embedded) -> None:
        assert publish(site) == []
        site.put("A")
        publish(site)
        assert publish(site) == []
        site.put("A")  # as it is
        assert publish(site) == []

    def test_one_visit_numbers_more_than_one_transaction_can_hold(self) -> None:
        site = Embedded()
        site.put(*(f"{n:04}" for n in range(1_001)))
        assert [m.body["number"] for m in publish(site)] == list(range(1, 1_002))

    def test_each_administration_has_its_own_count(self, site: Embedded) -> None:
        site.put("A", administration=BETA)
        site.put("B")
        assert [m.administration for m in publish(site)] == [ALPHA]
        assert site.run(relay, Relay(), BETA) == 1
        [message] = site.take(EVENTS)
        assert (message.administration, message.body) == (BETA, {"number": 1})
        assert [event["data"]["code"] for event in feed(site, BETA)] == ["A"]

    def test_it_works_for_one_administration_at_a_time(self, site: Embedded) -> None:
        with pytest.raises((NotFound, ValueError)):
            site.run(relay, Relay(), None)

    def test_a_late_commit_is_not_skipped(self) -> None:
        """It took its place in the order before the other one, and becomes visible after it was numbered."""
        site = Embedded()
        with held_commit(site, "late") as held, ThreadPoolExecutor(1) as pool:
            late = pool.submit(site.put, "LATE", correlation_id="late")
            assert held.arrived.wait(PATIENCE)
            site.put("EARLY")
            publish(site)
            assert told(site) == [(1, "created", "EARLY")]
            held.released.set()
            late.result(PATIENCE)
        publish(site)
        assert told(site) == [(1, "created", "EARLY"), (2, "created", "LATE")]

    def test_two_relays_at_once_give_each_row_one_number(self) -> None:
        site = Embedded()
        stop = threading.Event()

        def visit() -> None:
            while not stop.is_set():
                site.run(relay, Relay())

        with ThreadPoolExecutor(4) as pool:
            visits = [pool.submit(visit) for _ in range(2)]
            puts = [pool.submit(site.put, *(f"{half}-{n:03}" for n in range(100))) for half in "AB"]
            for put in puts:
                put.result(PATIENCE)
            stop.set()
            for each in visits:
                each.result(PATIENCE)
        site.run(relay, Relay())

        events = feed(site)
        assert [event["sequence"] for event in events] == list(range(1, 201))
        assert len({event["data"]["code"] for event in events}) == 200
        assert {str(message.id) for message in site.take(EVENTS)} == {event["id"] for event in events}


class _Held:
    def __init__(self) -> None:
        self.arrived, self.released = threading.Event(), threading.Event()


@contextmanager
def held_commit(site: Embedded, correlation_id: str) -> Iterator[_Held]:
    """A commit of that correlation stops when its rows have their order and nobody can see them yet."""
    held = _Held()

    def pause(transaction: object) -> None:
        assert isinstance(transaction, Transaction)
        if transaction.context.correlation_id == correlation_id:
            held.arrived.set()
            assert held.released.wait(PATIENCE)

    site.databases.locks.pause = pause
    try:
        yield held
    finally:
        held.released.set()


class TestCollapse:
    def test_the_rows_of_one_entity_are_told_as_one(self, site: Embedded) -> None:
        site.put("A", "B")
        site.put("A", name="second")
        site.put("A", name="third")
        messages = publish(site)
        assert told(site) == [(1, "created", "A"), (2, "created", "B")]
        assert feed(site)[0]["data"]["item"]["name"] == {"en": "third"}
        assert len(messages) == 2

    def test_what_was_created_and_deleted_comes_to_nothing_and_gets_no_number(self, site: Embedded) -> None:
        site.put("A", "B")
        site.delete("A")
        site.put("C")
        publish(site)
        assert told(site) == [(1, "created", "B"), (2, "created", "C")]
        site.put("D")
        publish(site)
        assert told(site)[-1] == (3, "created", "D")

    def test_a_batch_that_comes_to_nothing_ends_the_visit_all_the_same(self, site: Embedded) -> None:
        site.put("A")
        site.delete("A")
        assert publish(site) == []
        assert publish(site) == []
        with open_tenant(site.databases) as uow:
            assert uow.outbox.unnumbered(10) == []

    def test_what_has_a_number_is_not_touched_by_what_follows(self, site: Embedded) -> None:
        site.put("A")
        [first] = publish(site)
        [before] = rows(site, [first])
        site.put("A", name="second")
        site.delete("A")
        publish(site)
        assert rows(site, [first]) == [before]
        assert told(site) == [(1, "created", "A"), (2, "deleted", "A")]


class TestWindow:
    def test_numbering_waits_while_it_is_full_and_goes_on_when_there_is_room(self, site: Embedded) -> None:
        site.put(*"ABCDEFGH")
        first = publish(site, window=5)
        assert [m.body["number"] for m in first] == [1, 2, 3, 4, 5]
        assert publish(site, window=5) == []

        handle(site, first[:2])

        assert [m.body["number"] for m in publish(site, window=5)] == [6, 7]

    def test_what_waits_still_collapses(self, site: Embedded) -> None:
        site.put(*"ABCDE")
        first = publish(site, window=5)
        site.put("F", "G")
        assert publish(site, window=5) == []
        site.put("F", name="second")
        site.put("F", name="third")
        site.delete("G")

        handle(site, first)
        publish(site, window=5)

        assert told(site)[5:] == [(6, "created", "F")]
        assert feed(site)[5]["data"]["item"]["name"] == {"en": "third"}

    def test_what_was_given_up_takes_no_room(self, site: Embedded) -> None:
        site.put("A", "B")
        first = publish(site, window=1)
        site.run(give_up_events, GiveUpEvents(ids=tuple(m.id for m in first)))
        assert [m.body["number"] for m in publish(site, window=1)] == [2]
        site.pass_time(60 * MINUTE)
        assert [m.body["number"] for m in publish(site, window=1)] == [2]


class TestResending:
    def test_a_lost_ticket_is_sent_again_after_1_5_and_30_minutes_and_then_every_30(self, site: Embedded) -> None:
        site.put("A")
        minutes = []
        for minute in range(75):
            if publish(site):
                minutes.append(minute)
            site.pass_time(MINUTE)
        assert minutes == [0, 1, 6, 36, 66]

    def test_a_queue_that_lost_everything_fills_again_with_the_same_messages(self, site: Embedded) -> None:
        site.put(*"ABC")
        first = publish(site)
        bodies = [row.body for row in rows(site, first)]
        site.pass_time(MINUTE)
        assert publish(site) == first
        assert [row.body for row in rows(site, first)] == bodies

    def test_what_has_its_outcome_is_not_sent_again(self, site: Embedded) -> None:
        site.put("A", "B")
        first = publish(site)
        handle(site, first[:1])
        site.pass_time(MINUTE)
        assert publish(site) == first[1:]

    def test_a_relay_that_fails_to_send_repeats_what_it_numbered(self, site: Embedded) -> None:
        site.put(*"ABC")
        site.ports[Queues] = Unreliable(site, takes=1)
        with pytest.raises(TemporaryFailure):
            site.run(relay, Relay())
        site.ports[Queues] = site.queues
        assert [m.body["number"] for m in site.take(EVENTS)] == [1]
        assert told(site) == [(1, "created", "A"), (2, "created", "B"), (3, "created", "C")]
        assert publish(site) == []

        site.pass_time(MINUTE)

        assert [m.body["number"] for m in publish(site)] == [1, 2, 3]

    def test_a_relay_that_dies_before_it_notes_what_it_sent_sends_it_once_more(self, site: Embedded) -> None:
        site.put("A")
        publish(site)
        site.pass_time(MINUTE)
        site.ports[Queues] = Unreliable(site, takes=0)
        with pytest.raises(TemporaryFailure):
            site.run(send_owed, Relay())
        site.ports[Queues] = site.queues
        assert len(publish(site)) == 1
        assert publish(site) == []

    def test_a_consumer_that_is_faster_than_the_note_is_not_overwritten(self, site: Embedded) -> None:
        site.put("A")
        [message] = publish(site)
        site.pass_time(MINUTE)
        site.ports[Queues] = ConsumedAtOnce(site.queues, EVENTS, lambda: handle(site, site.take(EVENTS)))
        site.run(relay, Relay())
        [row] = rows(site, [message])
        assert (row.handled_at, row.ticket_at, row.tickets) == (site.clock.now(), None, 1)
        site.ports[Queues] = site.queues
        site.pass_time(60 * MINUTE)
        assert publish(site) == []

    def test_a_resubmitted_event_is_sent_at_once(self, site: Embedded) -> None:
        site.put("A", "B")
        first, second = publish(site)
        handle(site, [first, second])
        site.run(owe_events_again, OweEventsAgain(ids=(first.id,)))
        assert publish(site) == [first]
        assert told(site) == [(1, "created", "A"), (2, "created", "B")]

    def test_no_two_tickets_look_alike_to_a_broker_that_drops_duplicates(self, site: Embedded) -> None:
        """Though a resubmission begins the count of tickets anew."""
        site.put("A")
        sent = []
        for _ in range(3):
            site.run(relay, Relay())
            [message] = site.take_messages(EVENTS)
            sent.append(message.send_id)
            site.pass_time(SECOND)
            site.run(owe_events_again, OweEventsAgain(ids=tuple(row.id for row in self.all_numbered(site))))
        assert len(set(sent)) == 3

    @staticmethod
    def all_numbered(site: Embedded) -> list[OutboxRow]:
        with open_tenant(site.databases) as uow:
            owed: list[OutboxRow] = uow.outbox.owed(NOON + 60 * MINUTE, 10)
            return owed


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("ABC"), st.integers(0, 2)),
        st.tuples(st.just("delete"), st.sampled_from("ABC"), st.just(0)),
        st.tuples(st.just("publish"), st.just(""), st.integers(0, 4)),
        st.tuples(st.just("fail"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("handle"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.just(""), st.sampled_from((1, 6, 40))),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_whatever_happens_who_applies_the_events_in_order_knows_the_items(history: list[tuple[str, str, int]]) -> None:
    """Numbers have no gap, each event has the same bytes each time, and all that happened is told in the end."""
    site = Embedded()
    items: dict[str, str] = {}
    messages: list[Envelope] = []
    bodies: dict[int, bytes] = {}
    sent: set[int] = set()

    def take() -> None:
        taken = site.take(EVENTS)
        messages.extend(taken)
        sent.update(message.body["number"] for message in taken)
        for row in rows(site, taken):
            assert row.number is not None
            assert row.body is not None
            assert bodies.setdefault(row.number, row.body) == row.body

    for action, code, count in history:
        if action == "put":
            site.put(code, name=f"name {count}")
            items[code] = f"name {count}"
        elif action == "delete" and code in items:
            site.delete(code)
            del items[code]
        elif action == "publish":
            site.run(relay, Relay(window=count))
            take()
        elif action == "fail":
            site.ports[Queues] = Unreliable(site, takes=count)
            with suppress(TemporaryFailure):
                site.run(relay, Relay())
            site.ports[Queues] = site.queues
            take()
        elif action == "handle":
            handle(site, messages[:count])
            del messages[:count]
        elif action == "wait":
            site.pass_time(count * MINUTE)
    site.run(relay, Relay())
    site.pass_time(60 * MINUTE)
    site.run(relay, Relay())
    take()

    events = feed(site)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert sent == set(range(1, len(events) + 1))
    known: dict[str, str] = {}
    for event in events:
        code = event["data"]["code"]
        assert (event["type"] == "item.created") == (code not in known)
        if event["type"] == "item.deleted":
            del known[code]
        else:
            known[code] = event["data"]["item"]["name"]["en"]
    assert known == items


class TestWaking:
    def test_who_has_work_is_taken_once(self, site: Embedded) -> None:
        for code in (BETA, ALPHA):
            site.run(wake, Wake(administration=code, at=NOON), None)
        assert site.run(take_due, TakeDue(), None) == [ALPHA, BETA]
        assert site.run(take_due, TakeDue(), None) == []

    def test_the_earlier_moment_counts(self, site: Embedded) -> None:
        for minutes in (5, 2, 9):
            site.run(wake, Wake(administration=ALPHA, at=NOON + minutes * MINUTE), None)
        assert site.run(take_due, TakeDue(), None) == []
        site.pass_time(2 * MINUTE)
        assert site.run(take_due, TakeDue(), None) == [ALPHA]
        site.pass_time(60 * MINUTE)
        assert site.run(take_due, TakeDue(), None) == []
