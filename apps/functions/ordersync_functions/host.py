"""The local host: runs the declared functions where there is no Azure.

It reads names, schedules, queues, routes and auth levels from the declarations. Timers run in UTC, never two of the
same at once, and some of them when somebody was woken; queue triggers run in their batch form; HTTP triggers are served
below /api. All of it lives on one event loop, with threads for what waits for a database.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

import uvicorn
from azure.functions.timer import TimerRequest
from starlette.applications import Starlette

from ordersync_core.kernel.errors import OrderSyncError
from ordersync_functions.batch_forms import BATCH_FORMS
from ordersync_functions.declarations import Declaration, HttpTrigger, QueueTrigger, Timer
from ordersync_functions.functions import ON_WAKE_UP
from ordersync_functions.http import http_app
from ordersync_functions.parts import Parts
from ordersync_functions.schedule import next_tick
from ordersync_functions.troubles import Troubles

ADDRESS: Final = "127.0.0.1"
LISTEN_FOR: Final = timedelta(seconds=0.5)
LONGEST_SLEEP: Final = 60.0
"""Seconds after which a timer looks at the clock again: it may have been set."""

HTTP_GRACE: Final = 5

_log = logging.getLogger("ordersync.functions")


def listen(port: int) -> socket.socket:
    """A socket on that port of this machine, 0 for a free one; OSError when it is taken."""
    return socket.create_server((ADDRESS, port))


class Host:
    def __init__(self, parts: Parts, declarations: Sequence[Declaration], *, opened: socket.socket, key: str) -> None:
        self._parts = parts
        self._timers = [each for each in declarations if isinstance(each, Timer)]
        self._queues = [each for each in declarations if isinstance(each, QueueTrigger)]
        self._socket = opened
        self._server = _Server(http_app([each for each in declarations if isinstance(each, HttpTrigger)], key))
        self._threads = ThreadPoolExecutor(len(self._timers), thread_name_prefix="timer")
        self._troubles = Troubles("run")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: then sends under way end and are recorded, and what was claimed and not begun is given back."""
        await self._parts.open_sender()
        signals = {timer.name: asyncio.Event() for timer in self._timers}
        with self._watching([signals[name] for name in ON_WAKE_UP if name in signals]):
            async with asyncio.TaskGroup() as group:
                for trigger in self._queues:
                    queue = self._parts.queues[trigger.queue]
                    group.create_task(BATCH_FORMS[trigger.name](self._parts, queue, stop))
                for timer in self._timers:
                    group.create_task(self._keep_time(timer, signals[timer.name], stop))
                group.create_task(self._server.serve([self._socket]))
                await stop.wait()
                self._server.should_exit = True
                for signal in signals.values():
                    signal.set()
        self._threads.shutdown(wait=True)
        await self._parts.close_sender()

    async def _keep_time(self, timer: Timer, signal: asyncio.Event, stop: asyncio.Event) -> None:
        """Moments that pass while the function runs, or while the process stands still, come to one run."""
        tick = next_tick(timer.schedule, after=self._parts.clock.now())
        while not stop.is_set():
            signaled = await _wait(signal, (tick - self._parts.clock.now()).total_seconds())
            now = self._parts.clock.now()
            if stop.is_set() or not (signaled or now >= tick):
                # the clock may have been set back: the tick that was waited for would be far away then
                tick = min(tick, next_tick(timer.schedule, after=now))
                continue
            signal.clear()
            if now >= tick:
                tick = next_tick(timer.schedule, after=now)
            await self._call(timer)
            await _pause(stop, ON_WAKE_UP.get(timer.name, 0.0))

    async def _call(self, timer: Timer) -> None:
        request = TimerRequest(past_due=False)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, timer.call, request)
        except OrderSyncError as error:
            self._troubles.failed(timer.name, error)
        except Exception as error:
            _log.error("%s failed", timer.name, exc_info=error)
        else:
            self._troubles.succeeded(timer.name)

    @contextlib.contextmanager
    def _watching(self, signals: Sequence[asyncio.Event]) -> Iterator[None]:
        """Set the signals whenever somebody was woken."""
        loop = asyncio.get_running_loop()
        ended = threading.Event()

        def tell() -> None:
            for signal in signals:
                signal.set()

        def watch() -> None:
            watcher = self._parts.watcher()
            try:
                while not ended.is_set():
                    if watcher.wait(LISTEN_FOR) and not ended.is_set():
                        loop.call_soon_threadsafe(tell)
            finally:
                watcher.close()

        thread = threading.Thread(target=watch, name="wake-watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class _Server(uvicorn.Server):
    """Leaves the signals to the host."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=HTTP_GRACE)
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _wait(signal: asyncio.Event, seconds: float) -> bool:
    """True when the signal came, False after that time or a minute."""
    try:
        async with asyncio.timeout(max(0.0, min(seconds, LONGEST_SLEEP))):
            return await signal.wait()
    except TimeoutError:
        return signal.is_set()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    if seconds:
        await _wait(stop, seconds)
