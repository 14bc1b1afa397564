"""What one answer makes of a delivery and of its webhook."""

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, a_delivery, a_webhook, an_attempt
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import Delivery, DeliveryState, Webhook, WebhookState
from ordersync_core.webhooks.outcome import DeadReason, Outcome, after_attempt
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse
from ordersync_core.webhooks.retry import RETRY_DELAYS

ENDED = NOON + SECOND
DAY = timedelta(days=1)
OPEN = Health(failures_in_row=12, failing_since=NOON, open_since=NOON)

statuses = st.one_of(st.none(), st.integers(100, 599), st.sampled_from((200, 204, 301, 401, 410, 413, 429, 500)))


def answered(
    status: int | None, *, delivery: Delivery | None = None, webhook: Webhook | None = None, **fields: Any
) -> Outcome:
    """What the webhook's answer to the delivery's next attempt makes of both."""
    webhook = webhook or a_webhook()
    delivery = delivery or a_delivery(webhook, tickets=1)
    request = WebhookRequest(
        delivery_id=delivery.id,
        webhook_id=webhook.id,
        attempt=delivery.attempts + 1,
        url=webhook.url,
        headers={},
        body=b"{}",
    )
    error = "connection refused" if status is None else None
    response = WebhookResponse(
        **{"request": request, "started_at": NOON, "ended_at": ENDED, "status": status, "error": error, **fields}
    )
    return after_attempt(delivery, webhook, response, delays=RETRY_DELAYS)


class TestDelivery:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    def test_is_delivered_by_any_2xx(self, status: int) -> None:
        delivery = answered(status).delivery
        assert (delivery.state, delivery.finished_at) == (DeliveryState.DELIVERED, ENDED)
        assert (delivery.attempts, delivery.tickets, delivery.ticket_at, delivery.reason) == (1, 0, None, None)

    @pytest.mark.parametrize("status", [None, 100, 199, 300, 301, 302, 307, 308, 400, 404, 408, 425, 429, 500, 503])
    def test_is_tried_again_after_anything_else(self, status: int | None) -> None:
        delivery = answered(status).delivery
        assert (delivery.state, delivery.finished_at, delivery.tickets) == (DeliveryState.WAITING, None, 0)
        assert delivery.ticket_at is not None
        assert ENDED + MINUTE <= delivery.ticket_at <= ENDED + 1.1 * MINUTE

    def test_says_what_was_answered_last(self) -> None:
        assert answered(503).delivery.reason == "HTTP 503"
        assert answered(None).delivery.reason == "connection refused"

    def test_is_dead_after_413_at_once(self) -> None:
        delivery = answered(413).delivery
        assert (delivery.state, delivery.finished_at) == (DeliveryState.DEAD, ENDED)
        assert (delivery.reason, delivery.ticket_at) == (DeadReason.PAYLOAD_REFUSED, None)

    def test_is_dead_after_the_sixteenth_failure_and_not_before(self) -> None:
        webhook = a_webhook()
        fifteenth = answered(500, webhook=webhook, delivery=a_delivery(webhook, attempts=14))
        assert (fifteenth.delivery.state, fifteenth.delivery.attempts) == (DeliveryState.WAITING, 15)
        sixteenth = answered(500, webhook=webhook, delivery=fifteenth.delivery)
        assert (sixteenth.delivery.state, sixteenth.delivery.attempts) == (DeliveryState.DEAD, 16)
        assert (sixteenth.delivery.reason, sixteenth.delivery.ticket_at) == (DeadReason.ATTEMPTS_EXHAUSTED, None)
        assert sixteenth.delivery.finished_at == ENDED

    def test_has_a_schedule_of_its_own_in_each_round(self) -> None:
        webhook = a_webhook()
        again = answered(500, webhook=webhook, delivery=a_delivery(webhook, attempts=16, earlier_attempts=16)).delivery
        assert (again.state, again.attempts, again.first_attempt_at) == (DeliveryState.WAITING, 17, ENDED)
        assert again.ticket_at is not None
        assert again.ticket_at < ENDED + 2 * MINUTE
        last = answered(500, webhook=webhook, delivery=evolve(again, attempts=31)).delivery
        assert (last.state, last.attempts) == (DeliveryState.DEAD, 32)

    @pytest.mark.parametrize(
        ("retry_after", "least"),
        [("3600", 60 * MINUTE), ("10", MINUTE), ("90000", timedelta(hours=12)), ("-5", MINUTE), ("soon", MINUTE)],
    )
    def test_retry_after_can_only_lengthen_the_wait(self, retry_after: str, least: timedelta) -> None:
        delivery = answered(429, retry_after=retry_after).delivery
        assert delivery.ticket_at is not None
        assert ENDED + least <= delivery.ticket_at <= ENDED + least + 6 * SECOND

    def test_retry_after_adds_no_attempts(self) -> None:
        webhook = a_webhook()
        last = a_delivery(webhook, attempts=15)
        assert answered(429, webhook=webhook, delivery=last, retry_after="60").delivery.state is DeliveryState.DEAD

    def test_keeps_when_its_round_began(self) -> None:
        webhook = a_webhook()
        began = NOON - DAY
        assert answered(500).delivery.first_attempt_at == ENDED
        later = a_delivery(webhook, attempts=3, first_attempt_at=began)
        assert answered(500, webhook=webhook, delivery=later).delivery.first_attempt_at == began


