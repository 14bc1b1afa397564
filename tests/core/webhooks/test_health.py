from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.webhooks.health import Health, after_failure, after_success, must_disable

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

outcomes = st.lists(st.tuples(st.booleans(), st.timedeltas(timedelta(0), timedelta(days=1))), max_size=60)


def failed(times: int, *, at: datetime = NOON, health: Health | None = None) -> Health:
    health = health or Health()
    for _ in range(times):
        health = after_failure(health, at=at)
    return health


class TestBreaker:
    def test_nine_failures_in_a_row_leave_it_closed_and_the_tenth_opens_it(self) -> None:
        assert not failed(9).is_open
        assert failed(10).open_since == NOON

    def test_a_success_between_starts_the_count_again(self) -> None:
        assert not failed(9, health=after_success(failed(9))).is_open

    def test_it_stays_open_since_the_same_moment(self) -> None:
        assert failed(30, at=NOON + timedelta(hours=1), health=failed(10)).open_since == NOON

    def test_the_first_success_closes_it_and_what_waited_drains(self) -> None:
        health = after_success(failed(10))
        assert (health.is_open, health.recovering) == (False, True)

    def test_it_drains_on_after_a_failure_between(self) -> None:
        draining = after_success(failed(10))
        assert failed(9, health=draining).recovering
        assert after_success(failed(9, health=draining)).recovering

    def test_ten_failures_while_draining_open_it_again(self) -> None:
        health = failed(10, health=after_success(failed(10)))
        assert (health.is_open, health.recovering) == (True, False)

    @given(outcomes)
    def test_it_is_open_exactly_after_ten_failures_in_a_row(self, outcomes: list[tuple[bool, timedelta]]) -> None:
        health, in_a_row, now, failing_since, opened = Health(), 0, NOON, None, False
        for success, later in outcomes:
            now += later
            health = after_success(health) if success else after_failure(health, at=now)
            in_a_row = 0 if success else in_a_row + 1
            failing_since = None if success else failing_since or now
            opened = opened or health.is_open
            assert health.failures_in_row == in_a_row
            assert health.is_open == (in_a_row >= 10)
            assert health.failing_since == failing_since
            assert health.recovering == (opened and not health.is_open)


class TestDisabling:
    @given(failures=st.integers(0, 200), age=st.timedeltas(timedelta(0), timedelta(days=10)))
    def test_takes_both_five_days_and_a_hundred_failures(self, failures: int, age: timedelta) -> None:
        health = failed(failures)
        assert must_disable(health, now=NOON + age) == (failures >= 100 and age >= timedelta(days=5))

    def test_one_success_starts_both_again(self) -> None:
        health = failed(150, health=after_success(failed(150)), at=NOON + timedelta(days=4))
        assert not must_disable(health, now=NOON + timedelta(days=6))
        assert must_disable(health, now=NOON + timedelta(days=9))
