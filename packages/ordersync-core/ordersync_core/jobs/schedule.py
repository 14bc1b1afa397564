"""When scheduled jobs are due: cron expressions read in a time zone.

The expression is walked over wall time; these rules turn wall times into moments when the zone changes its clock:

- Fixed times (neither minute nor hour starts with `*`, as in `30 2 * * *`): a wall time that does not exist is due
  once, at the first moment after the gap; several that fall into one gap are due together, once. A wall time that
  exists twice is due at its first occurrence only.
- Intervals (minute or hour starts with `*`, as in `*/15 * * * *`) go by elapsed time: they are due whenever the
  clock on the wall shows a matching minute. What falls into a gap is not made up for, and both passes of a repeated
  hour count, so that "every 15 minutes" stays every 15 minutes.

These are the rules of Debian's cron. If day or weekday starts with `*`, a date must match both fields; otherwise
either one is enough: also as cron does it.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen
from croniter import (  # type: ignore[import-untyped]  # it publishes no types
    CroniterBadDateError,
    CroniterError,
    croniter,
)

from ordersync_core.kernel.errors import InvalidInput, Violation

MAXIMUM_CRON = 200
MAXIMUM_ZONE = 64
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
LONGEST_GAP_YEARS = 40
"""The rarest date cron can name, 29 February on one weekday, comes back after 40 years at the latest (over 2100)."""
LONGEST_GAP = timedelta(days=366 * LONGEST_GAP_YEARS)
SCHEDULES_REMEMBERED = 10_000
REFERENCE = datetime(2024, 1, 1, tzinfo=UTC)
"""Where the search for a first due moment starts, so that an expression is judged the same at any time."""

_VALUE = "[0-9]{1,2}|[a-z]{3}"
_TERM = rf"(\*|({_VALUE})(-({_VALUE}))?)(/[0-9]{{1,2}})?"
_FIELD = re.compile(rf"{_TERM}(,{_TERM})*", re.IGNORECASE)
_DAY_FIELD = re.compile(rf"({_TERM}|l)(,({_TERM}|l))*", re.IGNORECASE)
_RANGE = re.compile(r"(\w+)-(\w+)")
_STEP = re.compile("/([0-9]+)")
_FIELDS = (("minute", 60), ("hour", 24), ("day", 31), ("month", 12), ("weekday", 7))
_NOT_OF_IANA = re.compile("localtime|posixrules|Factory|posix/.*|right/.*")


@frozen
class Schedule:
    """Due moments as a rule; made by `parse`.

    cron: five fields: minute, hour, day, month, weekday.
    time_zone: its IANA name, such as Europe/Amsterdam.
    """

    cron: str
    time_zone: str


def parse(cron: str, time_zone: str) -> Schedule:
    """The schedule; spaces between the fields are evened out.

    Fields hold numbers, three-letter English names, `*`, ranges, lists and steps; the day also `L`, the last of the
    month. Weekday 0 and 7 are Sunday.

    Raises:
        InvalidInput: the zone is unknown, the expression is malformed, or it never fires.
    """
    _zone(time_zone)
    if len(cron) > MAXIMUM_CRON:
        raise _invalid_cron(f"a cron expression has at most {MAXIMUM_CRON} characters, this one has {len(cron)}")
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        raise _invalid_cron(
            f"a cron expression has five fields (minute, hour, day, month, weekday), but {cron!r} has {len(fields)}"
        )
    for place, field in enumerate(fields):
        _check_field(place, field)
    schedule = Schedule(" ".join(fields), time_zone)
    next_due(schedule, after=REFERENCE)
    return schedule


def next_due(schedule: Schedule, *, after: datetime) -> datetime:
    """The first due moment later than `after`, in UTC.

    Raises:
        InvalidInput: there is none within 40 years, which means that there never is.
    """
    return next(_moments(schedule, after))


def due_moments(schedule: Schedule, *, after: datetime, until: datetime) -> Iterator[datetime]:
    """The due moments later than `after`, up to and including `until`, in order and in UTC."""
    return takewhile(lambda moment: moment <= until, _moments(schedule, after))


def missed(schedule: Schedule, *, due: datetime, now: datetime) -> tuple[datetime, int, datetime]:
    """What one run stands for at `now`, when the moment `due` has come: the latest due moment, how many due moments
    came before it since `due` (that one included), and the next due moment after `now`.

    The count is exact. The work is bounded by the days, not by the moments: one step for each day with a due moment,
    besides the moments of the first and the last day and of days on which the zone changes its clock (1,440 a day at
    most). A minute cron over ten years takes some 3,700 steps and 35,000 moments.

    Raises:
        ValueError: `due` lies after `now`.
    """
    if due > now:
        raise ValueError(f"{due} has not come yet at {now}")
    following = _following(schedule, due)
    if following > now:
        return due, 0, following
    return _latest(schedule, following, now), _count(schedule, due, now), next_due(schedule, after=now)


@lru_cache(maxsize=SCHEDULES_REMEMBERED)
def _following(schedule: Schedule, due: datetime) -> datetime:
    """`next_due`, reckoned once for all definitions of one schedule that are due together."""
    return next_due(schedule, after=due)


def _zone(time_zone: str) -> ZoneInfo:
    try:
        if len(time_zone) > MAXIMUM_ZONE or _NOT_OF_IANA.fullmatch(time_zone):
            raise ZoneInfoNotFoundError(time_zone)
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # ZoneInfo opens files: a folder's name is an OSError
        text = f"{time_zone[:MAXIMUM_ZONE]!r} is not a time zone such as Europe/Amsterdam"
        raise InvalidInput(text, (Violation("/time_zone", text),)) from None


def _check_field(place: int, field: str) -> None:
    name, size = _FIELDS[place]
    grammar = _DAY_FIELD if name == "day" else _FIELD
    try:
        if not grammar.fullmatch(field):
            raise CroniterError
        _values(place, field)
    except CroniterError:
        raise _invalid_cron(f"the {name} {field!r} of the cron expression is malformed or out of range") from None
    if any(int(step) > size for step in _STEP.findall(field)):
        raise _invalid_cron(f"the {name} {field!r} of the cron expression steps over more than there are: {size}")
    for first, last in _RANGE.findall(field):
        # croniter would take 5-5 for the whole field; 0-7, every weekday, is meant so
        rises = first.isdigit() and last.isdigit() and int(first) < int(last)
        if not rises and _values(place, first) == _values(place, last):
            raise _invalid_cron(f"the {name} {field!r} of the cron expression holds a range that ends where it starts")


def _values(place: int, field: str) -> object:
    """What croniter reads in a field. Raises CroniterError."""
    alone = ["*"] * place + [field] + ["*"] * (len(_FIELDS) - 1 - place)
    return croniter.expand(" ".join(alone))


def _invalid_cron(text: str) -> InvalidInput:
    return InvalidInput(text, (Violation("/cron", text),))


def _never_fires(cron: str) -> InvalidInput:
    return _invalid_cron(f"the cron expression {cron!r} never fires")


def _moments(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """All due moments later than `after`; endless."""
    if after.tzinfo is None:
        raise ValueError(f"{after} has no time zone")
    minute, hour, *_ = schedule.cron.split()
    goes_by_elapsed_time = minute.startswith("*") or hour.startswith("*")
    walk = _by_elapsed_time if goes_by_elapsed_time else _by_wall_time
    return walk(schedule.cron, _zone(schedule.time_zone), after.astimezone(UTC))


def _by_wall_time(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    latest = after
    for wall in _wall_times(cron, after=_wall(after, _offset(after, zone))):
        moment = _first_occurrence(wall, zone)
        if moment > latest:
            yield moment
            latest = moment


def _by_elapsed_time(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Walks with one offset from UTC as far as it holds, then again from the change on with the next one."""
    since = latest = after
    offset = _offset(since, zone)
    walls = _wall_times(cron, after=_wall(since, offset))
    while since - latest <= LONGEST_GAP:
        moment = _moment(next(walls), offset)
        change = _first_change(zone, since, moment, offset)
        if change is None:
            yield moment
            since = latest = moment
        else:
            since = change - SECOND  # so that the change itself may be due
            offset = _offset(change, zone)
            walls = _wall_times(cron, after=_wall(since, offset))
    raise _never_fires(cron)