class TestParkedMeanwhile:
    """The webhook was disabled while the request was under way."""

    @staticmethod
    def answered(status: int | None, attempts: int = 0) -> Outcome:
        webhook = a_webhook(state=WebhookState.DISABLED, disabled_because="disabled by a person")
        delivery = a_delivery(webhook, state=DeliveryState.PARKED, ticket_at=None, attempts=attempts)
        return answered(status, webhook=webhook, delivery=delivery)

    def test_is_delivered_by_a_late_success(self) -> None:
        assert self.answered(200).delivery.state is DeliveryState.DELIVERED

    def test_stays_parked_and_counts_the_attempt_otherwise(self) -> None:
        delivery = self.answered(500).delivery
        assert (delivery.state, delivery.attempts, delivery.ticket_at) == (DeliveryState.PARKED, 1, None)
        assert (delivery.finished_at, delivery.reason) == (None, "HTTP 500")

    def test_is_dead_when_that_was_its_last_attempt(self) -> None:
        """Else it would have a seventeenth one when the webhook is enabled."""
        delivery = self.answered(500, attempts=15).delivery
        assert (delivery.state, delivery.reason) == (DeliveryState.DEAD, DeadReason.ATTEMPTS_EXHAUSTED)

    def test_is_dead_after_413(self) -> None:
        """Else the same body would be sent again when the webhook is enabled."""
        assert self.answered(413).delivery.state is DeliveryState.DEAD

    def test_changes_nothing_of_the_reason_why_the_webhook_is_disabled(self) -> None:
        outcome = self.answered(410)
        assert (outcome.disabled, outcome.webhook.disabled_because) == (False, "disabled by a person")


class TestWebhook:
    def test_is_disabled_by_410(self) -> None:
        outcome = answered(410)
        assert outcome.disabled
        assert outcome.webhook.state is WebhookState.DISABLED
        assert outcome.webhook.disabled_because == "the receiver answered 410 Gone"
        assert (outcome.delivery.state, outcome.delivery.ticket_at) == (DeliveryState.WAITING, None)

    def test_is_disabled_by_410_also_when_that_ends_the_delivery(self) -> None:
        webhook = a_webhook()
        outcome = answered(410, webhook=webhook, delivery=a_delivery(webhook, attempts=15))
        assert outcome.disabled
        assert outcome.delivery.state is DeliveryState.DEAD

    @pytest.mark.parametrize(
        ("age", "failures", "disabled"),
        [(5 * DAY, 99, True), (5 * DAY, 98, False), (5 * DAY - SECOND, 99, False), (9 * DAY, 500, True)],
    )
    def test_is_disabled_after_five_days_with_a_hundred_failures(
        self, age: timedelta, failures: int, disabled: bool
    ) -> None:
        webhook = a_webhook(health=evolve(OPEN, failures_in_row=failures, failing_since=ENDED - age))
        outcome = answered(500, webhook=webhook)
        assert outcome.disabled is disabled
        reason = "no request succeeded for five days" if disabled else None
        assert outcome.webhook.disabled_because == reason

    def test_is_healthy_after_one_success(self) -> None:
        webhook = a_webhook(health=Health(failures_in_row=99, failing_since=NOON - 9 * DAY))
        assert answered(200, webhook=webhook).webhook.health == Health()

    def test_drains_from_the_first_success_on(self) -> None:
        probed = answered(200, webhook=a_webhook(health=OPEN))
        assert (probed.drains, probed.webhook.health) == (True, Health(recovering=True))
        assert answered(200, webhook=probed.webhook).drains

    def test_drains_on_when_a_delivery_that_was_let_in_dies(self) -> None:
        """Else those behind it would wait for a success that nobody is sent for."""
        webhook = a_webhook(health=Health(recovering=True))
        assert answered(413, webhook=webhook).drains
        assert answered(500, webhook=webhook, delivery=a_delivery(webhook, attempts=15)).drains
        assert not answered(500, webhook=webhook).drains

    def test_has_nothing_to_drain_while_all_is_well(self) -> None:
        assert not answered(200).drains
        assert not answered(413).drains


def test_the_attempt_says_what_happened() -> None:
    outcome = answered(503, response=b"try later")
    expected = an_attempt(outcome.delivery, 1, status=503, started_at=NOON, ended_at=ENDED, response=b"try later")
    assert outcome.attempt == expected
    unanswered = answered(None).attempt
    assert (unanswered.status, unanswered.error) == (None, "connection refused")


@given(status=statuses, attempts=st.integers(0, 15), parked=st.booleans(), health=st.sampled_from((Health(), OPEN)))
def test_every_answer_leaves_a_delivery_that_something_will_move(
    status: int | None, attempts: int, parked: bool, health: Health
) -> None:
    """It has ended, or owes a ticket, or whoever disabled its webhook parks it, or it is parked already."""
    state = WebhookState.DISABLED if parked else WebhookState.ENABLED
    webhook = a_webhook(state=state, health=health)
    delivery_state = DeliveryState.PARKED if parked else DeliveryState.WAITING
    outcome = answered(
        status, webhook=webhook, delivery=a_delivery(webhook, state=delivery_state, attempts=attempts, tickets=1)
    )
    after = outcome.delivery
    assert after.attempts == attempts + 1
    assert after.tickets == 0
    assert (after.finished_at is not None) == (after.state in (DeliveryState.DELIVERED, DeliveryState.DEAD))
    if after.state is DeliveryState.WAITING:
        assert (after.ticket_at is None) == outcome.disabled
        assert after.attempts < 16
    else:
        assert after.ticket_at is None
    if after.state is DeliveryState.PARKED:
        assert after.attempts < 16
