"""How long a change of one administration takes to its webhook while another one floods the queues with events:

    python -m bench.flood [--database sqlite|postgres] [--events 100000]

Prints one JSON object. The SQL queues hand out messages strictly in the order in which they were sent: nothing but the
windows keeps the flood from standing in the way. The Functions shell and the receivers are processes of their own. The
flood has a webhook too. From its first commit on, until its last event is delivered or a minute is over, the other
administration puts an item every half second; counted is the time from each commit to the arrival of its request.
"""

import argparse
import json
import sys
import tempfile
import threading
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

FLOODING, QUIET = "flooding", "quiet"
GOAL = 2.0
EVERY = 0.5
LONGEST = 60.0
PATIENCE = 30.0
SETTLE = 2.0
NOTHING_IS_OWED = (
    "SELECT (SELECT count(*) FROM outbox WHERE number IS NULL OR ticket_at IS NOT NULL)"
    " + (SELECT count(*) FROM deliveries WHERE state = 'Waiting')"
)


def latencies(
    database: str, folder: Path, server: PostgresServer | None, events: int
) -> tuple[list[float], dict[str, int]]:
    """Of each change of the quiet one, in order; and how far the flood was when the last of them was put."""
    with (
        receivers(2) as endpoints,
        fresh_addresses(database, folder, server) as addresses,
        deployed(addresses) as deployment,
    ):
        flooding, quiet = deployment.administration(FLOODING), deployment.administration(QUIET)
        for context, port in zip((flooding, quiet), endpoints.ports, strict=True):
            deployment.webhook(context, f"http://127.0.0.1:{port}/hook")
        with functions_shell(addresses):
            time.sleep(SETTLE)
            flood = threading.Thread(target=deployment.put, args=(flooding, events))
            flood.start()
            committed: dict[int, float] = {}
            end = time.monotonic() + LONGEST
            while time.monotonic() < end:
                time.sleep(EVERY)
                committed[len(committed)] = deployment.put_one(quiet, len(committed))
                if not flood.is_alive() and deployment.ask(FLOODING, NOTHING_IS_OWED) == 0:
                    break
            delivered = endpoints.requests()[0]
            flood.join()
            ids = deployment.event_ids(QUIET)
            end = time.monotonic() + PATIENCE
            while not (arrived := endpoints.seen()).keys() >= set(ids.values()):
                if time.monotonic() > end:
                    raise Void("some changes of the quiet administration never arrived")
                time.sleep(EVERY)
            waiting = deployment.ask(FLOODING, "SELECT count(*) FROM outbox WHERE number IS NULL")
    progress = {"events": events, "delivered_meanwhile": delivered, "unnumbered_at_the_end": waiting}
    return [arrived[ids[number]] - moment for number, moment in committed.items()], progress


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    answer = {"bench": "flood", "database": arguments.database}
    try:
        with tempfile.TemporaryDirectory() as name, postgres_if(arguments.database) as server:
            seconds, progress = latencies(arguments.database, Path(name), server, arguments.events)
    except Void as void:
        print(json.dumps(answer | {"void": str(void)}))
        return 1
    print(
        json.dumps(
            answer
            | progress
            | {"changes": len(seconds), "p50_seconds": round(percentile(seconds, 0.5), 3)}
            | {"max_seconds": round(max(seconds), 3), "goal": GOAL, "reached": max(seconds) <= GOAL}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