def _wall_times(cron: str, *, after: datetime) -> Iterator[datetime]:
    """Matching wall times later than `after`, without a zone; endless."""
    walk = croniter(
        cron, after, ret_type=datetime, max_years_between_matches=LONGEST_GAP_YEARS, implement_cron_bug=True
    )
    try:
        while True:
            yield walk.get_next()
    except CroniterBadDateError:
        raise _never_fires(cron) from None


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    """How far the zone's clock is ahead of UTC at the moment."""
    return moment.astimezone(zone).replace(tzinfo=None) - moment.replace(tzinfo=None)


def _wall(moment: datetime, offset: timedelta) -> datetime:
    return moment.replace(tzinfo=None) + offset


def _moment(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC)


def _first_occurrence(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clock shows `wall` first; for a wall time that is skipped, the first moment after the gap."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(moment, _offset(moment, zone)) == wall:
        return moment
    before_gap = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)  # PEP 495: the fold takes the offset after the gap
    gap = _first_change(zone, before_gap, moment, _offset(before_gap, zone))
    return moment if gap is None else gap


def _first_change(zone: ZoneInfo, since: datetime, until: datetime, offset: timedelta) -> datetime | None:
    """The first moment in (since, until] at which the zone's offset is not `offset`; None when it holds throughout.

    Looks once a day: no zone changes its clock and changes it back within one.
    """
    same = since.replace(microsecond=0)
    while same < until:
        probe = min(same + DAY, until)
        if _offset(probe, zone) != offset:
            return _narrowed(zone, same, probe, offset)
        same = probe
    return None


