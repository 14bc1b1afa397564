from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from attrs import frozen
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from ordersync_core.jobs.schedule import Schedule, due_moments, missed, next_due, parse
from ordersync_core.kernel.errors import InvalidInput

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ["Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca"]
EXPRESSIONS = [
    "30 2 * * *",
    "0 2 * * *",
    "0 3 * * *",
    "45 1 * * *",
    "15 0 * * *",
    "0 0 * * sun",
    "0,30 2 * * *",
    "0,30 0-3 * * *",
    "10-50/20 1,2 * * *",
    "59 23 * * *",
    "0 2 25-31 3,10 *",
    "0 2 1 * sun",
    "0 2 L * *",
    "*/15 * * * *",
    "0 * * * *",
    "20 1-23/2 * * *",
    "20 * * * *",
    "*/20 0-4 * * *",
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days_of_change(zone: str, *, years: int = 10) -> list[datetime]:
    """Midnights (UTC) before which the zone's offset was another one than a day later."""
    days = [NEW_YEAR + number * DAY for number in range(366 * years)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, offset, following in zip(days, offsets, offsets[1:], strict=False) if offset != following]


CHANGES = [(zone, day) for zone in ZONES for day in days_of_change(zone)]


def due(cron: str, zone: str, after: str, until: str) -> list[str]:
    moments = due_moments(parse(cron, zone), after=utc(after), until=utc(until))
    return [f"{moment:%m-%d %H:%M}" for moment in moments]


def refusal(cron: str, zone: str = "UTC") -> tuple[str, str]:
    with pytest.raises(InvalidInput) as refused:
        parse(cron, zone)
    (violation,) = refused.value.violations
    assert violation.message == str(refused.value)
    return violation.pointer, violation.message


class TestParse:
    def test_keeps_the_expression_and_the_zone(self) -> None:
        assert parse(" 0  3 * * MON-fri ", "Europe/Amsterdam") == Schedule("0 3 * * MON-fri", "Europe/Amsterdam")

    @pytest.mark.parametrize(
        "cron",
        [
            "0 0 29 2 *",
            "0 0 29 2 */7",
            "0 3 L * *",
            "0 22-2 * * *",
            "5/15 * * * *",
            "0 0 * * 0-7",
            "0 0 31 2 mon",
            "0 0 * * 7",
        ],
    )
    def test_takes_what_fires_however_rarely(self, cron: str) -> None:
        assert parse(cron, "Europe/Amsterdam").cron == cron

    @pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 2 */2"])
    def test_refuses_what_never_fires(self, cron: str) -> None:
        assert refusal(cron) == ("/cron", f"the cron expression {cron!r} never fires")

    def test_refuses_what_only_falls_into_gaps(self) -> None:
        """31 March is a Sunday only on the day that skips this hour, and intervals do not make up for it."""
        assert refusal("*/15 2 31 3 */7", "Europe/Amsterdam")[1].endswith("never fires")
        assert parse("*/15 2 31 3 */7", "UTC")

    @pytest.mark.parametrize(("cron", "count"), [("* * * * * *", 6), ("0 0 * *", 4), ("@daily", 1), ("", 0)])
    def test_refuses_other_than_five_fields(self, cron: str, count: int) -> None:
        assert refusal(cron)[1] == (
            f"a cron expression has five fields (minute, hour, day, month, weekday), but {cron!r} has {count}"
        )

    @pytest.mark.parametrize(
        ("cron", "named"),
        [
            ("60 * * * *", "minute '60'"),
            ("*/0 * * * *", "minute '*/0'"),
            ("* 24 * * *", "hour '24'"),
            ("* r * * *", "hour 'r'"),
            ("* * 0 * *", "day '0'"),
            ("* * 3w * *", "day '3w'"),
            ("* * * 13 *", "month '13'"),
            ("* * * foo *", "month 'foo'"),
            ("* * * * jan", "weekday 'jan'"),
            ("* * * * 8", "weekday '8'"),
            ("* * * * fri#2", "weekday 'fri#2'"),
            ("1,,2 * * * *", "minute '1,,2'"),
            ("h * * * *", "minute 'h'"),
            ("٣ * * * *", "minute '٣'"),
        ],
    )
    def test_names_the_field_that_is_wrong(self, cron: str, named: str) -> None:
        assert refusal(cron) == ("/cron", f"the {named} of the cron expression is malformed or out of range")

    def test_refuses_a_step_that_never_steps(self) -> None:
        assert refusal("*/90 * * * *")[1].endswith("steps over more than there are: 60")

    @pytest.mark.parametrize("cron", ["5-5 * * * *", "0 3-03 * * *", "0 0 * * 7-0", "0 0 * * mon-1", "0 0 * * 7-7/2"])
    def test_refuses_a_range_of_one(self, cron: str) -> None:
        """croniter would read the whole field in it."""
        assert refusal(cron)[1].endswith("holds a range that ends where it starts")

    @pytest.mark.parametrize(
        "zone", ["Mars/Olympus", "", "Europe", "../UTC", "localtime", "right/UTC", "a\0b", "é", "Europe/Amsterdam "]
    )
    def test_refuses_unknown_zones(self, zone: str) -> None:
        assert refusal("0 0 * * *", zone) == (
            "/time_zone",
            f"{zone!r} is not a time zone such as Europe/Amsterdam",
        )

    @settings(deadline=None)
    @given(cron=st.text(max_size=300), zone=st.one_of(st.just("UTC"), st.text()))
    def test_refuses_or_takes_any_text(self, cron: str, zone: str) -> None:
        with suppress(InvalidInput):
            assert parse(cron, zone).time_zone == zone

    @settings(deadline=None)
    @given(cron=st.text(alphabet="0123456789*,-/ LlRrHhWw#?@monsun", max_size=30))
    def test_refuses_or_takes_any_text_of_cron_characters(self, cron: str) -> None:
        with suppress(InvalidInput):
            assert parse(cron, "UTC").cron == " ".join(cron.split())


class TestDates:
    """Which dates an expression means: as cron does, a day or weekday field that starts with * must match too."""

    @pytest.mark.parametrize(
        "cron",
        [
            "0 0 13 * fri",
            "0 0 * * fri",
            "0 0 */2 * mon",
            "0 0 13 * */2",
            "0 0 1-31 * mon",
            "0 0 L * fri",
            "0 0 1,L */5 *",
            "0 0 31 * mon",
            "0 0 30 2 mon,tue",
            "0 0 28-31 2 */6",
            "0 0 31 4,6 5-7",
            "0 0 1 jan-mar,dec 0,7",
            "0 0 2/9 * 1-5/2",
        ],
    )
    def test_agrees_with_cronsim(self, cron: str) -> None:
        moments = due_moments(parse(cron, "UTC"), after=NEW_YEAR, until=NEW_YEAR + 50 * 366 * DAY)
        assert list(islice(moments, 15)) == list(islice(CronSim(cron, NEW_YEAR), 15))


class TestClockChanges:
    def test_a_fixed_time_in_the_missing_hour_runs_once_after_it(self) -> None:
        assert due("30 2 * * *", "Europe/Amsterdam", "2026-03-27", "2026-03-31") == [
            "03-27 01:30",
            "03-28 01:30",
            "03-29 01:00",
            "03-30 00:30",
        ]

    def test_several_fixed_times_in_the_missing_hour_run_once_together(self) -> None:
        assert due("0,30 2,3 * * *", "Europe/Amsterdam", "2026-03-29", "2026-03-29 12:00") == [
            "03-29 01:00",
            "03-29 01:30",
        ]

    def test_a_fixed_time_in_the_repeated_hour_runs_at_its_first_pass(self) -> None:
        assert due("30 2 * * *", "Europe/Amsterdam", "2026-10-24", "2026-10-27") == [
            "10-24 00:30",
            "10-25 00:30",
            "10-26 01:30",
        ]

    def test_a_fixed_time_does_not_run_again_when_asked_between_the_passes(self) -> None:
        schedule = parse("30 2 * * *", "Europe/Amsterdam")
        assert next_due(schedule, after=utc("2026-10-25 00:45")) == utc("2026-10-26 01:30")
        assert next_due(schedule, after=utc("2026-10-25 01:15")) == utc("2026-10-26 01:30")

    def test_half_an_hour_is_skipped_and_repeated_on_lord_howe(self) -> None:
        assert due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-03 23:00") == ["10-03 15:30"]
        assert due("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", "2026-04-04 23:00") == ["04-04 14:45"]

    def test_a_midnight_that_does_not_exist_runs_when_the_day_starts(self) -> None:
        assert due("0 0 * * *", "America/Santiago", "2026-09-06", "2026-09-07") == ["09-06 04:00"]

    def test_intervals_go_on_through_both_passes_and_skip_what_is_missing(self) -> None:
        assert len(due("*/15 * * * *", "Europe/Amsterdam", "2026-10-24 21:59", "2026-10-25 22:59")) == 25 * 4
        assert len(due("*/15 * * * *", "Europe/Amsterdam", "2026-03-28 22:59", "2026-03-29 21:59")) == 23 * 4
        assert due("0 */2 * * *", "Europe/Amsterdam", "2026-03-28 22:59", "2026-03-29 04:00") == [
            "03-28 23:00",
            "03-29 02:00",
            "03-29 04:00",
        ]

    def test_intervals_see_the_rest_of_an_hour_that_is_half_repeated(self) -> None:
        """cronsim walks by whole hours here, from 01:00 over the repeated half hour to 02:30, and loses 02:20."""
        assert due("20 */2 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", "2026-04-04 18:00") == [
            "04-04 13:20",
            "04-04 15:50",
            "04-04 17:50",
        ]

    @pytest.mark.parametrize("zone", ZONES)
    @pytest.mark.parametrize("cron", EXPRESSIONS)
    def test_ten_years_of_clock_changes_agree_with_cronsim(self, cron: str, zone: str) -> None:
        schedule = parse(cron, zone)
        for day in days_of_change(zone):
            after, until = day - DAY / 2, day + 1.5 * DAY
            expected = list(until_moment(CronSim(cron, after.astimezone(ZoneInfo(zone))), until))
            assert list(due_moments(schedule, after=after, until=until)) == expected

    @pytest.mark.parametrize("zone", ZONES)
    @pytest.mark.parametrize("cron", ["30 2 * * sun", "0 3 L * *", "15 0,12 1 * *", "0 */6 29 2 *"])
    def test_ten_years_agree_with_cronsim(self, cron: str, zone: str) -> None:
        until = NEW_YEAR + 3652 * DAY
        expected = list(until_moment(CronSim(cron, NEW_YEAR.astimezone(ZoneInfo(zone))), until))
        assert list(due_moments(parse(cron, zone), after=NEW_YEAR, until=until)) == expected


def until_moment(moments: Iterator[datetime], until: datetime) -> Iterator[datetime]:
    for moment in moments:
        if moment.astimezone(UTC) > until:
            return
        yield moment.astimezone(UTC)


@frozen
class Field:
    """A field of an expression and the values it selects."""

    text: str
    values: frozenset[int]


def fields(low: int, high: int, *, numbers: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Field]:
    """Fields for values from low to high; `numbers` narrows those that are named."""
    numbers = st.integers(low, high) if numbers is None else numbers
    every = frozenset(range(low, high + 1))
    return st.one_of(
        st.just(Field("*", every)),
        st.integers(1, high).map(lambda step: Field(f"*/{step}", frozenset(range(low, high + 1, step)))),
        st.frozensets(numbers, min_size=1, max_size=3).map(
            lambda chosen: Field(",".join(map(str, sorted(chosen))), chosen)
        ),
        st.tuples(st.sets(numbers, min_size=2, max_size=2).map(sorted), st.integers(1, high)).map(
            lambda drawn: Field(
                f"{drawn[0][0]}-{drawn[0][1]}/{drawn[1]}", frozenset(range(drawn[0][0], drawn[0][1] + 1, drawn[1]))
            )
        ),
    )


@frozen
class Expression:
    minute: Field
    hour: Field
    weekday: Field

    @property
    def cron(self) -> str:
        return f"{self.minute.text} {self.hour.text} * * {self.weekday.text}"

    @property
    def goes_by_elapsed_time(self) -> bool:
        return self.minute.text.startswith("*") or self.hour.text.startswith("*")

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.isoweekday() % 7 in self.weekday.values
        )


