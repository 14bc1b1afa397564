"""Sending again: one delivery, a dead letter, or all since a number."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import ChangedMeanwhile, Conflict, NotFound
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.databases import BETA, PATIENCE, open_tenant
from ordersync_core.testing.contracts.examples import MINUTE, new_id
from ordersync_core.webhooks.commands import DisableWebhook, Redeliver, Replay, ResubmitDelivery, RotateSecret
from ordersync_core.webhooks.handlers import again
from ordersync_core.webhooks.handlers.again import redeliver, resubmit_delivery
from ordersync_core.webhooks.handlers.subscriptions import disable_webhook, rotate_secret
from ordersync_core.webhooks.model import Delivery, DeliveryState, Webhook
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


def exhaust(site: Subscriber, webhook: Webhook) -> Delivery:
    """Attempt after attempt of the webhook's only delivery fails until it is dead."""
    while site.only(webhook).state is WAITING:
        site.wait_for_ticket(site.only(webhook))
        site.attempt(500)
    assert site.only(webhook).state is DEAD
    return site.only(webhook)


class TestRedeliver:
    def test_sends_a_delivered_one_again_at_its_place_under_its_id(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [first] = site.requests()
        site.record(site.answer(first))

        again = site.run(redeliver, Redeliver(id=first.delivery_id))

        assert again == site.only(webhook)
        assert (again.state, again.finished_at, again.position) == (WAITING, None, 1)
        [second] = site.requests()
        assert second.attempt == 2
        assert second.body == first.body
        for name in ("webhook-id", "X-Webhook-Position", "X-Event-Id"):
            assert second.headers[name] == first.headers[name]
        site.record(site.answer(second))
        assert site.only(webhook).state is DELIVERED
        assert len(site.attempts(first.delivery_id)) == 2

    def test_has_sixteen_attempts_of_its_own(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        dead = exhaust(site, webhook)
        site.run(redeliver, Redeliver(id=dead.id))
        site.attempt(500)
        assert site.only(webhook).ticket_at is not None
        site.pass_time(2 * MINUTE)
        assert site.only(webhook).ticket_at < site.clock.now()  # type: ignore[operator]
        assert exhaust(site, webhook).attempts == 32

    def test_signs_with_what_holds_now(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(200)
        site.run(rotate_secret, RotateSecret(id=webhook.id))
        site.run(redeliver, Redeliver(id=site.only(webhook).id))
        [request] = site.requests()
        assert request.headers["webhook-signature"].count("v1,") == 2

    def test_pulls_a_retry_forward(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(500)
        assert site.requests() == []
        site.run(redeliver, Redeliver(id=site.only(webhook).id))
        [request] = site.requests()
        assert request.attempt == 2

    def test_leaves_one_alone_whose_ticket_is_out(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        before = site.only(webhook)
        assert site.run(redeliver, Redeliver(id=before.id)) == before
        assert len(site.requests()) == 1

    def test_is_refused_while_the_webhook_is_disabled(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        with pytest.raises(Conflict, match="is disabled: enable it first"):
            site.run(redeliver, Redeliver(id=site.only(webhook).id))
        assert site.states(webhook) == [PARKED]

    def test_there_is_no_unknown_one_and_none_of_another_tenant(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        with pytest.raises(NotFound):
            site.run(redeliver, Redeliver(id=new_id()))
        with pytest.raises(NotFound):
            site.run(redeliver, Redeliver(id=site.only(webhook).id), BETA)


class TestResubmit:
    def test_a_dead_one_tries_again_from_its_first_attempt(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        dead = exhaust(site, webhook)

        site.run(resubmit_delivery, ResubmitDelivery(id=dead.id))

        again = site.only(webhook)
        assert (again.state, again.earlier_attempts, again.first_attempt_at) == (WAITING, 16, None)
        assert (again.reason, again.finished_at, again.ticket_at) == (None, None, site.clock.now())
        [request] = site.requests()
        assert request.attempt == 17
        site.record(site.answer(request))
        assert site.states(webhook) == [DELIVERED]

    def test_one_that_is_not_dead_any_more_stays_as_it_is(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        one, _ = site.requests()
        site.record(site.answer(one))
        before = site.deliveries(webhook)
        for delivery in before:
            site.run(resubmit_delivery, ResubmitDelivery(id=delivery.id))
        site.run(resubmit_delivery, ResubmitDelivery(id=new_id()))
        assert site.deliveries(webhook) == before

    def test_twice_is_once(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(413)
        for _ in range(2):
            site.run(resubmit_delivery, ResubmitDelivery(id=site.only(webhook).id))
        assert len(site.requests()) == 1

    def test_is_refused_while_the_webhook_is_disabled(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(413)
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        with pytest.raises(Conflict, match="is disabled: enable it first"):
            site.run(resubmit_delivery, ResubmitDelivery(id=site.only(webhook).id))
        assert site.states(webhook) == [DEAD]

    def test_a_parked_one_is_none_of_its_business(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(resubmit_delivery, ResubmitDelivery(id=site.only(webhook).id))
        assert site.states(webhook) == [PARKED]


def test_a_resubmission_waits_for_who_holds_the_webhook_and_stands_in_nobody_s_way() -> None:
    """A transaction locks webhooks before deliveries; else this one and a recording would wait for each other."""
    site = Subscriber()
    webhook = site.subscribe()
    site.deliver()
    site.attempt(413)
    delivery = site.only(webhook)
    begun = threading.Event()

    def resubmit() -> None:
        begun.set()
        site.run(resubmit_delivery, ResubmitDelivery(id=delivery.id))

    with ThreadPoolExecutor(1) as pool:
        with open_tenant(site.databases) as recording:
            recording.webhooks.of_deliveries([delivery.id])
            resubmitting = pool.submit(resubmit)
            assert begun.wait(PATIENCE)
            wait_until_blocked(site)
            assert recording.deliveries.get([delivery.id])[delivery.id].state is DEAD
            recording.commit()
        resubmitting.result(PATIENCE)
    assert site.states(webhook) == [WAITING]


def wait_until_blocked(site: Subscriber) -> None:
    """Until somebody waits for a lock."""
    locks = site.databases.locks
    for _ in range(10_000):
        if locks._awaited:
            return
        threading.Event().wait(0.001)
    raise AssertionError("nobody waits for a lock")


class Interrupted:
    """A clock at whose `at_call`th look something else happens."""

    def __init__(self, clock: ManualClock, *, at_call: int, by: Callable[[], None]) -> None:
        self._clock = clock
        self._calls_left = at_call
        self._by = by

    def now(self) -> datetime:
        self._calls_left -= 1
        if self._calls_left == 0:
            self._by()
        return self._clock.now()


class TestReplay:
    def test_delivers_what_the_webhook_takes_at_new_positions(self, site: Subscriber) -> None:
        webhook = site.subscribe("item.created", "item.deleted")
        site.deliver(3)
        site.attempt(200)
        site.put("I-0001", name="another name")
        site.delete("I-0002")
        site.fan_out(site.numbered())
        site.attempt(200)

        assert site.replay(Replay(webhook_id=webhook.id, after_number=1)) == 3

        deliveries = site.deliveries(webhook)
        assert [(d.position, d.event_number) for d in deliveries] == [
            (1, 1),
            (2, 2),
            (3, 3),
            (4, 5),
            (5, 2),
            (6, 3),
            (7, 5),
        ]
        assert site.webhook(webhook.id).last_position == 7
        requests = site.requests()
        assert [request.headers["X-Webhook-Position"] for request in requests] == ["5", "6", "7"]
        assert [request.headers["webhook-id"] for request in requests] == [str(d.event_id) for d in deliveries[4:]]
        site.record(*(site.answer(request) for request in requests))
        site.deliver()
        assert site.deliveries(webhook)[-1].position == 8

    def test_twice_delivers_twice(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        for _ in range(2):
            assert site.replay(Replay(webhook_id=webhook.id, after_number=0)) == 2
        assert [d.position for d in site.deliveries(webhook)] == [1, 2, 3, 4, 5, 6]

    def test_goes_by_the_window(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(7)
        site.attempt(200)
        site.replay(Replay(webhook_id=webhook.id, after_number=0))
        assert site.tickets() == []
        assert site.send_owed(window=5) == 5

    def test_of_nothing_is_nothing(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        assert site.replay(Replay(webhook_id=webhook.id, after_number=0)) == 0
        site.deliver(2)
        assert site.replay(Replay(webhook_id=webhook.id, after_number=2)) == 0
        assert len(site.deliveries(webhook)) == 2

    def test_takes_more_than_one_transaction_can_hold(self) -> None:
        site = Subscriber()
        webhook = site.subscribe("item.deleted")
        site.deliver(1_001)
        webhook = site.subscribe()
        assert site.replay(Replay(webhook_id=webhook.id, after_number=0)) == 1_001
        assert site.webhook(webhook.id).last_position == 1_001

    def test_leaves_what_is_numbered_meanwhile_to_fan_out(
        self, site: Subscriber, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(again, "REPLAY_BATCH", 2)
        webhook = site.subscribe()
        site.deliver(3)
        site.ports[Clock] = Interrupted(site.clock, at_call=2, by=lambda: site.deliver(2))

        assert site.replay(Replay(webhook_id=webhook.id, after_number=0)) == 3

        delivered = [(d.position, d.event_number) for d in site.deliveries(webhook)]
        assert delivered == [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2), (6, 4), (7, 5), (8, 3)]

    def test_leaves_to_fan_out_what_still_waits_for_it(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        waiting = site.tell(2)

        assert site.replay(Replay(webhook_id=webhook.id, after_number=0)) == 2
        site.fan_out(waiting)

        assert [d.event_number for d in site.deliveries(webhook)] == [1, 2, 1, 2, 3, 4]

    def test_a_batch_that_is_repeated_repeats_none_of_those_before_it(
        self, site: Subscriber, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(again, "REPLAY_BATCH", 2)
        webhook = site.subscribe()
        site.deliver(5)

        def changed() -> None:
            raise ChangedMeanwhile("another transaction came first")

        site.ports[Clock] = Interrupted(site.clock, at_call=2, by=changed)

        assert site.replay(Replay(webhook_id=webhook.id, after_number=0)) == 5
        assert [d.event_number for d in site.deliveries(webhook)] == [1, 2, 3, 4, 5] * 2

    def test_waits_behind_an_open_breaker(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.replay(Replay(webhook_id=webhook.id, after_number=0))
        assert [d.ticket_at is not None for d in site.deliveries(webhook)] == [True] + [False] * 19

    def test_is_refused_while_the_webhook_is_disabled_and_for_an_unknown_one(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        with pytest.raises(Conflict, match="is disabled: enable it first"):
            site.replay(Replay(webhook_id=webhook.id, after_number=0))
        with pytest.raises(NotFound):
            site.replay(Replay(webhook_id=new_id(), after_number=0))
        with pytest.raises(NotFound):
            site.replay(Replay(webhook_id=webhook.id, after_number=0), BETA)
        assert len(site.deliveries(webhook)) == 1
