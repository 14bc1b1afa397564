"""Starts a process for each waiting message, several at once up to a limit, none when there is nothing to do."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

from ordersync_core.messaging.queue import Queue

COMMAND = (sys.executable, "-m", "ordersync_jobs")
LOOK_EVERY = timedelta(seconds=1)
STOP_WITHIN = timedelta(seconds=10)


def launch(queue: Queue, *, limit: int, stop: Callable[[], bool]) -> None:
    """Run until `stop` says so; then ask the processes at work to end, and end them.

    limit: processes at once, at least 1. A process that is ended leaves its run to be taken up again.
    """
    working: list[subprocess.Popen[bytes]] = []
    try:
        while not stop():
            working = [process for process in working if process.poll() is None]
            wanted = min(limit - len(working), _unattended(queue, working))
            working += [subprocess.Popen(COMMAND) for _ in range(wanted)]
            queue.wait(LOOK_EVERY)
    finally:
        _end(working)


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
