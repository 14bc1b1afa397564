"""watch_health: what does not move on by itself, as lines in the log."""

import logging
from collections.abc import Sequence
from typing import Final

from ordersync_core.jobs.handlers import stuck_runs
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.commands import FindStuck
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.handlers import stuck_events
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.handlers.tickets import stuck_deliveries
from ordersync_functions.administrations import ActiveAdministrations
from ordersync_functions.contexts import platform, tenant

NAME: Final = "watch_health"

_log = logging.getLogger("ordersync.functions")


def watch_health(application: Application, administrations: ActiveAdministrations, queues: Queues) -> Sequence[str]:
    """Log what needs somebody's eyes, and answer the same lines."""
    lines = [str(stuck) for stuck in application.run(stuck_runs, FindStuck(), platform(NAME))]
    for code in administrations.codes():
        context = tenant(NAME, code)
        try:
            lines += [str(stuck) for stuck in application.run(stuck_events, FindStuck(), context)]
            lines += [str(stuck) for stuck in application.run(stuck_deliveries, FindStuck(), context)]
        except OrderSyncError as error:
            lines.append(f"{code}: its database cannot be looked at: {error}")
    for name in QUEUES:
        if dead := queues[name].depth().dead:
            lines.append(f"{name}: {dead} dead letters wait for a person")
    for line in lines:
        _log.warning("%s", line)
    return lines
