"""Webhook requests sent by a process of their own: to speak HTTP costs as much processor time as all the rest of a
delivery, and an interpreter uses one processor.

The process (`python -m ordersync_adapters.webhook_sender.process`) gets frames of requests on its input, answers on its
output, and ends with its input: it does not outlive the process that started it.
"""

import argparse
import asyncio
import pickle
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

import uvloop
from attrs import define, field

from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.system import SystemClock
from ordersync_adapters.webhook_sender.sender import AiohttpWebhookSender, Answer, Patience, to_response
from ordersync_core.kernel.clock import Clock
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse

MODULE: Final = "ordersync_adapters.webhook_sender.process"
ENDS_WITHIN: Final = 2.0
"""Seconds that the process has to end by itself."""

SLACK: Final = 5.0
"""Seconds beyond the patience with a receiver, after which the process is taken to stand still, and is killed."""

GONE: Final = "the process that sends ended before an answer came"
_LENGTH: Final = struct.Struct("!I")


_Asked = tuple[int, str, dict[str, str], bytes]
"""A number for the answer, the URL, the headers, the body."""

_Answered = tuple[int, Answer]


class ProcessWebhookSender:
    """Sends through a process that `open()` or the first request starts, on the event loop of that moment, and that is
    started again should it die; what was under way has no answer then. `close()` ends the process."""

    def __init__(self, clock: Clock, allow_private: bool = False, *, patience: Patience | None = None) -> None:
        self._clock = clock
        self._allow_private = allow_private
        self._patience = patience or Patience()
        self._opening = asyncio.Lock()
        self._child: _Child | None = None

    async def send(self, request: WebhookRequest) -> WebhookResponse:
        started_at = self._clock.now()
        child = self._child if self._child is not None and not self._child.ended else await self.open()
        answer = await child.ask(request)
        return to_response(request, answer, started_at=started_at, ended_at=self._clock.now())

    @property
    def process_id(self) -> int | None:
        """None before the first request and after `close`."""
        return None if self._child is None else self._child.id

    async def close(self) -> None:
        if self._child is not None:
            await self._child.close()
        self._child = None

    async def open(self) -> "_Child":
        async with self._opening:
            if self._child is None or self._child.ended:
                within = self._patience.total + self._patience.body + SLACK
                self._child = await _Child.start(self._arguments(), answers_within=within)
            return self._child

    def _arguments(self) -> list[str]:
        patience = self._patience
        return [
            *("--connect", str(patience.connect), "--total", str(patience.total), "--body", str(patience.body)),
            *(["--allow-private"] if self._allow_private else []),
        ]


@define(eq=False)
class _Child:
    """The other end, as the process that started it sees it."""

    _process: Process
    _answers_within: float
    _outgoing: "_Frames"
    _waiting: dict[int, asyncio.Future[Answer]] = field(factory=dict)
    _numbers: "count[int]" = field(factory=count)
    _reading: asyncio.Task[None] | None = None
    ended: bool = False

    @classmethod
    async def start(cls, arguments: Sequence[str], *, answers_within: float) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, *arguments, stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None
        child = cls(process, answers_within, _Frames(process.stdin.write))
        child._reading = asyncio.create_task(child._read())
        return child

    @property
    def id(self) -> int:
        return self._process.pid

    async def ask(self, request: WebhookRequest) -> Answer:
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._outgoing.add((number, request.url, dict(request.headers), request.body))
        try:
            async with asyncio.timeout(self._answers_within):
                return await answer
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            return Answer(None, None, GONE, b"")
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for answers in _frames(self._process.stdout):
                for number, answer in answers:
                    if (waiting := self._waiting.get(number)) is not None and not waiting.done():
                        waiting.set_result(Answer._make(answer))
        finally:
            self.ended = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_result(Answer(None, None, GONE, b""))


class _Frames:
    """Puts together what is to go out in one turn of the event loop: a frame costs the same for one and for many."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._held: list[tuple[Any, ...]] = []

    def add(self, entry: tuple[Any, ...]) -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self._flush)
        self._held.append(entry)

    def _flush(self) -> None:
        # both ends are ours and of one version: there is nobody to distrust
        frame = pickle.dumps(self._held, protocol=pickle.HIGHEST_PROTOCOL)
        self._held = []
        self._write(_LENGTH.pack(len(frame)) + frame)


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[list[Any]]:
    """The entries of each frame, until the other end is closed."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            yield pickle.loads(await reader.readexactly(length))


async def serve(sender: AiohttpWebhookSender) -> None:
    """Send what comes on the input until it ends; what is under way then is cut off."""
    reader, outgoing = await _standard_streams()
    sending: set[asyncio.Task[None]] = set()
    async for asked in _frames(reader):
        for number, *request in asked:
            task = asyncio.create_task(_answer(number, sender.exchange(*request), outgoing))
            sending.add(task)
            task.add_done_callback(sending.discard)
    for task in sending:
        task.cancel()
    await sender.close()


async def _answer(number: int, exchange: Coroutine[Any, Any, Answer], outgoing: _Frames) -> None:
    outgoing.add((number, tuple(await exchange)))


async def _standard_streams() -> tuple[asyncio.StreamReader, _Frames]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, _ = await loop.connect_write_pipe(asyncio.Protocol, sys.stdout)
    return reader, _Frames(transport.write)


def main() -> None:
    # whoever interrupts the whole group of processes means the one that started this one, which says when it ends
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(description="Send webhook requests for the process that starts this one.")
    parser.add_argument("--allow-private", action="store_true")
    for name in ("connect", "total", "body"):
        parser.add_argument(f"--{name}", type=float, required=True)
    arguments = parser.parse_args()
    patience = Patience(connect=arguments.connect, total=arguments.total, body=arguments.body)
    sender = AiohttpWebhookSender(SystemClock(), arguments.allow_private, patience=patience)
    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sender))


if __name__ == "__main__":
    main()
