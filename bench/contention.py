"""Puts of single items while a big import runs on the same SQLite file:

    python -m bench.contention [--items 100000] [--every 0.02]

The import is a run of the Jobs shell in a process of its own, with its message, locks and leases; only the network is
left out. This process puts one item after the other through the application, `--every` so many seconds. Prints one JSON
object with the milliseconds that a put took. Exit code 1: the run lost a lock, a lease or a row.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attrs import evolve

from bench.pages import write_pages
from bench.real_path import ExactOnlineFromFiles, set_up_flow_from_exact
from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.settings import load
from ordersync_adapters.wiring import prepare_stores
from ordersync_connectors.exact_online.adapter import NAME
from ordersync_connectors.wiring import ConnectorsByName
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.connections.ports import Connectors
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.jobs.commands import StartRun
from ordersync_core.jobs.handlers import start_run
from ordersync_core.jobs.model import JobRun, JobType, RunState
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.messaging.envelope import QUEUED_JOBS
from ordersync_core.messaging.queue import Queues
from ordersync_jobs.composition import build_application
from ordersync_jobs.run_one import run_one
from ordersync_jobs.settings import JobsSettings

CODE = "acme"
CONTEXT = Context(administration=CODE, triggered_by="bench", correlation_id="bench")
GOAL = 1000
"""Milliseconds."""


def job(pages: Path) -> None:
    """The Jobs shell's `main`, with pages from files."""
    application = build_application(load(JobsSettings))
    collect_rarely()
    run_one(application.providing(Connectors, ConnectorsByName({NAME: ExactOnlineFromFiles(pages)})))


def prepare(pages: Path) -> tuple[Application, JobRun]:
    """The application, and an import whose message waits."""
    settings = load(JobsSettings)
    prepare_stores(settings)
    application = build_application(settings)
    application.run(
        create_administration, CreateAdministration(code=CODE, name=CODE), evolve(CONTEXT, administration=None)
    )
    connectors = ConnectorsByName({NAME: ExactOnlineFromFiles(pages)})
    set_up_flow_from_exact(application.providing(Connectors, connectors), CONTEXT)
    return application, application.run(start_run, StartRun(type=JobType.ITEM_SYNC), CONTEXT)


def put_until_it_ends(application: Application, importing: subprocess.Popen[bytes], every: float) -> list[float]:
    """The milliseconds of each put."""
    took: list[float] = []
    while importing.poll() is None:
        item = Item(code=ItemCode(f"PUT-{len(took):06}"), unit="pc")
        began = time.perf_counter()
        application.run(put_item, PutItem(item=item), CONTEXT)
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(every)
    return took


def faults(application: Application, run: JobRun, *, items: int, put: int) -> list[str]:
    ended = application.databases.admin_queries().run(CODE, run.id)
    depth = application.resolve(Queues)[QUEUED_JOBS].depth()
    kept = application.databases.queries(CONTEXT).count_items()
    found = []
    if ended.state is not RunState.SUCCEEDED or ended.deaths or ended.tries:
        found.append(f"the run is {ended.state}: {ended.reason}")
    if depth.ready or depth.locked or depth.dead:
        found.append(f"its message was not settled once: {depth}")
    if kept != items + put:
        found.append(f"{kept} items are kept, not {items + put}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=0.02)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        job(arguments.job)
        return 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["ORDERSYNC_STATE"] = f"{name}/state"
        write_pages(Path(name) / "pages", items=arguments.items)
        application, run = prepare(Path(name) / "pages")
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", "bench.contention", "--job", f"{name}/pages"]) as importing:
            took = put_until_it_ends(application, importing, arguments.every)
        seconds = time.perf_counter() - began
        found = faults(application, run, items=arguments.items, put=len(took))
    percentiles = statistics.quantiles(took, n=100)
    print(
        json.dumps(
            {
                "bench": "contention",
                "database": "sqlite",
                "items": arguments.items,
                "import_seconds": round(seconds, 1),
                "puts": len(took),
                "milliseconds": {
                    "median": round(percentiles[49], 1),
                    "p95": round(percentiles[94], 1),
                    "p99": round(percentiles[98], 1),
                    "longest": round(max(took), 1),
                },
                "goal": {"p99": GOAL},
                "reached": percentiles[98] < GOAL,
                "faults": found,
            }
        )
    )
    return 1 if found or importing.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
