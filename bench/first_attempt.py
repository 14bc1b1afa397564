"""From a commit to the first attempt at its webhook, while nothing else goes on:

    python -m bench.first_attempt [--database sqlite|postgres] [--changes 200]

Prints one JSON object. The Functions shell and the receiver are processes of their own. Here an item is put now and
then, as any shell does it; counted is the time from the moment its commit has returned until its request has arrived.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.deployment import (
    DATABASES,
    Void,
    deployed,
    fresh_addresses,
    functions_shell,
    percentile,
    postgres_if,
)
from bench.receivers import receivers
from tests.postgres import PostgresServer

CODE = "bench"
PAUSES = (0.11, 0.23, 0.37)
"""Seconds between two changes: as many as fall into step with no timer."""

GOALS = {"p50": 0.1, "p99": 1.0}
WARM_UP = 5
SETTLE = 3.0


def latencies(database: str, folder: Path, server: PostgresServer | None, changes: int) -> list[float]:
    with (
        receivers(1) as endpoints,
        fresh_addresses(database, folder, server) as addresses,
        deployed(addresses) as deployment,
    ):
        context = deployment.administration(CODE)
        deployment.webhook(context, f"http://127.0.0.1:{endpoints.ports[0]}/hook")
        with functions_shell(addresses):
            time.sleep(SETTLE)
            committed = {}
            for number in range(WARM_UP + changes):
                committed[number] = deployment.put_one(context, number)
                time.sleep(PAUSES[number % len(PAUSES)])
            time.sleep(SETTLE)
            arrived, ids = endpoints.seen(), deployment.event_ids(CODE)
    missing = [number for number in committed if ids[number] not in arrived]
    if missing:
        raise Void(f"{len(missing)} of {len(committed)} changes never arrived")
    return [arrived[ids[number]] - moment for number, moment in committed.items() if number >= WARM_UP]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--changes", type=int, default=200)
    arguments = parser.parse_args()
    answer = {"bench": "first_attempt", "database": arguments.database, "load": round(os.getloadavg()[0], 2)}
    try:
        with tempfile.TemporaryDirectory() as name, postgres_if(arguments.database) as server:
            seconds = latencies(arguments.database, Path(name), server, arguments.changes)
    except Void as void:
        print(json.dumps(answer | {"void": str(void)}))
        return 1
    found = {"p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99), "max": max(seconds)}
    print(
        json.dumps(
            answer
            | {"changes": len(seconds)}
            | {f"{name}_milliseconds": round(value * 1000, 1) for name, value in found.items()}
            | {"reached": all(found[name] < goal for name, goal in GOALS.items())}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
