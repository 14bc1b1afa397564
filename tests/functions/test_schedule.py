from datetime import UTC, datetime

import pytest

from ordersync_functions.schedule import next_tick


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * * *", "2026-01-01T00:00:00.5", "2026-01-01T00:00:01"),
        ("0 * * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("0 17 * * * *", "2026-01-01T00:17:00", "2026-01-01T01:17:00"),
        ("30 */5 * * * *", "2026-01-01T00:04:59", "2026-01-01T00:05:30"),
        ("0 30 2 * * *", "2026-01-01T03:00:00", "2026-01-02T02:30:00"),
        ("0 0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_the_seconds_stand_in_front(schedule: str, after: str, expected: str) -> None:
    assert next_tick(schedule, after=at(after)) == at(expected)


@pytest.mark.parametrize("schedule", ["* * * * *", "", "x * * * * *", "* * * * * * *"])
def test_anything_but_six_fields_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        next_tick(schedule, after=at("2026-01-01T00:00:00"))
