"""Messages through procrastinate: `python -m bench.peers.procrastinate_queue ADDRESS COUNT`. Prints one JSON object."""

import argparse
import asyncio
import json
import time

from procrastinate import App, PsycopgConnector

AT_ONCE = 10


async def measure(address: str, count: int) -> dict[str, float]:
    app = App(connector=PsycopgConnector(conninfo=address))
    seen: list[int] = []

    @app.task(name="look")
    async def look(number: int) -> None:
        seen.append(number)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await look.batch_defer_async(*({"number": number} for number in range(count)))
        began = time.perf_counter()
        await app.run_worker_async(concurrency=AT_ONCE, wait=False, listen_notify=False)
        seconds = time.perf_counter() - began
        left = sum(1 for _ in await app.job_manager.list_jobs_async(status="todo"))
    return {"seconds": seconds, "seen": len(set(seen)), "left": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.address, arguments.count))))


if __name__ == "__main__":
    main()
