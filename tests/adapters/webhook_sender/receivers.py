"""Receivers on 127.0.0.1 that behave in every way a receiver can."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from attrs import define, field

Reader: TypeAlias = StreamReader
Writer: TypeAlias = StreamWriter
Behaviour: TypeAlias = Callable[[Reader, Writer], Awaitable[None]]


@define
class Receiver:
    """requests: the heads of what came, with their bodies; connections: how many were opened."""

    port: int = 0
    connections: int = 0
    requests: list[tuple[list[str], bytes]] = field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def header(self, name: str, request: int = 0) -> str | None:
        for line in self.requests[request][0][1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


@asynccontextmanager
async def receiver(behaviour: Callable[[Receiver, Reader, Writer], Awaitable[None]]) -> AsyncIterator[Receiver]:
    """A server that lets `behaviour` deal with each connection; whatever still runs at the end is cut off."""
    told = Receiver()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: Reader, writer: Writer) -> None:
        told.connections += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await behaviour(told, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.sleep(0.01)


async def read_request(told: Receiver, reader: Reader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    length = next(int(line.split(":")[1]) for line in head if line.lower().startswith("content-length"))
    told.requests.append((head, await reader.readexactly(length)))


def answering(answer: bytes, *, then: Behaviour | None = None) -> Callable[[Receiver, Reader, Writer], Awaitable[None]]:
    """Answers each request of a connection with these bytes; `then` goes on after the first one."""

    async def behave(told: Receiver, reader: Reader, writer: Writer) -> None:
        while True:
            await read_request(told, reader)
            writer.write(answer)
            await writer.drain()
            if then is not None:
                await then(reader, writer)
                return

    return behave


def response(status: str, *, headers: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
