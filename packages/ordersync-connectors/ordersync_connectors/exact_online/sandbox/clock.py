"""The sandbox's own time, which tests and demos may move, and the site's wall time made from it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from .settings import EARLIEST_CLOCK


class SandboxClock:
    """Real time plus an offset, or one moment while it is frozen."""

    def __init__(self, start: datetime | None, zone: ZoneInfo) -> None:
        self._zone = zone
        self._offset = timedelta(0)
        self._frozen_at: datetime | None = None
        if start is not None:
            self.move_to(start)

    def now(self) -> datetime:
        return self._frozen_at or datetime.now(UTC) + self._offset

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def move_to(self, moment: datetime) -> None:
        """Go to an aware moment, back as well as forth; ValueError before `EARLIEST_CLOCK`."""
        if moment < EARLIEST_CLOCK:
            raise ValueError(f"the clock cannot go before {EARLIEST_CLOCK:%Y-%m-%d}")
        if self._frozen_at is not None:
            self._frozen_at = moment.astimezone(UTC)
        else:
            self._offset = moment - datetime.now(UTC)

    def freeze(self) -> None:
        self._frozen_at = self.now()

    def run_on(self) -> None:
        if self._frozen_at is not None:
            stopped, self._frozen_at = self._frozen_at, None
            self.move_to(stopped)

    def epoch_milliseconds(self) -> int:
        return int(self.now().timestamp() * 1000)

    def local(self) -> datetime:
        """Now, in the site's zone."""
        return self.now().astimezone(self._zone)

    def wall_milliseconds(self) -> int:
        """The site's wall time written as if it were UTC, the form of `Created` and `Modified`."""
        return wall_milliseconds(self.local())

    def utc_offset_seconds(self) -> int:
        offset = self.local().utcoffset()
        return int(offset.total_seconds()) if offset else 0


def wall_milliseconds(moment: datetime) -> int:
    """What the hands of a clock show at `moment`, zone dropped, as milliseconds since 1970-01-01T00:00."""
    return (moment.replace(tzinfo=None) - _EPOCH) // timedelta(milliseconds=1)


def from_wall_milliseconds(milliseconds: int) -> datetime:
    """The naive wall time that `wall_milliseconds` wrote."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  wall time has no zone
