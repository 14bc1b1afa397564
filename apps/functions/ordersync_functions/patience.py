"""Work for one administration that may have to wait for its database."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from ordersync_core.kernel.errors import Conflict, NotFound, TemporaryFailure
from ordersync_functions.troubles import Troubles

R = TypeVar("R")

PATIENCE: Final = 60.0
"""Seconds after which work is let go: its row owes another ticket then."""

FOR_NOW: Final = (TemporaryFailure, NotFound, Conflict)
"""An active administration has a database: one that is missing, or is another tenant's, is being restored or moved."""


class Unreachable(Exception):
    """It failed for now until patience was over, or until the process was asked to stop."""


class Patience:
    """Runs calls in threads and repeats what fails for now only, for at most a minute.

    While one administration waits, whatever else is for it waits behind it, and nothing else does.

    on_trouble: told the administration at each failure.
    """

    def __init__(
        self,
        threads: Executor,
        troubles: Troubles,
        stop: asyncio.Event,
        *,
        on_trouble: Callable[[str], None] = lambda _: None,
        seconds: float = PATIENCE,
    ) -> None:
        self._threads = threads
        self._troubles = troubles
        self._stop = stop
        self._on_trouble = on_trouble
        self._seconds = seconds

    async def run(self, administration: str, call: Callable[[], R]) -> R:
        """Raises Unreachable, or whatever else `call` raised."""
        loop = asyncio.get_running_loop()
        until = time.monotonic() + self._seconds
        while True:
            try:
                result = await loop.run_in_executor(self._threads, call)
            except FOR_NOW as error:
                wait = self._troubles.failed(administration, error)
                self._on_trouble(administration)
                if self._stop.is_set() or time.monotonic() + wait > until:
                    raise Unreachable(str(error)) from error
                await self._rest(wait)
            else:
                self._troubles.succeeded(administration)
                return result

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass
