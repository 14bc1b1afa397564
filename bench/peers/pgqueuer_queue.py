"""Messages through pgqueuer: `python -m bench.peers.pgqueuer_queue ADDRESS COUNT`. Prints one JSON object."""

import argparse
import asyncio
import json
import time

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

BATCH = 100


async def measure(address: str, count: int) -> dict[str, float]:
    connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
    async with connection:
        driver = PsycopgDriver(connection)
        queries = Queries(driver)
        await queries.install()
        await queries.enqueue(["look"] * count, [b"x" * 300] * count, [0] * count)
        worker = PgQueuer(driver)
        seen: list[int] = []

        @worker.entrypoint("look")
        async def look(job: Job) -> None:
            seen.append(job.id)

        began = time.perf_counter()
        await worker.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
        seconds = time.perf_counter() - began
        left = sum(entry.count for entry in await queries.queue_size())
    return {"seconds": seconds, "seen": len(set(seen)), "left": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.address, arguments.count))))


if __name__ == "__main__":
    main()
