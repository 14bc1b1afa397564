"""How long the healthy webhooks take when one of 100 hangs, against the time without it:

    python -m bench.isolation [--database sqlite|postgres] [--deliveries 60] [--rounds 3]

Prints one JSON object. All webhooks belong to one administration, and each has so many deliveries. The endpoint that
hangs takes requests and never answers. Both cases run in turn on new databases.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

import uvicorn

from bench.deployment import DATABASES, Void, deployed, fresh_addresses, medians, postgres_if, until
from bench.receivers import receivers
from bench.webhooks import CODE, fan_out_all
from tests.postgres import PostgresServer

WEBHOOKS = 100
GOAL = 1.3
DELIVERED = "SELECT count(*) FROM deliveries WHERE state = 'Delivered'"


def seconds_of_healthy(database: str, folder: Path, server: PostgresServer | None, each: int, *, hanging: int) -> float:
    with (
        receivers(WEBHOOKS - 1 + hanging, hanging=hanging) as endpoints,
        fresh_addresses(database, folder, server) as addresses,
        deployed(addresses) as deployment,
    ):
        fan_out_all(deployment, each * len(endpoints.ports), endpoints.ports)
        healthy = each * (WEBHOOKS - 1)

        async def measure() -> float:
            loop = asyncio.get_running_loop()
            async with deployment.running():
                began = loop.time()
                await until(lambda: sum(endpoints.requests()[hanging:]) >= healthy)
                seconds = loop.time() - began
                await until(lambda: int(deployment.ask(CODE, DELIVERED)) >= healthy)
                return seconds

        with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
            seconds = runner.run(measure())
        if sum(endpoints.requests()[hanging:]) != healthy:
            raise Void("a healthy endpoint got a delivery twice")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--deliveries", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    answer = {"bench": "isolation", "database": arguments.database, "webhooks": WEBHOOKS}
    rounds = []
    try:
        with tempfile.TemporaryDirectory() as name, postgres_if(arguments.database) as server:
            for number in range(arguments.rounds + 1):
                # in turn each goes first; the first round warms up
                seconds = {
                    hanging: seconds_of_healthy(
                        arguments.database, Path(name), server, arguments.deliveries, hanging=hanging
                    )
                    for hanging in ((0, 1) if number % 2 else (1, 0))
                }
                print(f"without {seconds[0]:.2f} s, with one that hangs {seconds[1]:.2f} s", file=sys.stderr)
                if number > 0:
                    rounds.append({"without": seconds[0], "with_one": seconds[1], "times": seconds[1] / seconds[0]})
    except Void as void:
        print(json.dumps(answer | {"void": str(void)}))
        return 1
    found = medians(rounds)
    print(
        json.dumps(
            answer
            | {"deliveries_of_each": arguments.deliveries}
            | {"seconds_without": round(found["without"], 2), "seconds_with_one": round(found["with_one"], 2)}
            | {"times": round(found["times"], 2), "goal": GOAL, "reached": found["times"] <= GOAL}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
