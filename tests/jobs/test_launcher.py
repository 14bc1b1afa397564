"""The launcher and the processes that it starts, which are real, and do what a test tells them instead of a run."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ordersync_core.kernel.errors import TemporaryFailure
from ordersync_core.messaging.envelope import QUEUED_JOBS
from ordersync_core.messaging.queue import Depth, Message
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.examples import NOON
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_jobs import launcher
from ordersync_jobs.launcher import launch

NEVER_OVER = timedelta(days=1)
LIMIT = 2


class Looks:
    """The queue of jobs with ten messages, and how often the launcher has looked at it or waited for it.

    away: the looks at which it does not answer.
    """

    def __init__(self, *, away: range = range(0)) -> None:
        self._queue = MemoryQueues(ManualClock(NOON))[QUEUED_JOBS]
        self._queue.send([Message(send_id=str(number), body=b"") for number in range(10)])
        self._away = away
        self.depths = 0
        self.waits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def depth(self) -> Depth:
        self.depths += 1
        if self.depths in self._away:
            raise TemporaryFailure("the queue does not answer")
        return self._queue.depth()

    def wait(self, timeout: timedelta) -> None:
        self.waits += 1
        self._queue.wait(timedelta(milliseconds=20))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes the launcher's processes do this; answers the file in which each tells its beginning by a line."""

    def do(then: str) -> Path:
        told = tmp_path / "started"
        told.touch()
        script = f"import os, sys, time; open({str(told)!r}, 'a').write(f'{{os.getpid()}}\\n'); {then}"
        monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-S", "-c", script))
        monkeypatch.setattr(launcher, "LOOK_EVERY", timedelta(milliseconds=20))
        return told

    return do


def lines(told: Path) -> int:
    return len(told.read_text().splitlines())


def test_one_process_after_another_while_messages_wait(started: Callable[[str], Path]) -> None:
    told = started("sys.exit(0)")
    launch(Looks(), limit=LIMIT, stop=lambda: lines(told) > 3 * LIMIT)
    assert lines(told) > 3 * LIMIT


def test_after_one_that_failed_none_starts_for_a_while(
    started: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = started("sys.exit(1)")
    monkeypatch.setattr(launcher, "REST", NEVER_OVER)
    looks = Looks()
    launch(looks, limit=LIMIT, stop=lambda: looks.waits > 50 and lines(told) >= LIMIT)
    assert lines(told) == LIMIT


def test_the_rest_is_over_some_time(started: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    told = started("sys.exit(1)")
    monkeypatch.setattr(launcher, "REST", timedelta(milliseconds=20))
    launch(Looks(), limit=LIMIT, stop=lambda: lines(told) > 3 * LIMIT)
    assert lines(told) > 3 * LIMIT


def test_one_that_was_killed_keeps_nobody_from_starting(
    started: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = started("os.kill(os.getpid(), 9)")
    monkeypatch.setattr(launcher, "REST", NEVER_OVER)
    launch(Looks(), limit=LIMIT, stop=lambda: lines(told) > 3 * LIMIT)
    assert lines(told) > 3 * LIMIT


def test_those_at_work_outlive_a_queue_that_is_away(started: Callable[[str], Path], tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    waits = f"[time.sleep(0.01) for _ in iter(lambda: os.path.exists({str(go)!r}), True)]"
    told = started(f"{waits}; open({str(done)!r}, 'a').write('x')")
    looks = Looks(away=range(2, 20))

    def stop() -> bool:
        if looks.depths >= 20 and lines(told) == LIMIT:
            go.touch()
        return done.exists() and len(done.read_text()) >= LIMIT

    launch(looks, limit=LIMIT, stop=stop)
    assert looks.depths >= 20
    assert done.read_text().startswith("x" * LIMIT)
