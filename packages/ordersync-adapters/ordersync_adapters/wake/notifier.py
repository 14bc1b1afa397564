"""Tells the admin database who has work, beside the commits and never in their way."""

import logging
import threading
from datetime import datetime

from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.commands import Wake
from ordersync_core.messaging.handlers import wake

CONTEXT = Context(administration=None, triggered_by="wake", correlation_id="wake")
REST = 1.0
"""Seconds between two tries while the admin database does not answer."""

_log = logging.getLogger(__name__)


class WakeNotifier:
    """Best effort: a hint that is lost costs a wait until the sweep.

    `notify` may be called from any thread and only notes the administration; what one notes while the thread writes
    goes with the next write, once for each administration. `start` begins to write; `close` writes what is left.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted: dict[str, datetime] = {}
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def notify(self, administration: str) -> None:
        with self._condition:
            self._noted.setdefault(administration, self._clock.now())
            self._condition.notify()

    def start(self, application: Application) -> None:
        self._thread = threading.Thread(target=self._run, args=(application,), name="wake-notifier", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self, application: Application) -> None:
        answering = True
        while noted := self._take():
            try:
                for administration, at in noted.items():
                    application.run(wake, Wake(administration=administration, at=at), CONTEXT)
                answering = True
            except Exception as error:
                # whatever it is: without this thread every later hint of the process would be lost
                if answering:
                    unforeseen = None if isinstance(error, OrderSyncError) else error
                    _log.warning("nobody can be woken for now: %s", error, exc_info=unforeseen)
                answering = False
                self._keep(noted)

    def _take(self) -> dict[str, datetime]:
        """What was noted, as soon as there is something; empty once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._noted)
            noted, self._noted = self._noted, {}
            return noted

    def _keep(self, noted: dict[str, datetime]) -> None:
        """For another try, unless this was the last."""
        with self._condition:
            if not self._closed:
                self._noted = noted | self._noted
                self._condition.wait_for(lambda: self._closed, timeout=REST)
