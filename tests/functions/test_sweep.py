from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ordersync_functions.sweep import due_in_sweep

START = datetime(2026, 3, 1, tzinfo=UTC)
PERIOD = timedelta(minutes=5)
CODES = [f"tenant-{number}" for number in range(60)]


@given(pauses=st.lists(st.floats(min_value=0.1, max_value=20), min_size=10, max_size=60))
def test_whoever_asks_at_whatever_moments_each_is_visited_once_in_a_period(pauses: list[float]) -> None:
    visits: Counter[str] = Counter()
    after = START
    for pause in pauses:
        until = after + timedelta(seconds=pause)
        visits.update(due_in_sweep(CODES, after=after, until=until, period=PERIOD))
        after = until
    whole = (after - START) // PERIOD
    assert all(whole <= visits[code] <= whole + 1 for code in CODES)


def test_visits_are_spread_evenly() -> None:
    seconds = [START + timedelta(seconds=second) for second in range(301)]
    visits = [len(due_in_sweep(CODES, after=after, until=until, period=PERIOD)) for after, until in pairwise(seconds)]

    assert sum(visits) == len(CODES)
    assert max(visits) < 5


def test_after_a_long_pause_all_are_due() -> None:
    assert due_in_sweep(CODES, after=START, until=START + timedelta(hours=1), period=PERIOD) == CODES
