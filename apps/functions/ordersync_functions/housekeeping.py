"""housekeeping: remove what is past its days, a bounded batch at a time."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import Queue, Queues

BATCH: Final = 1_000
MOST: Final = 100_000
"""Of each queue in one night; the rest has time."""

_log = logging.getLogger("ordersync.functions")


def purge_dead_letters(queues: Queues, clock: Clock, *, keep: timedelta) -> Mapping[str, int]:
    """Remove dead letters older than `keep`; answers how many of each queue. One queue that does not answer keeps the
    others from nothing."""
    purged = {}
    for name in QUEUES:
        try:
            purged[name] = _purge(queues[name], clock, keep)
        except OrderSyncError as error:
            _log.warning("%s: dead letters could not be purged: %s", name, error)
        else:
            _log.info("%s: %d dead letters purged", name, purged[name])
    return purged


def _purge(queue: Queue, clock: Clock, keep: timedelta) -> int:
    purged = 0
    while purged < MOST:
        removed = queue.purge_dead_letters(before=clock.now() - keep, limit=BATCH)
        purged += removed
        if removed < BATCH:
            break
    return purged
