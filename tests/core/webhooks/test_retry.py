from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.webhooks.retry import (
    REFUSALS,
    RETRY_DELAYS,
    Verdict,
    classify,
    next_attempt_at,
    parse_retry_after,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DELIVERY = UUID("019a0000-0000-7000-8000-000000000001")

moments = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
attempts_left = st.integers(1, 15)
hints = st.timedeltas(timedelta(0), timedelta(days=400))
statuses = st.none() | st.integers(100, 599)


def test_the_schedule_is_the_published_one() -> None:
    minutes = [1, 5, 15, 30, 60, 120, 180, 240, 360, 360, 480, 480, 720, 720, 720]
    assert [delay / MINUTE for delay in RETRY_DELAYS] == minutes
    assert sum(RETRY_DELAYS, timedelta(0)) == 74 * HOUR + 51 * MINUTE


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([200, 201, 204, 299], Verdict.SUCCESS),
        ([None, 100, 199, 300, 301, 304, 308, 400, 401, 404, 408, 409, 429, 500, 503, 599], Verdict.RETRY),
        ([410], Verdict.DISABLE),
        ([413], Verdict.GIVE_UP),
    ],
)
def test_classes_of_answers(statuses: list[int | None], verdict: Verdict) -> None:
    assert {classify(status) for status in statuses} == {verdict}


@given(delivery_id=st.uuids(), failed_at=moments, attempts=attempts_left)
def test_no_attempt_is_earlier_than_published_nor_later_than_its_jitter(
    delivery_id: UUID, failed_at: datetime, attempts: int
) -> None:
    due = next_attempt_at(delivery_id=delivery_id, failed_at=failed_at, attempts=attempts)
    wait = RETRY_DELAYS[attempts - 1]
    assert due is not None
    assert wait <= due - failed_at <= wait + min(wait / 10, 10 * MINUTE)


@given(delivery_id=st.uuids(), failed_at=moments, attempts=attempts_left, hint=st.none() | hints, status=statuses)
def test_the_same_failure_is_answered_by_the_same_moment(
    delivery_id: UUID, failed_at: datetime, attempts: int, hint: timedelta | None, status: int | None
) -> None:
    def ask() -> datetime | None:
        return next_attempt_at(
            delivery_id=delivery_id, failed_at=failed_at, attempts=attempts, retry_after=hint, status=status
        )

    assert ask() == ask()


def test_jitter_differs_by_delivery_and_attempt() -> None:
    waits = {
        next_attempt_at(delivery_id=UUID(int=number), failed_at=NOON, attempts=attempts)
        for number in range(20)
        for attempts in (13, 14, 15)  # all of 12 h
    }
    assert len(waits) == 60


@given(delivery_id=st.uuids(), failed_at=moments, attempts=st.integers(16, 1_000), hint=st.none() | hints)
def test_there_is_no_attempt_after_the_sixteenth(
    delivery_id: UUID, failed_at: datetime, attempts: int, hint: timedelta | None
) -> None:
    assert next_attempt_at(delivery_id=delivery_id, failed_at=failed_at, attempts=attempts, retry_after=hint) is None


@given(delivery_id=st.uuids(), failed_at=moments, attempts=attempts_left, hint=hints, status=statuses)
def test_retry_after_only_lengthens_and_by_no_more_than_12_hours(
    delivery_id: UUID, failed_at: datetime, attempts: int, hint: timedelta, status: int | None
) -> None:
    without = next_attempt_at(delivery_id=delivery_id, failed_at=failed_at, attempts=attempts, status=status)
    due = next_attempt_at(
        delivery_id=delivery_id, failed_at=failed_at, attempts=attempts, retry_after=hint, status=status
    )
    assert without is not None
    assert due is not None
    assert due >= without
    assert due >= failed_at + min(hint, 12 * HOUR)
    assert due <= failed_at + 12 * HOUR + 10 * MINUTE


@given(attempts=attempts_left, status=st.sampled_from(sorted(REFUSALS)), age=st.timedeltas(timedelta(0)))
def test_a_wrong_url_or_secret_is_probed_every_12_hours_after_the_first_hour(
    attempts: int, status: int, age: timedelta
) -> None:
    first = datetime(1, 1, 1, tzinfo=UTC)
    failed_at = first + min(age, timedelta(days=1_000_000))
    due = next_attempt_at(
        delivery_id=DELIVERY, failed_at=failed_at, attempts=attempts, status=status, first_attempt_at=first
    )
    assert due is not None
    usual = next_attempt_at(delivery_id=DELIVERY, failed_at=failed_at, attempts=attempts)
    if failed_at - first <= HOUR:
        assert due == usual
    else:
        assert 12 * HOUR <= due - failed_at <= 12 * HOUR + 10 * MINUTE


def test_other_failures_keep_their_steps_after_the_first_hour() -> None:
    for status in (None, 400, 429, 500):
        due = next_attempt_at(
            delivery_id=DELIVERY, failed_at=NOON, attempts=6, status=status, first_attempt_at=NOON - 2 * HOUR
        )
        assert due == next_attempt_at(delivery_id=DELIVERY, failed_at=NOON, attempts=6)


@given(delays=st.lists(st.timedeltas(timedelta(seconds=1), timedelta(days=1)), min_size=1, max_size=5))
def test_another_schedule_has_one_attempt_more_than_waits(delays: list[timedelta]) -> None:
    dues = [
        next_attempt_at(delivery_id=DELIVERY, failed_at=NOON, attempts=attempts, delays=delays)
        for attempts in range(1, len(delays) + 2)
    ]
    assert dues[-1] is None
    assert all(due is not None and due >= NOON + delay for due, delay in zip(dues, delays, strict=False))


class TestRetryAfter:
    @given(seconds=st.integers(1, 10**9 - 1))
    def test_seconds(self, seconds: int) -> None:
        assert parse_retry_after(str(seconds), now=NOON) == timedelta(seconds=seconds)

    @given(wait=st.integers(1, 10**8))
    def test_a_date(self, wait: int) -> None:
        moment = NOON + timedelta(seconds=wait)
        assert parse_retry_after(format_datetime(moment, usegmt=True), now=NOON) == timedelta(seconds=wait)

    @pytest.mark.parametrize(
        "date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
    )
    def test_the_three_spellings_of_a_date(self, date: str) -> None:
        now = datetime(1994, 11, 6, 8, 49, tzinfo=UTC)
        assert parse_retry_after(date, now=now) == timedelta(seconds=37)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "0",
            "-1",
            "+5",
            "1.5",
            "1_0",
            "soon",
            "٣",
            "Fri, 01 May 2026 12:00:00 GMT",
            "Fri, 01 May 2026 11:59:59 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Fri, 01 May 2026 25:00:00 GMT",
            "99999999999 Jan 1994",
        ],
    )
    def test_what_means_nothing(self, value: str | None) -> None:
        assert parse_retry_after(value, now=NOON) is None

    def test_more_seconds_than_fit_are_very_many(self) -> None:
        hint = parse_retry_after("9" * 5_000, now=NOON)
        due = next_attempt_at(delivery_id=DELIVERY, failed_at=NOON, attempts=1, retry_after=hint)
        assert due is not None
        assert due >= NOON + 12 * HOUR

    @given(value=st.text(max_size=60) | st.text(alphabet="0123456789:, GMTJanMonFri+-", max_size=40), now=moments)
    def test_any_text_is_a_wait_or_none(self, value: str, now: datetime) -> None:
        hint = parse_retry_after(value, now=now)
        assert hint is None or hint > timedelta(0)
