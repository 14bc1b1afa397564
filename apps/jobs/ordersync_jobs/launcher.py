"""Starts a process for each waiting message, several at once up to a limit, none when there is nothing to do."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.queue import Queue

COMMAND: Sequence[str] = (sys.executable, "-m", "ordersync_jobs")
LOOK_EVERY = timedelta(seconds=1)
REST = timedelta(seconds=5)
"""Before the next process starts after one that failed: what failed it, such as a database that is away, would fail
one for every waiting message. One that was killed says nothing of the next."""
STOP_WITHIN = timedelta(seconds=10)

_log = logging.getLogger(__name__)


def launch(queue: Queue, *, limit: int, stop: Callable[[], bool]) -> None:
    """Run until `stop` says so; then ask the processes at work to end, and end them.

    limit: processes at once, at least 1. A process that is ended leaves its run to be taken up again.
    """
    working: list[subprocess.Popen[bytes]] = []
    rests_until = 0.0
    try:
        while not stop():
            codes = [process.poll() for process in working]
            working = [process for process, code in zip(working, codes, strict=True) if code is None]
            if any(code is not None and code > 0 for code in codes):
                rests_until = time.monotonic() + REST.total_seconds()
            try:
                if time.monotonic() >= rests_until:
                    working += _start(min(limit - len(working), _unattended(queue, working)))
                queue.wait(LOOK_EVERY)
            except OrderSyncError as error:
                _log.warning("no job process starts for now: %s", error)
                time.sleep(LOOK_EVERY.total_seconds())
    finally:
        _end(working)


def _start(number: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen(COMMAND) for _ in range(number)]


def _unattended(queue: Queue, working: list[subprocess.Popen[bytes]]) -> int:
    """Messages that nobody holds, less the processes that were started and have claimed none yet."""
    depth = queue.depth()
    starting = max(0, len(working) - depth.locked)
    return max(0, depth.ready - starting)


def _end(working: list[subprocess.Popen[bytes]]) -> None:
    for process in working:
        process.terminate()
    for process in working:
        try:
            process.wait(STOP_WITHIN.total_seconds())
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
