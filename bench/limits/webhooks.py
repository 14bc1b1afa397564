"""The least code that signs and sends webhooks by aiohttp: `python -m bench.limits.webhooks COUNT PORT...`. It imports
nothing of the project.

COUNT requests of 1.2 KB in all, each signed (HMAC-SHA256), to the endpoints in turn, over connections that are kept, as
many in flight as the project's pool has. Prints one JSON object: the seconds, and how many were answered with 200.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence

import aiohttp
import uvloop

IN_FLIGHT = 200
KEY = b"k" * 24
BODY = b'{"type":"item.created","data":{"text":"' + b"x" * 1160 + b'"}}'


def headers(number: int) -> dict[str, str]:
    id, timestamp = f"00000000-0000-4000-8000-{number:012}", str(int(time.time()))
    signature = hmac.digest(KEY, f"{id}.{timestamp}.".encode() + BODY, hashlib.sha256)
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{b64encode(signature).decode()}",
        "X-Event-Id": id,
        "X-Event-Type": "item.created",
        "X-Webhook-Position": str(number),
        "X-Administration-Code": "bench",
        "X-TriggeredBy-Id": "bench",
    }


async def send_all(session: aiohttp.ClientSession, numbers: Iterator[int], ports: Sequence[int]) -> int:
    answered = 0
    for number in numbers:
        url = f"http://127.0.0.1:{ports[number % len(ports)]}/hook"
        async with session.post(url, data=BODY, headers=headers(number), allow_redirects=False) as response:
            await response.read()
            answered += response.status == 200
    return answered


async def measure(count: int, ports: Sequence[int]) -> dict[str, float]:
    timeout = aiohttp.ClientTimeout(total=15, connect=5)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        numbers = iter(range(count))
        began = time.perf_counter()
        answered = await asyncio.gather(*(send_all(session, numbers, ports) for _ in range(IN_FLIGHT)))
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
