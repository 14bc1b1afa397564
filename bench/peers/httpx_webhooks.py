"""Signed webhooks by one shared httpx client: `python -m bench.peers.httpx_webhooks COUNT PORT...`. Prints one JSON
object, like `bench.limits.webhooks`."""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence

import httpx
import uvloop

from bench.limits.webhooks import BODY, IN_FLIGHT, headers


async def send_all(client: httpx.AsyncClient, numbers: Iterator[int], ports: Sequence[int]) -> int:
    answered = 0
    for number in numbers:
        url = f"http://127.0.0.1:{ports[number % len(ports)]}/hook"
        answered += (await client.post(url, content=BODY, headers=headers(number))).status_code == 200
    return answered


async def measure(count: int, ports: Sequence[int]) -> dict[str, float]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=15, trust_env=False) as client:
        numbers = iter(range(count))
        began = time.perf_counter()
        answered = await asyncio.gather(*(send_all(client, numbers, ports) for _ in range(IN_FLIGHT)))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "answered": sum(answered)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("ports", type=int, nargs="+")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(arguments.count, arguments.ports))))


if __name__ == "__main__":
    main()
