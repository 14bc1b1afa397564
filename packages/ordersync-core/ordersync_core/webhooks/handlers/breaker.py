"""Which of a webhook's deliveries go next, while its breaker is open and when it has closed."""

from collections.abc import Callable
from datetime import datetime

from attrs import evolve

from ordersync_core.webhooks.model import Delivery, Webhook
from ordersync_core.webhooks.outcome import probes_at
from ordersync_core.webhooks.ports import RetryPolicy, WebhooksUnitOfWork

DRAIN_FACTOR = 2


def let_in(uow: WebhooksUnitOfWork, webhook: Webhook, drained: int, now: datetime, policy: RetryPolicy) -> Webhook:
    """Who goes next: the probe while the breaker is open, twice as many as were `drained` after that."""
    if webhook.health.is_open:
        keep_probing(uow, webhook, lambda probe: probes_at(probe, failed_at=now, delays=policy.delays))
        return webhook
    if drained and uow.deliveries.let_in(webhook.id, now, limit=drained * DRAIN_FACTOR) == 0:
        return evolve(webhook, health=evolve(webhook.health, recovering=False))
    return webhook


def keep_probing(uow: WebhooksUnitOfWork, webhook: Webhook, moment: Callable[[Delivery], datetime]) -> None:
    """While the breaker is open the first waiting delivery probes, and every other one waits without a ticket.

    moment: when it does, should it have no moment of its own.
    """
    if not webhook.health.is_open:
        return
    probe = uow.deliveries.first_waiting(webhook.id)
    if probe is None:
        return
    if probe.ticket_at is None:
        uow.deliveries.save([evolve(probe, ticket_at=moment(probe))])
    uow.deliveries.hold_back(webhook.id, besides=probe.id)
