"""`python -m ordersync_jobs`: one message, one run, exit. With `--launch`: a process for each waiting message."""

import argparse
import signal
import sys

from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.settings import load
from ordersync_core.kernel.errors import OrderSyncError, Stopping
from ordersync_core.messaging.envelope import QUEUED_JOBS
from ordersync_core.messaging.queue import Queues
from ordersync_jobs.composition import build_application
from ordersync_jobs.launcher import launch
from ordersync_jobs.run_one import run_one
from ordersync_jobs.settings import JobsSettings


def _stop(*_: object) -> None:
    raise Stopping


def main() -> int:
    parser = argparse.ArgumentParser(prog="ordersync-jobs", description=__doc__)
    parser.add_argument("--launch", action="store_true", help="start a process for each waiting message")
    arguments = parser.parse_args()
    try:
        settings = load(JobsSettings)
        application = build_application(settings)
        if not arguments.launch:
            signal.signal(signal.SIGTERM, _stop)
            collect_rarely()
            run_one(application)
            return 0
        asked: list[int] = []  # a lock of an Event could be held by the very code that the signal interrupts
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: asked.append(number))
        launch(application.resolve(Queues)[QUEUED_JOBS], limit=settings.job_processes, stop=lambda: bool(asked))
        return 0
    except Stopping:
        return 0
    except OrderSyncError as error:
        print(f"ordersync-jobs: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
