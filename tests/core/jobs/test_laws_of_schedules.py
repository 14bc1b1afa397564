"""Cron over clock changes as laws: every change of ten years in zones that differ in all there is to differ in, against
a look at the clock every minute. The oracle knows `zoneinfo` only."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ordersync_core.jobs.model import JobDefinition, JobType, due_run
from ordersync_core.jobs.schedule import due_moments, next_due, parse
from ordersync_core.testing.contracts.examples import new_id

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

ZONES = {
    "Europe/Amsterdam": 2020,
    "America/New_York": 2020,
    "Australia/Lord_Howe": 2020,  # half an hour
    "America/Sao_Paulo": 2010,  # at midnight, until 2019
    "Africa/Casablanca": 2015,  # back and forth around Ramadan, below its standard time
    "Pacific/Apia": 2005,  # the whole of 30 December 2011 was skipped
    "Antarctica/Troll": 2020,  # two hours
    "Asia/Tehran": 2015,  # at midnight, half an hour off the full hour, until 2022
}
"""Ten years from the beginning of each of these."""

FIXED = ("30 2 * * *", "0 0 * * *", "0,30 0-3 * * *", "15 12 30 12 *")
INTERVALS = ("*/20 * * * *", "10 */3 * * *")
MATCHING: dict[str, Callable[[datetime], bool]] = {
    "30 2 * * *": lambda w: (w.hour, w.minute) == (2, 30),
    "0 0 * * *": lambda w: (w.hour, w.minute) == (0, 0),
    "0,30 0-3 * * *": lambda w: w.hour <= 3 and w.minute in (0, 30),
    "15 12 30 12 *": lambda w: (w.month, w.day, w.hour, w.minute) == (12, 30, 12, 15),
    "*/20 * * * *": lambda w: w.minute % 20 == 0,
    "10 */3 * * *": lambda w: w.hour % 3 == 0 and w.minute == 10,
}
"""What the expressions mean, told apart from any parser."""


def ten_years(zone: str) -> tuple[datetime, datetime]:
    start = datetime(ZONES[zone], 1, 1, tzinfo=UTC)
    return start, start.replace(year=start.year + 10)


def changes(zone: str) -> list[datetime]:
    """The first minute of each other offset, found by looking every hour and then every minute."""
    start, end = ten_years(zone)
    found = []
    hour, offset = start, offset_at(start, zone)
    while hour < end:
        following = hour + HOUR
        if offset_at(following, zone) != offset:
            minute = next(m for m in minutes(hour, following) if offset_at(m, zone) != offset)
            found.append(minute)
            offset = offset_at(following, zone)
        hour = following
    return found


def minutes(after: datetime, until: datetime) -> Iterator[datetime]:
    while (after := after + MINUTE) <= until:
        yield after


def offset_at(moment: datetime, zone: str) -> timedelta:
    return moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)


def walls(zone: str, after: datetime, until: datetime) -> list[tuple[datetime, list[datetime], bool]]:
    """For each minute: what the clock shows, which wall times were skipped just before, and whether it shows this for
    the second time."""
    zone_info = ZoneInfo(zone)
    shown = []
    before = after.astimezone(zone_info).replace(tzinfo=None, fold=0)
    for moment in minutes(after, until):
        local = moment.astimezone(zone_info)
        now = local.replace(tzinfo=None, fold=0)
        skipped = [before + number * MINUTE for number in range(1, (now - before) // MINUTE)]
        shown.append((now, skipped, local.fold == 1))
        before = now
    return shown


@pytest.mark.parametrize("zone", ZONES)
def test_each_clock_change_of_ten_years_is_met_as_a_look_at_the_clock_every_minute_says(zone: str) -> None:
    found = changes(zone)
    assert found, "the zone was chosen for its changes"
    for change in found:
        after, until = change - 5 * HOUR, change + 30 * HOUR
        shown = walls(zone, after, until)
        for cron in (*FIXED, *INTERVALS):
            matches, fixed = MATCHING[cron], cron in FIXED
            expected = [
                moment
                for moment, (now, skipped, again) in zip(minutes(after, until), shown, strict=True)
                if (matches(now) and not (fixed and again)) or (fixed and any(map(matches, skipped)))
            ]
            moments = due_moments(parse(cron, zone), after=after, until=until)
            assert list(moments) == expected, (zone, change, cron)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 0 * * *", "30 23 * * *", "15 1 * * *"])
def test_a_daily_time_runs_once_for_every_date_of_ten_years(cron: str, zone: str) -> None:
    """Also for a date on which it does not exist, or exists twice: once, and at once with another that is due then."""
    start, end = ten_years(zone)
    minute, hour, *_ = cron.split()
    first = datetime(start.year, 1, 1, int(hour), int(minute)) - DAY  # noqa: DTZ001 - what the clock shows
    expected = {first_shown(first + number * DAY, zone) for number in range((end - start).days + 3)}
    runs = list(due_moments(parse(cron, zone), after=start, until=end))
    assert runs == sorted(moment for moment in expected if start < moment <= end)


def first_shown(wall: datetime, zone: str) -> datetime:
    """When the clock shows this first; for what it never shows, the end of the gap."""
    moment = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) == wall:
        return moment
    before_gap = wall.replace(tzinfo=ZoneInfo(zone), fold=1).astimezone(UTC)
    offset = offset_at(before_gap, zone)
    return next(minute for minute in minutes(before_gap, moment + DAY) if offset_at(minute, zone) != offset)


def test_a_date_that_was_skipped_altogether_runs_as_the_next_one_begins() -> None:
    """Samoa crossed the date line: after 29 December 2011 came the 31st."""
    zone = ZoneInfo("Pacific/Apia")
    start = datetime(2011, 12, 29, tzinfo=zone)
    due = due_moments(parse("30 2 * * *", "Pacific/Apia"), after=start, until=start + 3 * DAY)
    assert [moment.astimezone(zone).strftime("%d %H:%M") for moment in due] == ["29 02:30", "31 00:00", "31 02:30"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 * * * *"])
def test_a_definition_that_is_looked_at_at_any_time_has_one_run_for_each_due_moment(cron: str, zone: str) -> None:
    """However the looks fall around a clock change, what its runs stand for together is every due moment, once."""
    change = changes(zone)[0]
    start, end = change - DAY, change + DAY
    definition = JobDefinition(
        id=new_id(),
        administration="alpha",
        type=JobType.ITEM_SYNC,
        schedule=parse(cron, zone),
        next_due=next_due(parse(cron, zone), after=start),
    )
    everything = list(due_moments(definition.schedule, after=start, until=end))
    stood_for: list[datetime] = []
    now, pause = start, MINUTE
    while now < end:
        now, pause = min(now + pause, end), pause * 2 if pause < 7 * HOUR else MINUTE
        while definition.next_due is not None and definition.next_due <= now:
            run, definition = due_run(definition, now=now, ticket_at=now, correlation_id="")
            covered = everything[len(stood_for) : len(stood_for) + run.missed + 1]
            assert covered[-1] == run.due_at
            stood_for += covered
    assert stood_for == everything
