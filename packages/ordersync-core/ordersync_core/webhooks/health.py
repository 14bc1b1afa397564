"""When a webhook is left alone for a while, and when for good (product.md, "Webhook retries")."""

from datetime import datetime, timedelta

from attrs import evolve, frozen

OPENS_AT = 10
"""Failures in a row that open the breaker."""

HOPELESS_AFTER = timedelta(days=5)
HOPELESS_FAILURES = 100


@frozen(kw_only=True)
class Health:
    """What the latest attempts of one webhook say.

    failures_in_row: failed attempts since the last success.
    failing_since: when the first of them ended; None while the latest attempt succeeded.
    open_since: when the breaker opened; None while it is closed. While it is open one delivery probes at its own
        schedule's steps, and all others wait without using attempts.
    recovering: a probe has succeeded, and what waited is let in again step by step.
    """

    failures_in_row: int = 0
    failing_since: datetime | None = None
    open_since: datetime | None = None
    recovering: bool = False

    @property
    def is_open(self) -> bool:
        return self.open_since is not None


def after_success(health: Health) -> Health:
    """Healthy again; a breaker that was open leaves a drain behind."""
    return Health(recovering=health.is_open or health.recovering)


def after_failure(health: Health, *, at: datetime) -> Health:
    failures = health.failures_in_row + 1
    opens = failures >= OPENS_AT and not health.is_open
    return evolve(
        health,
        failures_in_row=failures,
        failing_since=health.failing_since or at,
        open_since=at if opens else health.open_since,
        recovering=health.recovering and not opens,  # else one failure would leave what waits without a ticket
    )


def must_disable(health: Health, *, now: datetime) -> bool:
    """Five days without one success in which at least a hundred attempts failed."""
    return (
        health.failing_since is not None
        and now - health.failing_since >= HOPELESS_AFTER
        and health.failures_in_row >= HOPELESS_FAILURES
    )
