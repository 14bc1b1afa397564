"""Webhook receivers on 127.0.0.1, a port for each endpoint, that cost as little as can be: a process of its own.

    python -m bench.receivers COUNT [--hanging N]

Prints the ports as one JSON line. Each endpoint answers 200 to every request and keeps the connection; the first N take
requests and never answer. For each line on its input it prints one JSON line: how many events each endpoint has had,
and by X-Event-Id the moment (seconds of CLOCK_MONOTONIC) at which each was first seen. It ends with its input.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, cast

import httptools
import uvicorn
from attrs import define, field, frozen

_BODY = b'{"type":'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@define
class Endpoint:
    hangs: bool
    requests: int = 0
    seen: dict[str, float] = field(factory=dict)


class Connection(asyncio.Protocol):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by inheritance
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-event-id":
            self._endpoint.seen.setdefault(value.decode(), time.monotonic())

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self._endpoint.requests += self._body.startswith(_BODY) and self._body.endswith(b"}")
        if self._transport is not None and not self._endpoint.hangs:
            self._transport.write(_ANSWER)


async def serve(count: int, hanging: int) -> None:
    loop = asyncio.get_running_loop()
    endpoints = [Endpoint(hangs=number < hanging) for number in range(count)]
    servers = [await loop.create_server(partial(Connection, each), "127.0.0.1", 0) for each in endpoints]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        seen = {id: moment for each in endpoints for id, moment in each.seen.items()}
        print(json.dumps({"requests": [each.requests for each in endpoints], "seen": seen}), flush=True)


@frozen
class Receivers:
    ports: list[int]
    _process: subprocess.Popen[str]

    def requests(self) -> list[int]:
        """How many each endpoint has had."""
        counts: list[int] = self._ask()["requests"]
        return counts

    def seen(self) -> Mapping[str, float]:
        """By event id, when it first arrived."""
        moments: dict[str, float] = self._ask()["seen"]
        return moments

    def _ask(self) -> dict[str, Any]:
        asked, answers = _pipes(self._process)
        asked.write("\n")
        asked.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer


@contextmanager
def receivers(count: int, *, hanging: int = 0) -> Iterator[Receivers]:
    command = [sys.executable, "-m", "bench.receivers", str(count), "--hanging", str(hanging)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            _, answers = _pipes(process)
            yield Receivers(json.loads(answers.readline()), process)
        finally:
            process.terminate()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--hanging", type=int, default=0)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(serve(arguments.count, arguments.hanging))


if __name__ == "__main__":
    main()
