"""From numbered events to deliveries, and which of them may have a ticket in the queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.messaging.commands import OweEventsAgain
from ordersync_core.messaging.envelope import EVENTS, WEBHOOKS, decode_envelope
from ordersync_core.messaging.handlers import owe_events_again
from ordersync_core.messaging.queue import Queues
from ordersync_core.testing.contracts.databases import BETA
from ordersync_core.testing.contracts.examples import MINUTE, NOON, a_webhook
from ordersync_core.testing.strategies import event_type_patterns, event_types
from ordersync_core.webhooks.commands import DisableWebhook, FanOut, Redeliver
from ordersync_core.webhooks.handlers.again import redeliver
from ordersync_core.webhooks.handlers.fan_out import fan_out
from ordersync_core.webhooks.handlers.subscriptions import disable_webhook
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import DeliveryState, Event, EventTypePattern, deliveries_of
from tests.core.embedded import ConsumedAtOnce, sqlite_databases
from tests.core.webhooks.subscriber import Subscriber


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subscriber]:
    if request.param == "memory":
        yield Subscriber()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Subscriber(databases)


class TestPattern:
    @pytest.mark.parametrize(
        ("pattern", "event_type", "selected"),
        [
            ("*", "item.created", True),
            ("item.*", "item.created", True),
            ("item.*", "item.stock.changed", True),
            ("item.*", "items.created", False),
            ("item.*", "item", False),
            ("item.created", "item.created", True),
            ("item.created", "item.created.twice", False),
            ("item.created", "item.updated", False),
        ],
    )
    def test_selects(self, pattern: str, event_type: str, selected: bool) -> None:
        assert EventTypePattern(pattern).selects(event_type) is selected

    @pytest.mark.parametrize("pattern", ["", "item.", ".created", "Item.created", "*.created", "item.*.x", "item. *"])
    def test_refuses_what_is_none(self, pattern: str) -> None:
        with pytest.raises(ValueError, match="is not an event type such as"):
            EventTypePattern(pattern)


@given(
    types=st.lists(event_types(), max_size=20),
    patterns=st.lists(event_type_patterns(), min_size=1, max_size=3),
    last_position=st.integers(0, 1000),
    room=st.integers(-5, 25),
)
def test_positions_go_on_without_a_gap_and_room_is_given_to_the_first(
    types: list[str], patterns: list[EventTypePattern], last_position: int, room: int
) -> None:
    webhook = a_webhook(event_types=tuple(patterns), last_position=last_position)
    events = [Event(id=webhook.id, number=number, type=type) for number, type in enumerate(types, start=1)]
    moved, deliveries = deliveries_of(
        webhook, events, room=room, at=NOON, first_ticket_at=NOON + MINUTE, reason="fan_out"
    )
    taken = [event for event in events if any(pattern.selects(event.type) for pattern in patterns)]
    assert [(d.event_number, d.event_type) for d in deliveries] == [(e.number, e.type) for e in taken]
    assert [d.position for d in deliveries] == list(range(last_position + 1, moved.last_position + 1))
    sent = max(0, min(room, len(taken)))
    assert [(d.tickets, d.ticket_at) for d in deliveries] == [(1, NOON + MINUTE)] * sent + [(0, NOON)] * (
        len(taken) - sent
    )


def test_behind_an_open_breaker_they_wait_without_a_ticket_whatever_room_there_is() -> None:
    webhook = a_webhook(health=Health(failures_in_row=10, failing_since=NOON, open_since=NOON))
    events = [Event(id=webhook.id, number=number, type="item.created") for number in (1, 2)]
    _, deliveries = deliveries_of(webhook, events, room=100, at=NOON, first_ticket_at=NOON + MINUTE, reason="fan_out")
    assert [(d.position, d.tickets, d.ticket_at) for d in deliveries] == [(1, 0, None), (2, 0, None)]


def test_each_webhook_counts_what_it_takes(site: Subscriber) -> None:
    everything, created, deleted = site.subscribe(), site.subscribe("item.created"), site.subscribe("item.deleted")
    first = site.tell(3)
    site.delete("I-0002")
    site.put("I-0001", name="another name")
    second = site.numbered()

    assert site.fan_out(first) == 6
    assert site.fan_out(second) == 3

    assert [(d.position, d.event_type) for d in site.deliveries(everything)] == [
        (1, "item.created"),
        (2, "item.created"),
        (3, "item.created"),
        (4, "item.deleted"),
        (5, "item.updated"),
    ]
    assert [d.position for d in site.deliveries(created)] == [1, 2, 3]
    assert [d.position for d in site.deliveries(deleted)] == [1]
    assert [site.webhook(w.id).last_position for w in (everything, created, deleted)] == [5, 3, 1]


def test_a_repeated_message_creates_and_sends_nothing(site: Subscriber) -> None:
    webhook = site.subscribe()
    messages = site.tell(2)
    assert site.fan_out(messages) == 2
    site.lose(WEBHOOKS)

    assert site.fan_out(messages) == 0
    site.pass_time(90 * 24 * 60 * MINUTE)
    assert site.fan_out(messages[1:]) == 0

    assert [d.position for d in site.deliveries(webhook)] == [1, 2]
    assert site.tickets() == []


def test_of_a_batch_with_a_repetition_only_the_new_ones_count(site: Subscriber) -> None:
    webhook = site.subscribe()
    first, second = site.tell(2)
    site.fan_out([first])
    third = site.tell()

    assert site.fan_out([second, first, *third]) == 2

    assert [(d.position, d.event_number) for d in site.deliveries(webhook)] == [(1, 1), (2, 2), (3, 3)]


def test_messages_in_any_order_give_positions_by_number(site: Subscriber) -> None:
    webhook = site.subscribe()
    messages = site.tell(5)

    site.fan_out(messages[::-1])

    assert [(d.position, d.event_number) for d in site.deliveries(webhook)] == [(n, n) for n in range(1, 6)]


def test_an_event_that_is_resubmitted_after_its_fan_out_is_done_already(site: Subscriber) -> None:
    webhook = site.subscribe()
    [message] = site.tell()
    site.fan_out([message])
    site.run(owe_events_again, OweEventsAgain(ids=(message.id,)))

    assert site.fan_out(site.numbered()) == 0

    assert len(site.deliveries(webhook)) == 1
    site.pass_time(60 * MINUTE)
    assert site.numbered() == []


def test_a_disabled_webhook_gets_nothing_and_counts_nothing(site: Subscriber) -> None:
    off, on = site.subscribe(), site.subscribe()
    site.run(disable_webhook, DisableWebhook(id=off.id))

    site.deliver(2)

    assert site.deliveries(off) == []
    assert site.webhook(off.id).last_position == 0
    assert len(site.deliveries(on)) == 2


def test_a_webhook_that_nobody_asked_for_events_gets_what_comes_later_only(site: Subscriber) -> None:
    site.deliver(2)
    webhook = site.subscribe()
    site.deliver()
    assert [(d.position, d.event_number) for d in site.deliveries(webhook)] == [(1, 3)]


def test_the_tickets_say_which_attempt_and_carry_what_caused_it(site: Subscriber) -> None:
    webhook = site.subscribe()
    site.put("A", triggered_by="auth0|7", correlation_id="request 7", traceparent="00-abc-def-01")
    site.fan_out(site.numbered())

    [ticket] = site.tickets()

    delivery = site.only(webhook)
    assert (ticket.id, ticket.type, ticket.administration) == (delivery.id, "item.created", "alpha")
    assert ticket.body == {"delivery": str(delivery.id), "attempt": 1}
    why = (ticket.triggered_by, ticket.correlation_id, ticket.traceparent)
    assert why == ("auth0|7", "request 7", "00-abc-def-01")


def test_events_count_as_handled_whether_or_not_anybody_takes_them(site: Subscriber) -> None:
    site.subscribe("order.*")
    site.fan_out(site.tell(3))
    site.pass_time(60 * MINUTE)
    assert site.numbered() == []
    assert site.lose(EVENTS) == 0


class TestWindow:
    def test_a_hundred_tickets_are_out_and_the_rest_wait_as_rows(self, site: Subscriber) -> None:
        webhook = site.subscribe()

        site.deliver(130)

        assert [ticket.body["attempt"] for ticket in site.tickets()] == [1] * 100
        deliveries = site.deliveries(webhook)
        assert [d.tickets for d in deliveries] == [1] * 100 + [0] * 30
        assert {d.ticket_at for d in deliveries[:100]} == {NOON + MINUTE}
        assert {d.ticket_at for d in deliveries[100:]} == {NOON}
        assert site.send_owed() == 0

    def test_the_rest_is_let_in_in_order_as_earlier_ones_finish(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(130)
        requests = site.prepare(site.tickets())
        position = {d.id: d.position for d in site.deliveries(webhook)}

        site.record(*(site.answer(request) for request in requests[:7]))
        assert site.send_owed() == 7
        assert [position[t.id] for t in site.tickets()] == [101, 102, 103, 104, 105, 106, 107]
        assert site.send_owed() == 0

        site.record(*(site.answer(request) for request in requests[7:]))
        assert site.send_owed() == 23
        assert [position[t.id] for t in site.tickets()] == list(range(108, 131))

    def test_a_failed_one_makes_room_until_it_is_tried_again(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fan_out(site.tell(7), window=5)
        first, *others = site.tickets()
        assert len(others) == 4
        assert site.send_owed(window=5) == 0

        [request] = site.prepare([first])
        site.record(site.answer(request, 500))

        assert site.send_owed(window=5) == 1
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.send_owed(window=5)
        assert [d.tickets for d in site.deliveries(webhook)] == [0, 2, 2, 2, 2, 1, 0]
        site.record(*(site.answer(request) for request in site.prepare(others)))
        site.send_owed(window=5)
        assert [d.tickets for d in site.deliveries(webhook)] == [1, 0, 0, 0, 0, 1, 1]

    def test_new_ones_find_no_room_where_tickets_are_out(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fan_out(site.tell(3), window=5)
        site.fan_out(site.tell(4), window=5)
        assert [d.tickets for d in site.deliveries(webhook)] == [1] * 5 + [0] * 2

    def test_new_ones_leave_room_for_those_that_waited_before_them(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fan_out(site.tell(7), window=5)
        requests = site.prepare(site.tickets())
        site.record(*(site.answer(request) for request in requests[:3]))

        site.fan_out(site.tell(4), window=5)

        assert [d.tickets for d in site.deliveries(webhook)[3:]] == [1, 1, 0, 0, 1, 0, 0, 0]
        assert site.send_owed(window=5) == 2
        assert [d.tickets for d in site.deliveries(webhook)[3:]] == [1, 1, 1, 1, 1, 0, 0, 0]

    def test_a_stream_that_never_ends_starves_nobody(self, site: Subscriber) -> None:
        """New events come as fast as the receiver takes them, and always before the relay comes by."""
        webhook = site.subscribe()
        site.fan_out(site.tell(15), window=5)
        for _ in range(6):
            site.record(*(site.answer(request) for request in site.prepare(site.tickets())))
            site.fan_out(site.tell(5), window=5)
            site.send_owed(window=5)
        delivered = [d.position for d in site.deliveries(webhook) if d.state is DeliveryState.DELIVERED]
        assert delivered == list(range(1, 31))

    def test_each_webhook_has_a_window_of_its_own(self, site: Subscriber) -> None:
        webhooks = site.subscribe(), site.subscribe()
        site.fan_out(site.tell(3), window=2)
        assert [[d.tickets for d in site.deliveries(w)] for w in webhooks] == [[1, 1, 0], [1, 1, 0]]


class TestLostTickets:
    def test_are_sent_again_after_1_5_and_30_minutes_and_then_every_30(self, site: Subscriber) -> None:
        site.subscribe()
        site.deliver()
        assert sent_after(site) == [0, 1, 6, 36, 66]

    def test_of_those_that_waited_for_room_are_sent_again_too(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fan_out(site.tell(), window=0)
        assert sent_after(site) == [0, 5, 10, 40, 70]
        assert site.only(webhook).state is DeliveryState.WAITING

    def test_that_come_back_after_all_are_attempted_once(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        first = site.tickets()
        site.pass_time(MINUTE)
        site.send_owed()
        [request] = site.prepare(first)
        site.record(site.answer(request))
        assert site.prepare(site.tickets()) == []
        assert site.only(webhook).attempts == 1

    def test_are_not_sent_once_the_outcome_is_there(self, site: Subscriber) -> None:
        site.subscribe()
        site.deliver()
        site.attempt(200)
        site.pass_time(90 * MINUTE)
        assert site.send_owed() == 0


def sent_after(site: Subscriber) -> list[int]:
    """In which minutes of 75 a ticket goes out, where every one is lost."""
    minutes = []
    for minute in range(75):
        site.send_owed()
        if site.lose(WEBHOOKS):
            minutes.append(minute)
        site.pass_time(MINUTE)
    return minutes


def test_a_consumer_that_is_faster_than_the_note_of_its_ticket_is_not_overwritten(site: Subscriber) -> None:
    """The ticket is sent before it is noted: its outcome may be there first."""
    webhook = site.subscribe()
    site.fan_out(site.tell(), window=0)

    def consume() -> None:
        [request] = site.prepare(site.tickets())
        site.record(site.answer(request, 500))

    site.ports[Queues] = ConsumedAtOnce(site.queues, WEBHOOKS, consume)
    assert site.send_owed() == 1

    delivery = site.only(webhook)
    assert (delivery.attempts, delivery.tickets) == (1, 0)
    assert delivery.ticket_at is not None
    assert NOON + MINUTE <= delivery.ticket_at < NOON + 2 * MINUTE


def test_no_two_tickets_look_alike_to_a_broker_that_drops_duplicates(site: Subscriber) -> None:
    """Though a redelivery begins its count of tickets anew."""
    webhook = site.subscribe()
    site.deliver()
    sent: list[str] = []
    for _ in range(3):
        site.pass_time(31 * MINUTE)
        site.run(redeliver, Redeliver(id=site.only(webhook).id))
        site.send_owed()
        [message, *earlier] = site.take_messages(WEBHOOKS)[::-1]
        sent.append(message.send_id)
        site.record(*(site.answer(request) for request in site.prepare([decode_envelope(message.body)])))
        assert message.send_id not in {each.send_id for each in earlier}
    assert len(set(sent)) == 3


def test_one_tenant_s_events_reach_its_own_webhooks_only(site: Subscriber) -> None:
    webhook = site.subscribe()
    site.run(fan_out, FanOut(messages=tuple(site.tell())), BETA)
    assert site.deliveries(webhook) == []
