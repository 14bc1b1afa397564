"""From results to rows: what an answer does to the delivery, to its webhook and to what waits behind it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ordersync_core.messaging.envelope import WEBHOOKS
from ordersync_core.testing.contracts.databases import BETA
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND
from ordersync_core.webhooks.commands import (
    Backlog,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    FindDead,
    GiveUpDelivery,
    Record,
    Redeliver,
)
from ordersync_core.webhooks.handlers.again import redeliver
from ordersync_core.webhooks.handlers.attempts import find_dead, give_up_delivery, record
from ordersync_core.webhooks.handlers.subscriptions import delete_webhook, disable_webhook, enable_webhook
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import DeliveryState, WebhookState
from ordersync_core.webhooks.outcome import DeadReason
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


class TestOutcome:
    def test_each_answer_has_its_own_in_one_transaction(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(5)
        requests = site.requests()

        recorded = site.record(
            site.answer(requests[0], 204),
            site.answer(requests[1], 302),
            site.answer(requests[2], 404),
            site.answer(requests[3], None),
            site.answer(requests[4], 413),
        )

        deliveries = site.deliveries(webhook)
        assert [d.state for d in deliveries] == [DELIVERED, WAITING, WAITING, WAITING, DEAD]
        assert [d.reason for d in deliveries] == [
            None,
            "HTTP 302",
            "HTTP 404",
            "no answer within 15 s",
            "PayloadRefused",
        ]
        assert [r.dead for r in recorded] == [None, None, None, None, "PayloadRefused"]
        assert [r.attempt for r in recorded] == [1] * 5
        assert site.webhook(webhook.id).health.failures_in_row == 4

    def test_the_attempts_are_kept_with_what_was_answered(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(503, response=b"try later", ended_at=NOON + SECOND)
        site.wait_for_ticket(site.only(webhook))
        site.attempt(None)

        first, second = site.attempts(site.only(webhook).id)

        assert (first.number, first.status, first.error, first.response) == (1, 503, None, b"try later")
        assert (first.started_at, first.ended_at) == (NOON, NOON + SECOND)
        assert (second.number, second.status, second.error) == (2, None, "no answer within 15 s")

    def test_sixteen_attempts_never_before_their_time_and_then_dead(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        failed_at = NOON
        for number in range(1, 16):
            [recorded] = site.attempt(500)
            assert recorded.dead is None
            delivery = site.only(webhook)
            assert (delivery.attempts, delivery.state) == (number, WAITING)
            assert delivery.ticket_at is not None
            step = RETRY_DELAYS[number - 1]
            assert step <= delivery.ticket_at - failed_at <= step + min(step / 10, 10 * MINUTE)
            site.pass_time(delivery.ticket_at - site.clock.now() - SECOND)
            assert site.requests() == []
            site.pass_seconds(1)
            failed_at = site.clock.now()

        [recorded] = site.attempt(500)

        assert recorded.dead == "AttemptsExhausted"
        delivery = site.only(webhook)
        assert (delivery.state, delivery.attempts, delivery.reason) == (DEAD, 16, "AttemptsExhausted")
        assert delivery.finished_at == site.clock.now()
        assert timedelta(hours=74, minutes=51) <= site.clock.now() - NOON <= timedelta(hours=77)
        assert len(site.attempts(delivery.id)) == 16
        site.pass_time(timedelta(days=30))
        assert site.requests() == []

    def test_retry_after_lengthens_the_wait(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(429, retry_after="7200")
        assert site.only(webhook).ticket_at == NOON + timedelta(hours=2)


class TestMovedOn:
    """A result whose delivery has moved on changes nothing."""

    def test_repeated_results_are_harmless(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        one, other = site.requests()
        answers = site.answer(one, 500), site.answer(other, 413)
        site.record(*answers, *answers)
        before = site.deliveries(webhook), site.webhook(webhook.id)

        site.pass_seconds(1)
        # whoever had the message before may have lost it: one dead letter too many rather than none
        assert [r.dead for r in site.record(*answers)] == [None, DeadReason.PAYLOAD_REFUSED]

        assert (site.deliveries(webhook), site.webhook(webhook.id)) == before
        assert site.webhook(webhook.id).health.failures_in_row == 2

    def test_given_up_by_whoever_lost_the_message_it_is_a_dead_letter_of_this_one(self, site: Subscriber) -> None:
        """Its process stood still past its lock, and went on beside the one that had claimed the message then."""
        site.subscribe()
        site.deliver()
        [request] = site.requests()
        site.run(give_up_delivery, GiveUpDelivery(id=request.delivery_id, attempt=1, reason="Defect"))

        assert [r.dead for r in site.record(site.answer(request, 200))] == ["Defect"]

    def test_of_an_earlier_attempt(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [first] = site.requests()
        site.record(site.answer(first, 500))
        before = site.only(webhook)
        site.record(site.answer(first, 200))
        assert site.only(webhook) == before

    def test_of_two_answers_to_one_attempt_the_first_to_end_counts(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [request] = site.requests()
        late = site.answer(request, 200, ended_at=NOON + 2 * SECOND)
        site.record(late, site.answer(request, 500, ended_at=NOON + SECOND))
        assert site.only(webhook).reason == "HTTP 500"
        assert [a.status for a in site.attempts(site.only(webhook).id)] == [500]

    def test_of_one_that_was_cancelled(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [request] = site.requests()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(enable_webhook, EnableWebhook(id=webhook.id, backlog=Backlog.CANCEL_PARKED))
        before = site.only(webhook)
        site.record(site.answer(request, 200))
        assert site.only(webhook) == before
        assert before.state is DeliveryState.CANCELLED

    def test_of_one_whose_webhook_is_gone(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [request] = site.requests()
        site.run(delete_webhook, DeleteWebhook(id=webhook.id))
        [recorded] = site.record(site.answer(request, 413))
        assert (recorded.delivery_id, recorded.dead) == (request.delivery_id, None)

    def test_of_another_tenant_s(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [request] = site.requests()
        site.run(record, Record(responses=(site.answer(request, 413),)), BETA)
        assert site.only(webhook).state is WAITING

    def test_the_result_of_the_round_before_a_redelivery_counts_into_the_new_one(self, site: Subscriber) -> None:
        """Its request was under way when somebody asked to send it again."""
        webhook = site.subscribe()
        site.deliver()
        site.attempt(500)
        site.wait_for_ticket(site.only(webhook))
        [request] = site.requests()
        site.run(redeliver, Redeliver(id=request.delivery_id))
        site.record(site.answer(request, 200))
        assert (site.only(webhook).state, site.only(webhook).attempts) == (DELIVERED, 2)
        assert site.prepare(site.tickets()) == []


class TestGone:
    """410 takes the webhook out of service."""

    def test_disables_and_parks_what_waits(self, site: Subscriber) -> None:
        webhook, other = site.subscribe(), site.subscribe()
        site.deliver(4)
        mine = [request for request in site.requests() if request.webhook_id == webhook.id]
        site.record(site.answer(mine[0], 200), site.answer(mine[1], 410))

        disabled = site.webhook(webhook.id)
        assert disabled.state is WebhookState.DISABLED
        assert disabled.disabled_because == "the receiver answered 410 Gone"
        parked = site.deliveries(webhook)
        assert [d.state for d in parked] == [DELIVERED, PARKED, PARKED, PARKED]
        assert [(d.attempts, d.ticket_at, d.tickets) for d in parked[1:]] == [
            (1, None, 0),
            (0, None, 0),
            (0, None, 0),
        ]
        assert site.webhook(other.id).state is WebhookState.ENABLED
        assert site.states(other) == [WAITING] * 4

    def test_parks_those_that_failed_in_the_same_batch_too(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(4)
        requests = site.requests()
        site.record(*(site.answer(r, s) for r, s in zip(requests, (500, 410, 410, 500), strict=True)))
        assert site.states(webhook) == [PARKED] * 4
        assert site.lose(WEBHOOKS) == 0
        site.pass_time(timedelta(days=1))
        assert site.requests() == []

    def test_a_late_success_of_a_parked_one_counts(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        one, other = site.requests()
        site.record(site.answer(one, 410))
        site.record(site.answer(other, 200))
        assert site.states(webhook) == [PARKED, DELIVERED]
        assert site.webhook(webhook.id).state is WebhookState.DISABLED

    def test_a_late_failure_of_a_parked_one_leaves_it_parked(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        one, other = site.requests()
        site.record(site.answer(one, 410))
        site.record(site.answer(other, 500))
        assert [(d.state, d.attempts) for d in site.deliveries(webhook)] == [(PARKED, 1), (PARKED, 1)]

    def test_a_late_refusal_of_a_parked_one_is_its_end(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        one, other = site.requests()
        site.record(site.answer(one, 410))
        [recorded] = site.record(site.answer(other, 413))
        assert recorded.dead == "PayloadRefused"
        assert site.states(webhook) == [PARKED, DEAD]


class TestHopeless:
    def test_five_days_without_success_and_a_hundred_failures_disable_and_park(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(98)
        site.attempt(500)
        assert site.webhook(webhook.id).health.failures_in_row == 98
        site.pass_time(timedelta(days=5) - SECOND)
        assert len(site.attempt(500)) == 1
        site.pass_seconds(1)
        site.deliver()
        assert site.webhook(webhook.id).state is WebhookState.ENABLED
        site.wait_for_ticket(site.deliveries(webhook)[0])

        site.attempt(500)

        disabled = site.webhook(webhook.id)
        assert disabled.state is WebhookState.DISABLED
        assert disabled.disabled_because == "no request succeeded for five days"
        assert site.states(webhook) == [PARKED] * 99
        assert site.requests() == []

    def test_one_success_in_between_starts_it_all_again(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(98)
        site.attempt(500)
        site.pass_time(timedelta(days=5))
        site.attempt(200)
        assert site.webhook(webhook.id).health == Health(recovering=True)
        site.attempt(500)
        assert site.webhook(webhook.id).state is WebhookState.ENABLED


class TestGivenUp:
    """What is given up without an answer: it killed its process, or no request can be made of it."""

    def test_owes_no_more_tickets_and_says_why(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.pass_seconds(1)
        delivery = site.only(webhook)

        site.run(give_up_delivery, GiveUpDelivery(id=delivery.id, attempt=1, reason="KilledItsProcess"))

        dead = site.only(webhook)
        assert (dead.state, dead.reason, dead.attempts) == (DEAD, "KilledItsProcess", 0)
        assert (dead.ticket_at, dead.tickets, dead.finished_at) == (None, 0, site.clock.now())
        assert site.prepare(site.tickets()) == []
        site.pass_time(timedelta(days=1))
        assert site.send_owed() == 0

    def test_nothing_happens_to_one_that_has_moved_on(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        site.attempt(500)
        before = site.only(webhook)
        site.run(give_up_delivery, GiveUpDelivery(id=before.id, attempt=1, reason="KilledItsProcess"))
        assert site.only(webhook) == before

    def test_is_found_by_who_comes_with_its_message_later(self, site: Subscriber) -> None:
        """A process may die between the outcome and the dead letter."""
        webhook = site.subscribe()
        site.deliver(3)
        refused, given_up, waiting = site.requests()
        site.record(site.answer(refused, 413))
        command = GiveUpDelivery(id=given_up.delivery_id, attempt=1, reason="KilledItsProcess")
        site.run(give_up_delivery, command)
        attempts = {request.delivery_id: 1 for request in (refused, given_up, waiting)}

        assert site.run(find_dead, FindDead(attempts=attempts)) == {
            refused.delivery_id: "PayloadRefused",
            given_up.delivery_id: "KilledItsProcess",
        }
        assert site.run(find_dead, FindDead(attempts=dict.fromkeys(attempts, 3))) == {}
        assert len(site.deliveries(webhook)) == 3
