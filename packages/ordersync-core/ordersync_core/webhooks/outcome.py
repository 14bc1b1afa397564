"""What an attempt makes of a delivery and of its webhook: pure."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from attrs import evolve, frozen

from ordersync_core.webhooks.health import after_failure, after_success, must_disable
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, Webhook, WebhookState
from ordersync_core.webhooks.ports import WebhookResponse
from ordersync_core.webhooks.retry import Verdict, classify, next_attempt_at, parse_retry_after


class DeadReason(StrEnum):
    """Why a delivery was given up: the reason of its dead letter."""

    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    PAYLOAD_REFUSED = "PayloadRefused"


@frozen(kw_only=True)
class Outcome:
    """disabled: this attempt took the webhook out of service. drains: it makes room for others that were held back."""

    delivery: Delivery
    webhook: Webhook
    attempt: Attempt
    disabled: bool = False
    drains: bool = False


def after_attempt(
    delivery: Delivery, webhook: Webhook, response: WebhookResponse, *, delays: tuple[timedelta, ...]
) -> Outcome:
    """Decide by the answer: delivered, to be tried again, given up; and whether the webhook stays in service.

    A delivery that was parked while its request was under way is delivered if that request succeeded, and given up if
    it may not be tried again.
    """
    at = response.ended_at
    attempt = Attempt(
        delivery_id=delivery.id,
        number=delivery.attempts + 1,
        started_at=response.started_at,
        ended_at=at,
        status=response.status,
        error=response.error,
        response=response.response,
    )
    verdict = classify(response.status)
    if verdict is Verdict.SUCCESS:
        health = after_success(webhook.health)
        return Outcome(
            delivery=_tried(delivery, at, state=DeliveryState.DELIVERED, finished_at=at, reason=None),
            webhook=webhook if health == webhook.health else evolve(webhook, health=health),
            attempt=attempt,
            drains=webhook.health.is_open or health.recovering,
        )
    health = after_failure(webhook.health, at=at)
    webhook_after = evolve(webhook, health=health)
    disabled = webhook.state is WebhookState.ENABLED and (verdict is Verdict.DISABLE or must_disable(health, now=at))
    if disabled:
        webhook_after = disable(webhook_after, _why_disabled(verdict))
    failed = _after_failure(_tried(delivery, at), response, verdict, delays=delays)
    return Outcome(
        delivery=failed,
        webhook=webhook_after,
        attempt=attempt,
        disabled=disabled,
        drains=health.recovering and failed.state is DeliveryState.DEAD,
    )


def disable(webhook: Webhook, reason: str) -> Webhook:
    return evolve(webhook, state=WebhookState.DISABLED, disabled_because=reason)


def give_up(delivery: Delivery, reason: str, *, at: datetime) -> Delivery:
    """It is dead from now on, until somebody resubmits it."""
    return evolve(delivery, state=DeliveryState.DEAD, finished_at=at, ticket_at=None, tickets=0, reason=reason)


def probes_at(delivery: Delivery, *, failed_at: datetime, delays: tuple[timedelta, ...]) -> datetime:
    """When a delivery probes that was held back while another one did, and takes over from it: the receiver has just
    failed, so one step of this one's own schedule later, the first if it was never attempted."""
    attempts = max(delivery.attempts - delivery.earlier_attempts, 1)
    return next_attempt_at(delivery_id=delivery.id, failed_at=failed_at, attempts=attempts, delays=delays) or failed_at


def _tried(delivery: Delivery, at: datetime, **outcome: Any) -> Delivery:
    return evolve(
        delivery,
        attempts=delivery.attempts + 1,
        first_attempt_at=delivery.first_attempt_at or at,
        tickets=0,
        ticket_at=None,
        **outcome,
    )


def _after_failure(
    tried: Delivery, response: WebhookResponse, verdict: Verdict, *, delays: tuple[timedelta, ...]
) -> Delivery:
    at = response.ended_at
    reason = f"HTTP {response.status}" if response.status is not None else response.error
    if verdict is Verdict.GIVE_UP:
        return give_up(tried, DeadReason.PAYLOAD_REFUSED, at=at)
    moment = next_attempt_at(
        delivery_id=tried.id,
        failed_at=at,
        attempts=tried.attempts - tried.earlier_attempts,
        retry_after=parse_retry_after(response.retry_after, now=at),
        status=response.status,
        first_attempt_at=tried.first_attempt_at,
        delays=delays,
    )
    if moment is None:
        return give_up(tried, DeadReason.ATTEMPTS_EXHAUSTED, at=at)
    if tried.state is DeliveryState.PARKED or verdict is Verdict.DISABLE:
        return evolve(tried, reason=reason)
    return evolve(tried, ticket_at=moment, reason=reason)


def _why_disabled(verdict: Verdict) -> str:
    if verdict is Verdict.DISABLE:
        return "the receiver answered 410 Gone"
    return "no request succeeded for five days"
