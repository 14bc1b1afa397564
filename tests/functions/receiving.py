"""Webhook receivers on 127.0.0.1 that keep what they got and answer as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from attrs import define, field, frozen


@frozen
class Received:
    path: str
    position: int
    event_id: str
    headers: dict[str, str]
    body: bytes


@define
class Receiver:
    """answer: the status for a request; it may be changed at any time.
    slow: paths whose requests wait until `released`.
    """

    port: int = 0
    answer: Callable[[Received], int] = lambda _: 200
    slow: frozenset[str] = frozenset()
    received: list[Received] = field(factory=list)
    waiting: int = 0
    most_waiting: int = 0
    released: asyncio.Event = field(factory=asyncio.Event)

    def url(self, path: str = "hook") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def at(self, path: str = "hook") -> list[Received]:
        return [each for each in self.received if each.path == path]

    async def handle(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/")
        got = Received(
            path=path,
            position=int(request.headers["X-Webhook-Position"]),
            event_id=request.headers["X-Event-Id"],
            headers=dict(request.headers),
            body=await request.read(),
        )
        self.received.append(got)
        if path in self.slow:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            await self.released.wait()
            self.waiting -= 1
        return web.Response(status=self.answer(got))


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        receiver.released.set()
        await runner.cleanup()
