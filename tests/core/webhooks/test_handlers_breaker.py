"""The breaker: after ten failures in a row one delivery probes and the others wait without using attempts; when a probe
succeeds they drain in order. And whatever happens, nothing ever stays where it is."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ordersync_core.messaging.envelope import Envelope
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND
from ordersync_core.webhooks.commands import (
    Backlog,
    DisableWebhook,
    EnableWebhook,
    GiveUpDelivery,
    Redeliver,
    Replay,
)
from ordersync_core.webhooks.handlers.again import redeliver
from ordersync_core.webhooks.handlers.attempts import give_up_delivery
from ordersync_core.webhooks.handlers.subscriptions import disable_webhook, enable_webhook
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import Delivery, DeliveryState, Webhook, WebhookState
from ordersync_core.webhooks.ports import WebhookRequest
from ordersync_core.webhooks.retry import RETRY_DELAYS
from tests.core.embedded import sqlite_databases
from tests.core.webhooks.subscriber import Subscriber

DELIVERED, DEAD, WAITING, PARKED = (
    DeliveryState.DELIVERED,
    DeliveryState.DEAD,
    DeliveryState.WAITING,
    DeliveryState.PARKED,
)


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subscriber]:
    if request.param == "memory":
        yield Subscriber()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Subscriber(databases)


def owing(site: Subscriber, webhook: Webhook) -> list[int]:
    """The positions that owe a ticket, now or later."""
    return [d.position for d in site.deliveries(webhook) if d.ticket_at is not None]


def positions(requests: list[WebhookRequest]) -> list[int]:
    return [int(request.headers["X-Webhook-Position"]) for request in requests]


class TestOpening:
    def test_nine_failures_in_a_row_leave_it_closed_and_the_tenth_opens_it(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(9)
        assert not site.webhook(webhook.id).health.is_open
        assert owing(site, webhook) == list(range(1, 10))
        site.fail_in_a_row(1)
        assert site.webhook(webhook.id).health.open_since == NOON
        assert owing(site, webhook) == [1]

    def test_a_success_among_them_keeps_it_closed(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(12)
        requests = site.requests()
        late = [
            site.answer(request, 200 if place == 6 else 500, ended_at=NOON + place * SECOND)
            for place, request in enumerate(requests)
        ]
        site.record(*late)
        assert site.webhook(webhook.id).health == Health(failures_in_row=5, failing_since=NOON + 7 * SECOND)

    def test_the_failures_of_one_webhook_are_not_those_of_another(self, site: Subscriber) -> None:
        webhook, other = site.subscribe(), site.subscribe()
        site.deliver(10)
        for request in site.requests():
            site.record(site.answer(request, 500 if request.webhook_id == webhook.id else 200))
        assert site.webhook(webhook.id).health.is_open
        assert site.webhook(other.id).health == Health()
        assert site.states(other) == [DELIVERED] * 10

    def test_the_others_wait_without_using_attempts(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        for _ in range(9):
            site.wait_for_ticket(site.deliveries(webhook)[0])
            assert positions(site.requests()) == [1]
            site.pass_time(2 * MINUTE)
        assert [d.attempts for d in site.deliveries(webhook)] == [1] * 10

    def test_an_answer_that_was_under_way_brings_no_second_probe(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(12)
        requests = site.requests()
        site.record(*(site.answer(request, 500) for request in requests[:10]))
        site.record(*(site.answer(request, 500) for request in requests[10:]))
        assert owing(site, webhook) == [1]
        assert [d.attempts for d in site.deliveries(webhook)] == [1] * 12

    def test_an_answer_that_was_under_way_may_close_it(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(11)
        requests = site.requests()
        site.record(*(site.answer(request, 500) for request in requests[:10]))
        site.record(site.answer(requests[10], 200))
        assert site.webhook(webhook.id).health == Health(recovering=True)
        assert owing(site, webhook) == [1, 2, 3]
        assert positions(site.requests()) == [2, 3]


class TestProbing:
    def test_goes_on_at_the_schedule_s_steps(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        failed_at = site.clock.now()
        for step in RETRY_DELAYS[:8]:
            probe = site.deliveries(webhook)[0]
            assert probe.ticket_at is not None
            assert step <= probe.ticket_at - failed_at <= step + min(step / 10, 10 * MINUTE)
            site.wait_for_ticket(probe)
            assert len(site.attempt(500)) == 1
            failed_at = site.clock.now()
        assert [d.attempts for d in site.deliveries(webhook)] == [9] + [1] * 9
        assert site.webhook(webhook.id).health.open_since == NOON

    def test_what_is_new_waits_behind_it(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)

        site.deliver(3)

        assert [(d.position, d.ticket_at, d.tickets) for d in site.deliveries(webhook)[10:]] == [
            (11, None, 0),
            (12, None, 0),
            (13, None, 0),
        ]
        assert site.requests() == []
        assert owing(site, webhook) == [1]

    @pytest.mark.parametrize("status", [413, 500])
    def test_the_next_one_takes_over_when_it_dies(self, site: Subscriber, status: int) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        while site.deliveries(webhook)[0].state is WAITING:
            site.wait_for_ticket(site.deliveries(webhook)[0])
            [recorded] = site.attempt(status)
        assert recorded.dead is not None
        assert owing(site, webhook) == [2]
        check_that_it_probes_after_a_step(site, webhook)

    def test_the_next_one_takes_over_when_it_is_given_up(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        probe = site.deliveries(webhook)[0]
        site.run(give_up_delivery, GiveUpDelivery(id=probe.id, attempt=2, reason="KilledItsProcess"))
        assert owing(site, webhook) == [2]
        check_that_it_probes_after_a_step(site, webhook)

    def test_the_next_one_takes_over_at_a_step_of_its_own_schedule(self, site: Subscriber) -> None:
        """Not at the moment that it had before it was held back, and not at once."""
        webhook = site.subscribe()
        site.deliver(2)
        for step in range(3):
            site.attempt(500)
            site.pass_time(RETRY_DELAYS[step] + 2 * MINUTE)
        site.deliver(4)
        site.attempt(500)
        assert [d.attempts for d in site.deliveries(webhook)[:2]] == [4, 4]
        assert owing(site, webhook) == [1]
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(413)
        check_that_it_probes_after_a_step(site, webhook, RETRY_DELAYS[3])

    def test_one_that_was_never_attempted_takes_over_at_the_first_step(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(10)
        requests = site.requests()
        site.record(*(site.answer(request, 413) for request in requests[:9]))
        site.fail_in_a_row(1)
        site.deliver()
        site.record(site.answer(requests[9], 413))
        site.wait_for_ticket(site.deliveries(webhook)[10])
        site.attempt(413)
        assert owing(site, webhook) == [12]
        check_that_it_probes_after_a_step(site, webhook)

    def test_the_first_new_one_takes_over_when_nobody_waits(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(10)
        site.attempt(413)
        assert site.webhook(webhook.id).health.is_open
        assert site.states(webhook) == [DEAD] * 10
        site.deliver(2)
        assert owing(site, webhook) == [11]
        assert positions(site.requests()) == [11]

    def test_one_that_is_sent_again_by_a_person_waits_its_turn(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        fifth = site.deliveries(webhook)[4]
        site.run(redeliver, Redeliver(id=fifth.id))
        assert site.requests() == []
        assert owing(site, webhook) == [1]
        assert site.delivery(fifth.id).attempts == 1

    def test_an_earlier_one_that_is_sent_again_probes_instead(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(200)
        site.fail_in_a_row(10)
        assert owing(site, webhook) == [2]
        site.run(redeliver, Redeliver(id=site.deliveries(webhook)[0].id))
        assert positions(site.requests()) == [1]
        site.wait_for_ticket(site.deliveries(webhook)[1])
        assert site.requests() == []
        assert owing(site, webhook) == [1]


class TestDraining:
    def test_lets_in_twice_as_many_in_order_with_each_success(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.deliver(25)
        site.wait_for_ticket(site.deliveries(webhook)[0])
        waves = []
        while requests := site.requests():
            waves.append(positions(requests))
            site.record(*(site.answer(request) for request in requests))
        first = 1
        for wave, size in zip(waves, (1, 2, 4, 8, 16, 4), strict=True):
            assert wave == list(range(first, first + size))
            first += size
        assert site.states(webhook) == [DELIVERED] * 35
        assert site.webhook(webhook.id).health == Health()

    def test_lets_in_retries_that_were_held_back(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(9)
        site.deliver()
        [probe] = site.requests()
        site.record(site.answer(probe, 500))
        assert owing(site, webhook) == [1]
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(200)
        assert positions(site.requests()) == [2, 3]

    @pytest.mark.parametrize("status", [200, 413])
    def test_leaves_a_retry_its_own_moment(self, site: Subscriber, status: int) -> None:
        """P6: no attempt comes earlier than the schedule says; only what the breaker held back is let in."""
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(200)
        two, three = site.requests()
        site.record(site.answer(two, 500))
        retry = site.delivery(two.delivery_id)
        site.record(site.answer(three, status))
        assert positions(site.requests()) == [4, 5]
        assert site.delivery(retry.id) == retry

    def test_goes_on_after_a_failure_between(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(200)
        two, three = site.requests()
        site.record(site.answer(two, 500), site.answer(three, 500))
        assert site.requests() == []
        while owed := [d for d in waiting(site, webhook) if d.ticket_at is not None]:
            site.wait_for_ticket(min(owed, key=due))
            site.attempt(200)
        assert site.states(webhook) == [DELIVERED] * 10
        assert not site.webhook(webhook.id).health.recovering

    def test_goes_on_when_what_was_let_in_dies(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(200)
        site.attempt(413)
        assert positions(site.requests()) == [4, 5, 6, 7]

    def test_goes_on_when_what_was_let_in_is_given_up(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(200)
        for request in site.requests():
            command = GiveUpDelivery(id=request.delivery_id, attempt=request.attempt, reason="KilledItsProcess")
            site.run(give_up_delivery, command)
        assert positions(site.requests()) == [4, 5, 6, 7]

    def test_ten_failures_while_it_drains_open_it_again(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.deliver(15)
        site.wait_for_ticket(site.deliveries(webhook)[0])
        for _ in range(3):
            site.attempt(200)
        assert len(site.attempt(500)) == 8
        assert site.webhook(webhook.id).health.recovering
        assert owing(site, webhook) == list(range(8, 16))

        site.pass_time(2 * MINUTE)
        site.attempt(500)

        health = site.webhook(webhook.id).health
        assert (health.is_open, health.recovering) == (True, False)
        assert owing(site, webhook) == [8]


def check_that_it_probes_after_a_step(site: Subscriber, webhook: Webhook, step: timedelta = RETRY_DELAYS[0]) -> None:
    """Whoever owes a ticket while the breaker is open."""
    [probe] = [d for d in site.deliveries(webhook) if d.ticket_at is not None]
    assert probe.ticket_at is not None
    assert step <= probe.ticket_at - site.clock.now() <= step * 1.1
    assert site.requests() == []
    site.wait_for_ticket(probe)
    assert positions(site.requests()) == [probe.position]


def waiting(site: Subscriber, webhook: Webhook) -> list[Delivery]:
    return [d for d in site.deliveries(webhook) if d.state is WAITING]


def due(delivery: Delivery) -> datetime:
    return delivery.ticket_at or datetime.max.replace(tzinfo=NOON.tzinfo)


def test_disabling_parks_the_probe_and_those_held_back(site: Subscriber) -> None:
    webhook = site.subscribe()
    site.fail_in_a_row(10)
    site.run(disable_webhook, DisableWebhook(id=webhook.id))
    assert site.states(webhook) == [PARKED] * 10
    site.run(enable_webhook, EnableWebhook(id=webhook.id))
    site.attempt(200)
    assert site.states(webhook) == [DELIVERED] * 10


WINDOW = 6
MOODS: dict[str, tuple[int | None, ...]] = {
    "well": (200,),
    "away": (503, None),
    "moody": (200, 500, 500),
    "picky": (200, 413),
    "gone": (200, 500, 500, 500, 500, 410),
}
ACTIONS = {
    "tell": 4,
    "send": 6,
    "answer well": 1,
    "answer away": 6,
    "answer moody": 2,
    "answer picky": 1,
    "answer gone": 1,
    "all well": 2,
    "all away": 8,
    "all moody": 2,
    "all picky": 1,
    "wait": 4,
    "lose tickets": 1,
    "lose requests": 1,
    "send again": 2,
    "give up": 2,
    "disable": 1,
    "enable": 2,
    "replay": 1,
}
"""What may happen, and how often compared with the others."""

actions = st.tuples(
    st.sampled_from([name for name, often in ACTIONS.items() for _ in range(often)]), st.integers(0, 99)
)


class History:
    """People, receivers, lost messages and time do what they like to two webhooks."""

    def __init__(self) -> None:
        self.site = Subscriber()
        self.subscribed = self.site.subscribe(), self.site.subscribe("item.created")
        self.in_flight: list[WebhookRequest] = []
        self.not_before: dict[UUID, datetime] = {}
        self.let_in: set[UUID] = set()
        self.held_back: set[UUID] = set()

    def act(self, name: str, number: int) -> None:
        action, _, mood = name.partition(" ") if name.startswith(("answer ", "all ")) else (name, "", "")
        match action:
            case "tell":
                if self.site.told < 24:
                    self.site.fan_out(self.site.tell(1 + number % 6), window=WINDOW)
            case "send":
                self.site.send_owed(window=WINDOW)
                self.take_up(self.site.tickets()[: 1 + number % 8])
            case "answer":
                count = 1 + number % 8
                answered, self.in_flight = self.in_flight[:count], self.in_flight[count:]
                self.record(answered, MOODS[mood], Random(number))
            case "all":
                self.go_on(MOODS[mood], Random(number))
            case "wait":
                self.site.pass_time((1, 6, 40, 800)[number % 4] * MINUTE)
            case "lose tickets":
                self.site.send_owed(window=WINDOW)
                self.site.tickets()
            case "lose requests":  # their process dies
                self.in_flight = []
            case _:
                self.intervene(action, number)

    def intervene(self, action: str, number: int) -> None:
        """What people do, and the platform when it gives up."""
        site = self.site
        webhook = self.webhooks[number % 2]
        deliveries = site.deliveries(webhook)
        if action == "disable":
            site.run(disable_webhook, DisableWebhook(id=webhook.id))
        elif action == "enable":
            self.let_in |= {d.id for d in deliveries if d.state is PARKED}
            backlog = list(Backlog)[number // 2 % 2]
            site.run(enable_webhook, EnableWebhook(id=webhook.id, backlog=backlog))
        elif webhook.state is WebhookState.ENABLED and deliveries:
            delivery = deliveries[number // 2 % len(deliveries)]
            if action == "send again":
                self.let_in.add(delivery.id)
                site.run(redeliver, Redeliver(id=delivery.id))
            elif action == "give up":
                command = GiveUpDelivery(id=delivery.id, attempt=delivery.attempts + 1, reason="KilledItsProcess")
                site.run(give_up_delivery, command)
                self.note_who_is_let_in()
            elif action == "replay" and len(deliveries) < 30:
                site.replay(Replay(webhook_id=webhook.id, after_number=site.told - number % 3))

    def take_up(self, tickets: list[Envelope]) -> None:
        """The messages become requests: never too many of a round, never too early."""
        before = {d.id: d for d in self.deliveries}
        for request in self.site.prepare(tickets):
            delivery = before[request.delivery_id]
            assert request.attempt == delivery.attempts + 1
            assert request.attempt - delivery.earlier_attempts <= 16
            if delivery.id not in self.let_in:
                assert self.site.clock.now() >= self.not_before.get(delivery.id, NOON)
            self.in_flight.append(request)

    def record(self, requests: list[WebhookRequest], mood: tuple[int | None, ...], chance: Random) -> None:
        answers = [self.site.answer(request, chance.choice(mood)) for request in requests]
        before = {d.id: d for d in self.deliveries}
        answered = {request.delivery_id: request.attempt for request in requests}
        given_up = {r.delivery_id for r in self.site.record(*answers) if r.dead is not None}
        for delivery in self.deliveries:
            made = delivery.attempts - before[delivery.id].attempts
            assert made in (0, 1)
            died_with_it = delivery.state is DEAD and answered.get(delivery.id, 0) - delivery.attempts in (0, 1)
            assert (delivery.id in given_up) == (delivery.id in answered and died_with_it)
            if made and delivery.state is WAITING:
                step = RETRY_DELAYS[delivery.attempts - delivery.earlier_attempts - 1]
                self.not_before[delivery.id] = self.site.clock.now() + step
                self.let_in.discard(delivery.id)
        self.note_who_is_let_in()

    def note_who_is_let_in(self) -> None:
        """Those that the breaker held back need not wait for their time any more once it has closed."""
        for webhook in self.webhooks:
            if not webhook.health.is_open:
                self.let_in |= {d.id for d in waiting(self.site, webhook) if d.id in self.held_back}
        self.held_back = {d.id for d in self.deliveries if d.state is WAITING and d.ticket_at is None}

    def go_on(self, mood: tuple[int | None, ...], chance: Random) -> bool:
        """Time goes on to the next ticket that is owed, and the receivers answer all there is; False: there is none."""
        owed = [d.ticket_at for d in self.deliveries if d.ticket_at is not None]
        if not owed:
            return False
        now = self.site.clock.now()
        if min(owed) > now or not self.in_flight:
            self.site.pass_time(min((moment for moment in owed if moment > now), default=now) - now)
        self.site.send_owed(window=WINDOW)
        self.take_up(self.site.tickets())
        answered, self.in_flight = self.in_flight, []
        self.record(answered, mood, chance)
        self.check_that_something_will_move_each_delivery()
        return True

    @property
    def webhooks(self) -> list[Webhook]:
        return [self.site.webhook(webhook.id) for webhook in self.subscribed]

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for webhook in self.subscribed for delivery in self.site.deliveries(webhook)]

    # what always holds

    def check(self) -> None:
        self.check_that_something_will_move_each_delivery()
        for webhook in self.subscribed:
            deliveries = self.site.deliveries(webhook)
            assert [d.position for d in deliveries] == list(range(1, len(deliveries) + 1))
            assert sum(d.tickets > 0 for d in deliveries if d.state is WAITING) <= WINDOW
        for delivery in self.deliveries:
            numbers = [attempt.number for attempt in self.site.attempts(delivery.id)]
            assert numbers == list(range(1, delivery.attempts + 1))

    def check_that_something_will_move_each_delivery(self) -> None:
        for webhook in self.webhooks:
            wait = waiting(self.site, webhook)
            owed = [d.position for d in wait if d.ticket_at is not None]
            if webhook.state is WebhookState.DISABLED:
                assert wait == []
            elif wait and webhook.health.is_open:
                assert wait[0].position in owed, "nobody probes"
            elif wait and webhook.health.recovering:
                assert owed, "nobody is let in"
            else:
                assert len(owed) == len(wait), "somebody was forgotten"


class TestOldTickets:
    """Those of deliveries that were held back since lie in the queue still."""

    def test_one_that_is_not_let_in_yet_is_not_sent_by_it(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(20)
        tickets = site.tickets()
        site.record(*(site.answer(request, 500) for request in site.prepare(tickets[:10])))
        site.wait_for_ticket(site.deliveries(webhook)[0])
        site.attempt(200)
        held = [d.position for d in waiting(site, webhook) if d.ticket_at is None]
        assert held
        assert not set(positions(site.prepare(tickets[10:]))) & set(held)

    def test_one_that_probes_next_is_not_sent_before_its_moment(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(11)
        tickets = site.tickets()
        requests = site.prepare(tickets[:10])
        site.record(*(site.answer(request, 500) for request in requests[:9]), site.answer(requests[9], 413))
        while (first := waiting(site, webhook)[0]).position < 11:
            site.wait_for_ticket(first)
            site.attempt(413)
        assert first.ticket_at is not None
        assert first.ticket_at > site.clock.now()
        assert site.prepare(tickets[10:]) == []


@settings(  # without shrinking: each history takes so long that a failure would not be told in time
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(history=st.lists(actions, min_size=10, max_size=60), mood=st.sampled_from(sorted(MOODS)))
def test_whatever_happens_every_delivery_comes_to_its_end(history: list[tuple[str, int]], mood: str) -> None:
    """Delivered, dead, parked or cancelled; after at most 16 attempts a round, none of them before its time."""
    happened = History()
    for action, number in [("tell", 5), *history]:
        happened.act(action, number)
        happened.check()
    chance = Random(len(history))
    while happened.go_on(MOODS[mood], chance):
        pass
    happened.check()
    ended = (DELIVERED, DEAD, PARKED, DeliveryState.CANCELLED)
    assert all(delivery.state in ended for delivery in happened.deliveries)
