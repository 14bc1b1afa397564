"""publish_outbox: number and send what waits, for every administration that has work."""

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Final

from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.commands import FindEarliestTicket, Relay, TakeDue, Wake
from ordersync_core.messaging.handlers import earliest_ticket_at, relay, take_due, wake
from ordersync_core.webhooks.commands import SendOwedDeliveries
from ordersync_core.webhooks.handlers.tickets import send_owed_deliveries
from ordersync_functions.administrations import ActiveAdministrations
from ordersync_functions.contexts import platform, tenant
from ordersync_functions.sweep import due_in_sweep
from ordersync_functions.troubles import Troubles

NAME: Final = "publish_outbox"
VISITORS: Final = 8
PATIENCE: Final = timedelta(seconds=2)
"""How long one call waits for visits that do not end; they go on beside the next call."""

SWEEP_EVERY: Final = timedelta(seconds=1)
SOONEST: Final = timedelta(milliseconds=50)
LATEST_WHILE_DUE: Final = timedelta(seconds=5)
SOON: Final = timedelta(seconds=1)
"""A next visit that is nearer than this is kept in this process: the timer, which looks for rows, is no finer."""

_log = logging.getLogger("ordersync.functions")


class Publisher:
    """Visits the administrations that are due, several at once; one whose database is away delays no other.

    sweep: the period within which each active administration is visited whether or not anybody woke it.
    patience: how long a call waits for its visits; those that last longer go on beside the next call.
    """

    def __init__(
        self,
        application: Application,
        administrations: ActiveAdministrations,
        clock: Clock,
        *,
        sweep: timedelta,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._application = application
        self._administrations = administrations
        self._clock = clock
        self._sweep = sweep
        self._patience = patience
        # a process that begins visits everybody: the one before may have died with hints in its hand
        self._swept_at = clock.now() - sweep
        self._troubles = Troubles("publish")
        self._visitors = ThreadPoolExecutor(VISITORS, thread_name_prefix="publish")
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._soon: dict[str, threading.Timer] = {}
        self._fruitless: dict[str, int] = {}
        self._closed = False
        self._lock = threading.Lock()

    def publish(self) -> None:
        """One round: those that were woken, and those whose turn in the sweep has come."""
        due = set(self._application.run(take_due, TakeDue(), platform(NAME)))
        due.update(self._swept())
        visits = [self._visitors.submit(self._visit, code) for code in sorted(due) if self._begins(code)]
        wait(visits, timeout=self._patience.total_seconds())

    def close(self) -> None:
        """Visits under way end; those that wait for a thread or a moment are left to the next process."""
        with self._lock:
            self._closed = True
            soon, self._soon = self._soon, {}
        for timer in soon.values():
            timer.cancel()
        self._visitors.shutdown(wait=True, cancel_futures=True)

    def _swept(self) -> list[str]:
        now = self._clock.now()
        if now < self._swept_at:
            self._swept_at = now - SWEEP_EVERY  # the clock was set back
        if now - self._swept_at < SWEEP_EVERY:
            return []
        due = due_in_sweep(self._administrations.codes(), after=self._swept_at, until=now, period=self._sweep)
        self._swept_at = now
        return due

    def _begins(self, administration: str) -> bool:
        """False when a visit is under way: it may have looked too early, so there will be another one after it."""
        with self._lock:
            if administration in self._busy:
                self._again.add(administration)
                return False
            self._busy.add(administration)
            timer = self._soon.pop(administration, None)
        if timer is not None:
            timer.cancel()
        return True

    def _visit(self, administration: str) -> None:
        try:
            next_visit = self._work_for(administration)
            self._troubles.succeeded(administration)
        except Exception as error:
            # whatever is the matter with one tenant, the others go on
            next_visit = self._clock.now() + timedelta(seconds=self._troubles.failed(administration, error))
        with self._lock:
            self._busy.discard(administration)
            if administration in self._again:
                self._again.discard(administration)
                next_visit = self._clock.now() + SOONEST
        if next_visit is not None:
            wait_for = next_visit - self._clock.now()
            if wait_for >= SOON or not self._revisit(administration, max(0.0, wait_for.total_seconds())):
                self._leave_hint(administration, next_visit)

    def _revisit(self, administration: str, seconds: float) -> bool:
        """Visit it again after that time; False when this process is about to end."""
        timer = threading.Timer(seconds, self._visit_again, (administration,))
        timer.daemon = True
        with self._lock:
            if self._closed:
                return False
            earlier, self._soon[administration] = self._soon.get(administration), timer
        if earlier is not None:
            earlier.cancel()
        timer.start()
        return True

    def _visit_again(self, administration: str) -> None:
        if self._begins(administration):
            # the process may be about to end
            with contextlib.suppress(RuntimeError):
                self._visitors.submit(self._visit, administration)

    def _work_for(self, administration: str) -> datetime | None:
        """Send what is owed; answers when the tenant owes its next ticket, None when it owes none."""
        if administration not in self._administrations:
            return None
        sent = self._relay(administration)
        earliest = self._application.run(earliest_ticket_at, FindEarliestTicket(), tenant(NAME, administration))
        if earliest is None:
            self._fruitless.pop(administration, None)
            return None
        return self._next_visit(administration, earliest, sent)

    def _relay(self, administration: str) -> int:
        context = tenant(NAME, administration)
        numbered = self._application.run(relay, Relay(), context)
        return numbered + self._application.run(send_owed_deliveries, SendOwedDeliveries(), context)

    def _next_visit(self, administration: str, earliest: datetime, sent: int) -> datetime:
        """A ticket that is owed already found its window full: look again soon, and less and less often while nothing
        moves."""
        now = self._clock.now()
        if earliest > now:
            self._fruitless.pop(administration, None)
            return earliest
        fruitless = 0 if sent else self._fruitless.get(administration, 0) + 1
        self._fruitless[administration] = fruitless
        return now + min(SOONEST * (1 << min(fruitless, 10)), LATEST_WHILE_DUE)

    def _leave_hint(self, administration: str, at: datetime) -> None:
        """Best effort: the sweep comes by in any case."""
        try:
            self._application.run(wake, Wake(administration=administration, at=at), platform(NAME))
        except Exception as error:
            _log.warning("%s cannot be woken at %s: %s", administration, at, error)
