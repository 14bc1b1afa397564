"""What the functions work with; made once for each process."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from attrs import frozen

from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.ports import WebhookSender
from ordersync_functions.administrations import ActiveAdministrations
from ordersync_functions.publish import Publisher


class WakeWatcher(Protocol):
    """Learns that somebody was woken; for one thread."""

    def wait(self, timeout: timedelta) -> bool:
        """True as soon as something may have changed since the last call, False after `timeout`. Raises nothing."""
        ...

    def close(self) -> None: ...


@frozen(kw_only=True)
class Parts:
    """watcher: makes the one that the local host listens to.
    wake: tells the admin database that an administration has work; returns at once.
    dead_letters_kept: before housekeeping removes them.
    open_sender: starts what it sends by, so that the first delivery does not wait for that.
    close_sender: ends its connections, on the event loop that it sent on.
    close: ends everything else that was opened.
    """

    application: Application
    queues: Queues
    sender: WebhookSender
    clock: Clock
    administrations: ActiveAdministrations
    publisher: Publisher
    watcher: Callable[[], WakeWatcher]
    wake: Callable[[str], None]
    dead_letters_kept: timedelta
    open_sender: Callable[[], Awaitable[object]]
    close_sender: Callable[[], Awaitable[None]]
    close: Callable[[], None]