def _narrowed(zone: ZoneInfo, same: datetime, changed: datetime, offset: timedelta) -> datetime:
    while changed - same > SECOND:
        middle = same + SECOND * ((changed - same) // SECOND // 2)
        if _offset(middle, zone) == offset:
            same = middle
        else:
            changed = middle
    return changed


def _latest(schedule: Schedule, due: datetime, now: datetime) -> datetime:
    """The last due moment up to `now`, of which `due` is an earlier one; found by halving the time between them."""
    latest, unknown_from = due, now
    while unknown_from - latest > SECOND:
        middle = latest + (unknown_from - latest) / 2
        following = next_due(schedule, after=middle)
        if following <= now:
            latest = following
        else:
            unknown_from = middle
    return latest


def _count(schedule: Schedule, after: datetime, until: datetime) -> int:
    """How many due moments lie in (after, until]; a whole plain day with one is not walked but known."""
    zone = _zone(schedule.time_zone)
    count = 0
    in_a_day: int | None = None
    walk = _moments(schedule, after)
    while (moment := next(walk)) <= until:
        start, end = _day(moment, zone)
        if not (after < start <= moment < end <= until and end - start == DAY):
            count += 1
            continue
        if in_a_day is None:
            in_a_day = sum(1 for _ in due_moments(schedule, after=start - SECOND, until=end - SECOND))
        count += in_a_day
        walk = _moments(schedule, end - SECOND)
    return count


def _day(moment: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The moments at which the zone's day around `moment` starts and ends."""
    midnight = datetime.combine(moment.astimezone(zone), time())
    return _first_occurrence(midnight, zone), _first_occurrence(midnight + DAY, zone)
