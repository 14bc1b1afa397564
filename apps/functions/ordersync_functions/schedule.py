"""NCRONTAB expressions: cron with a sixth field, the seconds, in front; in UTC, as on Azure."""

from datetime import datetime

from croniter import croniter  # type: ignore[import-untyped]  # it publishes no types

FIELDS = 6


def next_tick(schedule: str, *, after: datetime) -> datetime:
    """The first moment after `after` that fits; ValueError for anything but six fields."""
    if len(schedule.split()) != FIELDS:
        raise ValueError(f"{schedule!r} is not an NCRONTAB expression of six fields")
    moment: datetime = croniter(schedule, after, second_at_beginning=True).get_next(datetime)
    return moment
