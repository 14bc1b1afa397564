"""Webhooks, their deliveries and attempts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.contracts.databases import (
    PATIENCE,
    DatabasesContract,
    all_rows,
    hesitate,
    open_tenant,
    queries,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import (
    MINUTE,
    NOON,
    a_delivery,
    a_webhook,
    an_attempt,
    new_id,
)
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, EventTypePattern, Webhook, WebhookState


class WebhooksContract(DatabasesContract):
    def test_a_webhook_comes_back_as_it_was_added(self, databases: Databases) -> None:
        bare = a_webhook()
        full = a_webhook(
            event_types=(EventTypePattern("item.created"), EventTypePattern("*")),
            secrets=(b"\x00\xff new", b"old"),
            state=WebhookState.DISABLED,
            disabled_because="the receiver answered 410 Gone",
            last_position=7,
            health=Health(failures_in_row=11, failing_since=NOON, open_since=NOON + MINUTE, recovering=True),
        )
        add(databases, bare, full)

        for webhook in (bare, full):
            with open_tenant(databases) as uow:
                assert uow.webhooks.find(webhook.id) == webhook
            assert queries(databases).webhook(webhook.id) == webhook

    def test_a_webhook_that_was_never_added_is_not_there(self, databases: Databases) -> None:
        with open_tenant(databases) as uow:
            assert uow.webhooks.find(new_id()) is None
            assert uow.webhooks.enabled() == []
            assert uow.webhooks.of_deliveries([new_id()]) == {}
            assert uow.webhooks.of_deliveries([]) == {}
        assert queries(databases).webhook(new_id()) is None

    def test_adding_it_twice_is_refused(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)

        with pytest.raises(ChangedMeanwhile):
            add(databases, webhook)

    def test_saving_replaces(self, databases: Databases) -> None:
        webhook, other = a_webhook(), a_webhook()
        add(databases, webhook, other)
        changed = evolve(
            webhook,
            url="https://other.example/",
            last_position=3,
            secrets=(b"two", b"one"),
            health=Health(failures_in_row=1, failing_since=NOON),
        )
        with open_tenant(databases) as uow:
            uow.webhooks.save([changed])
            uow.webhooks.save([])
            uow.commit()

        assert queries(databases).webhook(webhook.id) == changed
        assert queries(databases).webhook(other.id) == other

    def test_enabled_ones_come_in_the_order_of_their_ids(self, databases: Databases) -> None:
        webhooks = sorted((a_webhook() for _ in range(4)), key=lambda webhook: webhook.id)
        disabled = a_webhook(state=WebhookState.DISABLED)
        add(databases, *reversed(webhooks), disabled)

        with open_tenant(databases) as uow:
            assert uow.webhooks.enabled() == webhooks

    def test_webhooks_are_found_by_their_deliveries(self, databases: Databases) -> None:
        one, two, three = webhooks = [a_webhook() for _ in range(3)]
        add(databases, *webhooks)
        deliveries = [a_delivery(two, 1), a_delivery(one, 1), a_delivery(one, 2), a_delivery(three, 1)]
        deliver(databases, *deliveries)

        with open_tenant(databases) as uow:
            found = uow.webhooks.of_deliveries([*(delivery.id for delivery in deliveries[:3]), new_id()])
        assert dict(found) == {one.id: one, two.id: two}
        assert list(found) == sorted(found)

    def test_a_deleted_webhook_takes_its_deliveries_along(self, databases: Databases) -> None:
        webhook, other = a_webhook(), a_webhook()
        add(databases, webhook, other)
        gone, kept = a_delivery(webhook), a_delivery(other)
        deliver(databases, gone, kept)
        record(databases, an_attempt(gone), an_attempt(kept))
        with open_tenant(databases) as uow:
            uow.webhooks.delete(webhook.id)
            uow.commit()

        reads = queries(databases)
        assert (reads.webhook(webhook.id), reads.delivery(gone.id)) == (None, None)
        assert reads.deliveries(webhook.id, PageRequest()).rows == []
        assert reads.delivery(kept.id) == (kept, [an_attempt(kept)])

    def test_waiting_deliveries_are_read_with_their_webhooks(self, databases: Databases) -> None:
        first, second = a_webhook(), a_webhook(health=Health(failures_in_row=11, failing_since=NOON, open_since=NOON))
        add(databases, first, second)
        waiting, held = a_delivery(first), a_delivery(second, ticket_at=None)
        done = a_delivery(first, 2, state=DeliveryState.DELIVERED, ticket_at=None, finished_at=NOON)
        parked = a_delivery(second, 2, state=DeliveryState.PARKED, ticket_at=None)
        deliver(databases, waiting, held, done, parked)

        found = queries(databases).waiting([held.id, done.id, waiting.id, parked.id, new_id()])

        assert found == {waiting.id: (waiting, first), held.id: (held, second)}
        assert queries(databases).waiting([]) == {}

    def test_no_position_is_given_twice(self, databases: Databases) -> None:
        """As fan-out does it: lock the webhook, give the next positions, move it on."""
        webhook = a_webhook()
        add(databases, webhook)

        def fan_out() -> None:
            with open_tenant(databases) as uow:
                (locked,) = uow.webhooks.enabled()
                hesitate()
                uow.deliveries.add([a_delivery(locked, locked.last_position + place) for place in (1, 2)])
                uow.webhooks.save([evolve(locked, last_position=locked.last_position + 2)])
                uow.commit()

        together(*[lambda: retried(fan_out)] * 6)

        deliveries = queries(databases).deliveries(webhook.id, PageRequest()).rows
        assert [delivery.position for delivery in deliveries] == list(range(1, 13))
        assert queries(databases).webhook(webhook.id).last_position == 12

    def test_a_webhook_is_locked_however_it_was_found(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        delivery = a_delivery(webhook)
        deliver(databases, delivery)

        def by_id() -> None:
            with open_tenant(databases) as uow:
                count(uow, uow.webhooks.find(webhook.id))

        def by_delivery() -> None:
            with open_tenant(databases) as uow:
                count(uow, uow.webhooks.of_deliveries([delivery.id])[webhook.id])

        def by_state() -> None:
            with open_tenant(databases) as uow:
                count(uow, uow.webhooks.enabled()[0])

        def count(uow: Any, locked: Webhook) -> None:
            hesitate()
            uow.webhooks.save([evolve(locked, last_position=locked.last_position + 1)])
            uow.commit()

        together(*[lambda job=job: retried(job) for job in (by_id, by_delivery, by_state) * 3])

        assert queries(databases).webhook(webhook.id).last_position == 9

    def test_one_that_was_disabled_meanwhile_is_not_enabled(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)

        def enabled() -> list[Webhook]:
            with open_tenant(databases) as uow:
                found: list[Webhook] = uow.webhooks.enabled()
                return found

        with ThreadPoolExecutor() as pool:
            with open_tenant(databases) as uow:
                locked = uow.webhooks.find(webhook.id)
                waiting = pool.submit(retried, enabled)
                hesitate()
                uow.webhooks.save([evolve(locked, state=WebhookState.DISABLED)])
                uow.commit()
            assert waiting.result(PATIENCE) == []

    def test_webhooks_are_listed_by_id(self, databases: Databases) -> None:
        webhooks = sorted((a_webhook() for _ in range(5)), key=lambda webhook: webhook.id)
        add(databases, *reversed(webhooks))

        for limit in (1, 2, 50):
            assert all_rows(queries(databases).webhooks, limit=limit) == webhooks


class DeliveriesContract(DatabasesContract):
    def test_a_delivery_comes_back_as_it_was_added(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        bare = a_delivery(webhook, 1)
        full = a_delivery(
            webhook,
            2,
            state=DeliveryState.DEAD,
            attempts=17,
            earlier_attempts=1,
            first_attempt_at=NOON,
            ticket_at=None,
            tickets=3,
            finished_at=NOON + MINUTE,
            reason="AttemptsExhausted",
        )
        deliver(databases, bare, full)

        for delivery in (bare, full):
            assert queries(databases).delivery(delivery.id) == (delivery, [])
        with open_tenant(databases) as uow:
            assert uow.deliveries.get([full.id, new_id(), bare.id]) == {bare.id: bare, full.id: full}
            assert uow.deliveries.get([]) == {}

    def test_one_that_stands_there_already_stays_as_it_is(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        kept = a_delivery(webhook, 1, state=DeliveryState.DELIVERED, attempts=1, ticket_at=None)
        new = a_delivery(webhook, 2)
        deliver(databases, kept)
        deliver(databases, evolve(kept, state=DeliveryState.WAITING, attempts=0, ticket_at=NOON), new)

        assert queries(databases).deliveries(webhook.id, PageRequest()).rows == [kept, new]

    def test_a_position_is_given_once(self, databases: Databases) -> None:
        webhook, other = a_webhook(), a_webhook()
        add(databases, webhook, other)
        deliver(databases, a_delivery(webhook, 1), a_delivery(other, 1))

        with pytest.raises(ChangedMeanwhile):
            deliver(databases, a_delivery(webhook, 1))

    def test_many_are_added_and_saved(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        deliveries = [a_delivery(webhook, position) for position in range(1, 201)]
        deliver(databases, *deliveries)
        done = [evolve(d, state=DeliveryState.DELIVERED, ticket_at=None, attempts=1) for d in deliveries[:120]]
        save(databases, *done)

        assert all_rows(lambda p: queries(databases).deliveries(webhook.id, p), limit=150) == done + deliveries[120:]

    def test_saving_a_delivery_replaces_it(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        delivery = a_delivery(webhook)
        deliver(databases, delivery)
        changed = evolve(
            delivery,
            state=DeliveryState.DELIVERED,
            attempts=2,
            earlier_attempts=1,
            first_attempt_at=NOON,
            ticket_at=None,
            tickets=1,
            finished_at=NOON,
            reason="HTTP 500",
        )
        save(databases, changed)
        save(databases)

        assert queries(databases).delivery(delivery.id) == (changed, [])

    def test_attempts_are_kept_once(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        delivery = a_delivery(webhook)
        deliver(databases, delivery)
        second = an_attempt(delivery, 2, status=None, error="no answer", response=b"\x00\xff" * 10)
        first = an_attempt(delivery, 1, status=503)
        record(databases, second, first)
        record(databases, an_attempt(delivery, 1, status=200), an_attempt(delivery, 3, status=204))

        _, attempts = queries(databases).delivery(delivery.id)
        assert attempts[:2] == [first, second]
        assert (attempts[2].number, attempts[2].status) == (3, 204)
        assert len(attempts) == 3

    def test_the_window_counts_what_has_a_ticket_out(self, databases: Databases) -> None:
        one, two, idle = (a_webhook() for _ in range(3))
        add(databases, one, two, idle)
        deliver(
            databases,
            a_delivery(one, 1, tickets=1),
            a_delivery(one, 2, tickets=2),
            a_delivery(one, 3, tickets=0),
            a_delivery(one, 4, tickets=1, state=DeliveryState.DELIVERED, ticket_at=None),
            a_delivery(one, 5, tickets=1, state=DeliveryState.PARKED, ticket_at=None),
            a_delivery(two, 1, tickets=1),
        )

        with open_tenant(databases) as uow:
            counts = uow.deliveries.in_queue([one.id, idle.id])
            assert {id: counts.get(id, 0) for id in (one.id, two.id, idle.id)} == {one.id: 2, two.id: 0, idle.id: 0}
            assert not any(uow.deliveries.in_queue([]).values())

    # what is owed

    def test_deliveries_owe_from_their_moment_on_by_webhook_and_position(self, databases: Databases) -> None:
        one, two = sorted((a_webhook(), a_webhook()), key=lambda webhook: webhook.id)
        add(databases, one, two)
        deliver(
            databases,
            a_delivery(two, 1),
            a_delivery(one, 3, ticket_at=NOON - MINUTE),
            a_delivery(one, 1),
            a_delivery(one, 2, ticket_at=NOON + MINUTE),
            a_delivery(one, 4, ticket_at=None),
            a_delivery(one, 5, state=DeliveryState.DELIVERED, ticket_at=None),
        )

        assert owed(databases, NOON - 2 * MINUTE) == []
        assert owed(databases, NOON) == [(one.id, 1), (one.id, 3), (two.id, 1)]
        assert owed(databases, NOON + MINUTE) == [(one.id, 1), (one.id, 2), (one.id, 3), (two.id, 1)]

    def test_no_more_are_owed_than_the_window_leaves_room_for(self, databases: Databases) -> None:
        busy, idle = sorted((a_webhook(), a_webhook()), key=lambda webhook: webhook.id)
        add(databases, busy, idle)
        deliver(
            databases,
            a_delivery(busy, 1, tickets=1, ticket_at=NOON + MINUTE),
            a_delivery(busy, 2, tickets=1, ticket_at=NOON + MINUTE),
            *(a_delivery(busy, position) for position in range(3, 9)),
            *(a_delivery(idle, position) for position in range(1, 9)),
        )

        assert owed(databases, NOON, window=5) == [
            *((busy.id, position) for position in (3, 4, 5)),
            *((idle.id, position) for position in (1, 2, 3, 4, 5)),
        ]
        assert owed(databases, NOON, window=2) == [(idle.id, 1), (idle.id, 2)]

    def test_one_whose_ticket_is_out_takes_no_new_room(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        deliver(
            databases,
            a_delivery(webhook, 1),
            a_delivery(webhook, 2, tickets=1),
            a_delivery(webhook, 3, tickets=2),
            a_delivery(webhook, 4),
        )

        assert owed(databases, NOON, window=2) == [(webhook.id, 2), (webhook.id, 3)]
        assert owed(databases, NOON, window=3) == [(webhook.id, position) for position in (1, 2, 3)]
        assert owed(databases, NOON, window=1) == [(webhook.id, 2), (webhook.id, 3)]

    def test_a_sent_ticket_moves_the_next_one_on(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        delivery = a_delivery(webhook)
        deliver(databases, delivery)
        note(databases, Ticketed(id=delivery.id, was=NOON, tickets=1, ticket_at=NOON + 5 * MINUTE))

        assert queries(databases).delivery(delivery.id)[0] == evolve(delivery, tickets=1, ticket_at=NOON + 5 * MINUTE)
        assert owed(databases, NOON + MINUTE) == []

    def test_a_ticket_for_one_that_moved_on_notes_nothing(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        later = a_delivery(webhook, 1, attempts=1, ticket_at=NOON + MINUTE)
        done = a_delivery(webhook, 2, state=DeliveryState.DELIVERED, ticket_at=None)
        deliver(databases, later, done)
        note(
            databases,
            *(
                Ticketed(id=id, was=NOON, tickets=7, ticket_at=NOON + 5 * MINUTE)
                for id in (later.id, done.id, new_id())
            ),
        )

        assert queries(databases).deliveries(webhook.id, PageRequest()).rows == [later, done]

    # parking, holding back, letting in

    def test_parking_takes_what_waits(self, databases: Databases) -> None:
        webhook, other = a_webhook(), a_webhook()
        add(databases, webhook, other)
        done = a_delivery(webhook, 3, state=DeliveryState.DELIVERED, ticket_at=None)
        elsewhere = a_delivery(other)
        deliver(databases, a_delivery(webhook, 1, tickets=1), a_delivery(webhook, 2), done, elsewhere)

        assert self.change(databases, "park", webhook.id) == 2

        parked = queries(databases).deliveries(webhook.id, PageRequest(), state=DeliveryState.PARKED).rows
        assert [(d.position, d.ticket_at, d.tickets) for d in parked] == [(1, None, 0), (2, None, 0)]
        assert queries(databases).delivery(done.id)[0] == done
        assert queries(databases).delivery(elsewhere.id)[0] == elsewhere
        assert self.change(databases, "park", webhook.id) == 0

    def test_what_was_parked_waits_again(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        parked = a_delivery(webhook, 1, state=DeliveryState.PARKED, attempts=2, ticket_at=None)
        dead = a_delivery(webhook, 2, state=DeliveryState.DEAD, ticket_at=None)
        deliver(databases, parked, dead)

        assert self.change(databases, "unpark", webhook.id, NOON + MINUTE) == 1
        waiting = evolve(parked, state=DeliveryState.WAITING, ticket_at=NOON + MINUTE)
        assert queries(databases).deliveries(webhook.id, PageRequest()).rows == [waiting, dead]

    def test_what_was_parked_is_cancelled(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        waiting = a_delivery(webhook, 1)
        parked = a_delivery(webhook, 2, state=DeliveryState.PARKED, ticket_at=None)
        deliver(databases, waiting, parked)

        assert self.change(databases, "cancel_parked", webhook.id, NOON + MINUTE) == 1
        kept, cancelled = queries(databases).deliveries(webhook.id, PageRequest()).rows
        assert kept == waiting
        assert (cancelled.state, cancelled.ticket_at) == (DeliveryState.CANCELLED, None)

    def test_the_first_that_waits_has_the_lowest_position(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        first = a_delivery(webhook, 2, ticket_at=None)
        deliver(
            databases,
            a_delivery(webhook, 4),
            a_delivery(webhook, 1, state=DeliveryState.DELIVERED, ticket_at=None),
            first,
        )

        with open_tenant(databases) as uow:
            assert uow.deliveries.first_waiting(webhook.id) == first
            assert uow.deliveries.first_waiting(new_id()) is None

    def test_holding_back_leaves_the_one_that_probes(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        probe = a_delivery(webhook, 1, tickets=1)
        done = a_delivery(webhook, 2, state=DeliveryState.DELIVERED, ticket_at=None)
        others = [a_delivery(webhook, 3), a_delivery(webhook, 4, tickets=2, attempts=1)]
        deliver(databases, probe, done, *others)

        with open_tenant(databases) as uow:
            assert uow.deliveries.hold_back(webhook.id, besides=probe.id) == 2
            uow.commit()

        held = [evolve(delivery, ticket_at=None, tickets=0) for delivery in others]
        assert queries(databases).deliveries(webhook.id, PageRequest()).rows == [probe, done, *held]

    def test_the_first_ones_that_were_held_back_are_let_in(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        out = a_delivery(webhook, 1, tickets=1, ticket_at=NOON + MINUTE)
        due = a_delivery(webhook, 2, ticket_at=NOON - MINUTE)
        first = a_delivery(webhook, 3, ticket_at=None)
        later = a_delivery(webhook, 4, attempts=1, ticket_at=NOON + MINUTE)
        second = a_delivery(webhook, 5, attempts=1, ticket_at=None)
        done = a_delivery(webhook, 6, state=DeliveryState.DELIVERED, ticket_at=None)
        last = a_delivery(webhook, 7, ticket_at=None)
        deliver(databases, last, done, second, later, first, due, out)

        with open_tenant(databases) as uow:
            assert uow.deliveries.let_in(webhook.id, NOON, limit=2) == 2
            uow.commit()

        first, second = (evolve(delivery, ticket_at=NOON) for delivery in (first, second))
        rows = queries(databases).deliveries(webhook.id, PageRequest()).rows
        assert rows == [out, due, first, later, second, done, last]
        with open_tenant(databases) as uow:
            assert uow.deliveries.let_in(webhook.id, NOON, limit=10) == 1
            assert uow.deliveries.let_in(new_id(), NOON, limit=10) == 0

    def test_no_attempt_is_lost(self, databases: Databases) -> None:
        webhook = a_webhook()
        add(databases, webhook)
        delivery = a_delivery(webhook)
        deliver(databases, delivery)

        def attempt(by: str) -> None:
            with open_tenant(databases) as uow:
                if by == "id":
                    locked = uow.deliveries.get([delivery.id])[delivery.id]
                else:
                    locked = uow.deliveries.first_waiting(webhook.id)
                hesitate()
                uow.deliveries.save([evolve(locked, attempts=locked.attempts + 1)])
                uow.commit()

        together(*[lambda by=by: retried(lambda: attempt(by)) for by in ("id", "state") * 4])

        assert queries(databases).delivery(delivery.id)[0].attempts == 8

    # reading

    def test_deliveries_are_listed_by_position(self, databases: Databases) -> None:
        webhook, other = a_webhook(), a_webhook()
        add(databases, webhook, other)
        deliveries = [
            a_delivery(webhook, position, state=DeliveryState.DEAD if position % 2 else DeliveryState.WAITING)
            for position in range(1, 12)
        ]
        deliver(databases, *reversed(deliveries), a_delivery(other, 1))

        for limit in (1, 4, 50):
            listed = all_rows(lambda page: queries(databases).deliveries(webhook.id, page), limit=limit)
            assert listed == deliveries
            dead = all_rows(
                lambda page: queries(databases).deliveries(webhook.id, page, state=DeliveryState.DEAD), limit=limit
            )
            assert dead == deliveries[::2]
        assert queries(databases).delivery(new_id()) is None

    def change(self, databases: Databases, name: str, webhook_id: UUID, *at: datetime) -> int:
        with open_tenant(databases) as uow:
            count: int = getattr(uow.deliveries, name)(webhook_id, *at)
            uow.commit()
            return count


def add(databases: Databases, *webhooks: Webhook) -> None:
    with open_tenant(databases) as uow:
        for webhook in webhooks:
            uow.webhooks.add(webhook)
        uow.commit()


def deliver(databases: Databases, *deliveries: Delivery) -> None:
    with open_tenant(databases) as uow:
        uow.deliveries.add(deliveries)
        uow.commit()


def save(databases: Databases, *deliveries: Delivery) -> None:
    with open_tenant(databases) as uow:
        uow.deliveries.save(deliveries)
        uow.commit()


def record(databases: Databases, *attempts: Attempt) -> None:
    with open_tenant(databases) as uow:
        uow.deliveries.record(attempts)
        uow.commit()


def note(databases: Databases, *tickets: Ticketed) -> None:
    with open_tenant(databases) as uow:
        uow.deliveries.ticketed(tickets)
        uow.commit()


def owed(databases: Databases, now: datetime, *, window: int = 100) -> list[tuple[UUID, int]]:
    """As a transaction sees it, and as it is read without one."""
    with open_tenant(databases) as uow:
        owed = uow.deliveries.owed(now, window=window)
    assert queries(databases).owed_deliveries(now, window=window) == owed
    return [(delivery.webhook_id, delivery.position) for delivery in owed]
