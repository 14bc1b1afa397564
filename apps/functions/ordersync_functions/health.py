"""watch_health: what does not move on by itself, as lines in the log."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from attrs import frozen

from ordersync_core.jobs.ports import JobsUnitOfWork
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.ports import MessagingUnitOfWork
from ordersync_core.messaging.queue import Queues
from ordersync_core.messaging.tickets import LATER_WAITS, REPORTED_AFTER
from ordersync_core.webhooks.ports import WebhooksUnitOfWork
from ordersync_functions.administrations import ActiveAdministrations
from ordersync_functions.contexts import platform, tenant

NAME: Final = "watch_health"
LOOKED_AT: Final = 500
AHEAD: Final = max(LATER_WAITS) + timedelta(minutes=5)
"""A row whose ticket went out owes the next one within this, so asking that far ahead finds it."""

_log = logging.getLogger("ordersync.functions")


@frozen
class Stuck:
    """A row that had its third ticket, or a later one, and still has no outcome."""

    administration: str
    what: str
    tickets: int

    def __str__(self) -> str:
        return f"{self.administration}: {self.what} has had {self.tickets} tickets and no outcome"


def watch_health(application: Application, administrations: ActiveAdministrations, queues: Queues) -> Sequence[str]:
    """Log what needs somebody's eyes, and answer the same lines."""
    lines = [str(stuck) for stuck in application.run(_stuck_runs, None, platform(NAME))]
    for code in administrations.codes():
        context = tenant(NAME, code)
        try:
            lines += [str(stuck) for stuck in application.run(_stuck_events, code, context)]
            lines += [str(stuck) for stuck in application.run(_stuck_deliveries, code, context)]
        except OrderSyncError as error:
            lines.append(f"{code}: its database cannot be looked at: {error}")
    for name in QUEUES:
        if dead := queues[name].depth().dead:
            lines.append(f"{name}: {dead} dead letters wait for a person")
    for line in lines:
        _log.warning("%s", line)
    return lines


def _stuck_runs(_: None, *, uow: JobsUnitOfWork, clock: Clock) -> list[Stuck]:
    with uow:
        runs = uow.runs.owed(clock.now() + AHEAD, LOOKED_AT)
    return [
        Stuck(run.administration, f"job run {run.id} ({run.type})", run.tickets)
        for run in runs
        if run.tickets >= REPORTED_AFTER
    ]


def _stuck_events(administration: str, *, uow: MessagingUnitOfWork, clock: Clock) -> list[Stuck]:
    with uow:
        rows = uow.outbox.owed(clock.now() + AHEAD, LOOKED_AT)
    return [
        Stuck(administration, f"event {row.id} ({row.event_type})", row.tickets)
        for row in rows
        if row.tickets >= REPORTED_AFTER
    ]


def _stuck_deliveries(administration: str, *, uow: WebhooksUnitOfWork, clock: Clock) -> list[Stuck]:
    with uow:
        deliveries = uow.deliveries.owed(clock.now() + AHEAD, window=LOOKED_AT)
    return [
        Stuck(administration, f"delivery {delivery.id} ({delivery.event_type})", delivery.tickets)
        for delivery in deliveries
        if delivery.tickets >= REPORTED_AFTER
    ]
