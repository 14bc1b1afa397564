"""The one place where the in-memory databases wait."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.testing.memory import Locks

A, B = "row A", "row B"
PATIENCE = 30.0


def acquired(pool: ThreadPoolExecutor, locks: Locks, owner: object, key: str) -> Callable[[], None]:
    """Ask for the lock in another thread; what comes back waits until it is had."""
    future = pool.submit(locks.acquire, owner, key)
    while not future.done() and owner not in locks._awaited:
        pass
    return lambda: future.result(PATIENCE)


def test_a_lock_is_held_until_all_is_released() -> None:
    locks = Locks()
    locks.acquire("one", A)
    locks.acquire("one", A)

    assert locks.try_acquire("one", A)
    assert not locks.try_acquire("other", A)
    assert locks.try_acquire("other", B)
    locks.release_all("one")
    assert locks.try_acquire("other", A)


def test_who_waits_gets_it_first_come_first_served() -> None:
    locks = Locks()
    locks.acquire("one", A)
    with ThreadPoolExecutor() as pool:
        second = acquired(pool, locks, "two", A)
        third = acquired(pool, locks, "three", A)
        locks.release_all("one")
        second()
        assert not locks.try_acquire("one", A)
        locks.release_all("two")
        third()
        locks.release_all("three")


def test_waiting_for_each_other_is_refused_at_once() -> None:
    locks = Locks(bound=timedelta(hours=1))
    locks.acquire("one", A)
    locks.acquire("two", B)
    with ThreadPoolExecutor() as pool:
        waiting = acquired(pool, locks, "one", B)
        with pytest.raises(ChangedMeanwhile, match="wait for each other"):
            locks.acquire("two", A)
        locks.release_all("two")
        waiting()


def test_a_circle_of_three_is_refused_too() -> None:
    locks = Locks(bound=timedelta(hours=1))
    for owner in ("one", "two", "three"):
        locks.acquire(owner, f"row {owner}")
    with ThreadPoolExecutor() as pool:
        first = acquired(pool, locks, "one", "row two")
        second = acquired(pool, locks, "two", "row three")
        with pytest.raises(ChangedMeanwhile, match="wait for each other"):
            locks.acquire("three", "row one")
        locks.release_all("three")
        second()
        locks.release_all("two")
        first()


def test_a_wait_has_an_end() -> None:
    locks = Locks(bound=timedelta(milliseconds=10))
    locks.acquire("one", A)

    with pytest.raises(ChangedMeanwhile, match="in time"):
        locks.acquire("two", A)
    locks.release_all("one")
    assert locks.try_acquire("three", A), "who gave up waiting is not given the lock"


def test_the_way_of_waiting_can_be_chosen() -> None:
    """As a simulator does: while one waits, it lets another run."""
    asked: list[bool] = []

    def wait(held: Callable[[], bool]) -> bool:
        asked.append(held())
        locks.release_all("one")
        asked.append(held())
        return True

    locks = Locks(wait)
    locks.acquire("one", A)
    locks.acquire("two", A)

    assert asked == [False, True]
    assert not locks.try_acquire("one", A)


def test_a_wait_that_was_broken_off_leaves_nothing_behind() -> None:
    class Crash(BaseException):
        pass

    def wait(held: Callable[[], bool]) -> bool:
        raise Crash

    locks = Locks(wait)
    locks.acquire("one", A)
    with pytest.raises(Crash):
        locks.acquire("two", A)
    locks.release_all("one")

    assert locks.try_acquire("three", A)


def test_many_threads_share_a_lock_one_at_a_time() -> None:
    locks = Locks()
    inside: list[int] = []
    most = 0

    def work(n: int) -> None:
        nonlocal most
        owner = object()
        for _ in range(50):
            locks.acquire(owner, A)
            inside.append(n)
            most = max(most, len(inside))
            inside.remove(n)
            locks.release_all(owner)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert most == 1
