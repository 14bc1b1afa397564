from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from ordersync_core.testing.clocks import ManualClock, SteppingIds


def test_a_manual_clock_moves_only_when_it_is_advanced() -> None:
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    clock = ManualClock(noon)

    assert clock.now() == clock.now() == noon
    clock.advance(timedelta(microseconds=1))
    assert clock.now() == noon + timedelta(microseconds=1)


def test_ids_rise_and_are_the_same_in_every_run() -> None:
    first, second = SteppingIds(), SteppingIds()
    ids = [first.new() for _ in range(5000)]

    assert ids == [second.new() for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert sorted(str(id) for id in ids) == [str(id) for id in ids]


def test_ids_look_like_version_7() -> None:
    id = SteppingIds().new()

    assert id.version == 7
    assert id.variant == RFC_4122


def test_series_with_other_starts_do_not_meet() -> None:
    low, high = SteppingIds(), SteppingIds(start=1001)

    assert not {low.new() for _ in range(1000)} & {high.new() for _ in range(1000)}


def test_threads_never_get_the_same_id() -> None:
    ids = SteppingIds()

    with ThreadPoolExecutor(4) as pool:
        given = [id for part in pool.map(lambda _: [ids.new() for _ in range(500)], range(4)) for id in part]

    assert len(set(given)) == 2000
