from datetime import datetime, timedelta

from ordersync_core.jobs.commands import BeatRun
from ordersync_core.jobs.handlers import Begun, beat_run
from ordersync_core.jobs.model import Progress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context

TELL_EVERY = timedelta(seconds=1)


class BeatingProgress:
    """The progress of one begun run, written at most once a second; a beat in between keeps its lease."""

    def __init__(self, application: Application, begun: Begun, context: Context) -> None:
        self._application = application
        self._begun = begun
        self._context = context
        self._clock: Clock = application.resolve(Clock)
        self._latest = begun.run.progress
        self._told_at: datetime | None = None

    def tell(self, progress: Progress) -> None:
        self._latest = progress
        now = self._clock.now()
        if self._told_at is None or now - self._told_at >= TELL_EVERY:
            self._told_at = now
            self.beat()

    def beat(self) -> None:
        self._application.run(
            beat_run,
            BeatRun(id=self._begun.run.id, lease=self._begun.lease, progress=self._latest),
            self._context,
        )