hours = st.one_of(fields(0, 23, numbers=st.integers(0, 4)), fields(0, 23))
expressions = st.builds(Expression, fields(0, 59), hours, fields(0, 6))


def minute_by_minute(expression: Expression, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """The rule, told by looking at the clock every minute."""
    found = []
    moment = after
    now = after.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    while (moment := moment + MINUTE) <= until:
        local = moment.astimezone(ZoneInfo(zone))
        before, now = now, local.replace(tzinfo=None, fold=0)
        if expression.goes_by_elapsed_time:
            is_due = expression.matches(now)
        else:
            skipped = [before + number * MINUTE for number in range(1, (now - before) // MINUTE)]
            is_due = (local.fold == 0 and expression.matches(now)) or any(map(expression.matches, skipped))
        if is_due:
            found.append(moment)
    return found


@settings(deadline=None)
@given(expression=expressions, change=st.sampled_from(CHANGES), offset=st.integers(0, 24 * 60))
def test_due_moments_are_those_of_a_look_at_the_clock_every_minute(
    expression: Expression, change: tuple[str, datetime], offset: int
) -> None:
    zone, day = change
    after = day + offset * MINUTE
    until = after + DAY / 2
    moments = list(due_moments(parse(expression.cron, zone), after=after, until=until))
    assert moments == minute_by_minute(expression, zone, after, until)


@settings(deadline=None)
@given(
    expression=expressions,
    change=st.sampled_from(CHANGES),
    seconds=st.floats(0, 2 * 86_400, allow_nan=False),
)
def test_the_next_due_moment_is_later_and_nothing_lies_between(
    expression: Expression, change: tuple[str, datetime], seconds: float
) -> None:
    zone, day = change
    schedule = parse(expression.cron, zone)
    after = day + timedelta(seconds=seconds)
    moment = next_due(schedule, after=after)
    assert moment > after
    assert moment.tzinfo is UTC
    assert next_due(schedule, after=after + (moment - after) / 2) == moment
    assert list(due_moments(schedule, after=after, until=moment)) == [moment]


class TestMissed:
    def test_a_run_in_time_stands_for_its_own_moment(self) -> None:
        hourly = parse("0 * * * *", "UTC")
        assert missed(hourly, due=utc("2026-05-01 12:00"), now=utc("2026-05-01 12:00")) == (
            utc("2026-05-01 12:00"),
            0,
            utc("2026-05-01 13:00"),
        )

    def test_after_downtime_one_run_stands_for_all_and_says_how_many_it_missed(self) -> None:
        hourly = parse("0 * * * *", "UTC")
        assert missed(hourly, due=utc("2026-05-01 12:00"), now=utc("2026-05-01 15:30")) == (
            utc("2026-05-01 15:00"),
            3,
            utc("2026-05-01 16:00"),
        )

    def test_ten_years_of_minutes_are_counted(self) -> None:
        latest, count, following = missed(
            parse("* * * * *", "Europe/Amsterdam"), due=utc("2026-05-01 12:00"), now=utc("2036-05-01 12:00")
        )
        assert (latest, following) == (utc("2036-05-01 12:00"), utc("2036-05-01 12:01"))
        assert count == (latest - utc("2026-05-01 12:00")) // MINUTE

    def test_refuses_a_moment_that_has_not_come(self) -> None:
        with pytest.raises(ValueError, match="has not come yet"):
            missed(parse("* * * * *", "UTC"), due=utc("2026-05-01"), now=utc("2026-04-30"))

    @settings(deadline=None)
    @given(
        expression=expressions,
        change=st.sampled_from(CHANGES),
        early=st.integers(0, 3 * 24 * 60),
        downtime=st.integers(0, 5 * 24 * 60),
    )
    def test_counts_what_lies_between(
        self, expression: Expression, change: tuple[str, datetime], early: int, downtime: int
    ) -> None:
        zone, day = change
        schedule = parse(expression.cron, zone)
        first = next_due(schedule, after=day - early * MINUTE)
        now = first + downtime * MINUTE
        moments = [first, *due_moments(schedule, after=first, until=now)]
        assert missed(schedule, due=first, now=now) == (moments[-1], len(moments) - 1, next_due(schedule, after=now))


@pytest.mark.parametrize("ask", [lambda s, at: next_due(s, after=at), lambda s, at: missed(s, due=at, now=at)])
def test_refuses_moments_without_a_zone(ask: Callable[[Schedule, datetime], object]) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        ask(parse("* * * * *", "UTC"), datetime(2026, 1, 1))  # noqa: DTZ001
