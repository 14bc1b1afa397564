"""Claimed messages: taken in, kept ours while the work lasts, settled many at a time."""

import asyncio
import logging
import threading
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.kernel.lease import RENEW_EVERY
from ordersync_core.messaging.queue import Claim, Queue
from ordersync_functions.triage import Triage, triage
from ordersync_functions.troubles import Troubles

R = TypeVar("R")

AT_ONCE: Final = 1_000
"""How many messages are claimed in one transaction at most, when there are so many."""

LOOK_EVERY: Final = timedelta(seconds=0.5)
SETTLE_EVERY: Final = 0.05
_LAST_TRIES: Final = 3

_log = logging.getLogger("ordersync.functions")


class HeldClaims:
    """What this process holds of a queue. A thread that does nothing else renews the locks."""

    def __init__(self, queue: Queue, every: timedelta = RENEW_EVERY) -> None:
        self._queue = queue
        self._every = every
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock-renewal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def add(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            self._claims.update((claim.token, claim) for claim in claims)

    def remove(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._claims.pop(claim.token, None)

    def __len__(self) -> int:
        return len(self._claims)

    def all(self) -> list[Claim]:
        with self._lock:
            return list(self._claims.values())

    def _run(self) -> None:
        while not self._ended.wait(self._every.total_seconds()):
            try:
                self._queue.renew(self.all())
            except Exception as error:
                _log.warning("locks could not be renewed: %s", error)


class Intake:
    """Claims messages of one queue for a consumer that lives on one event loop, and settles what it is told to.

    capacity: how many messages it holds at most.
    """

    def __init__(
        self,
        queue: Queue,
        administrations: Container[str],
        *,
        name: str,
        capacity: int,
        renew_every: timedelta = RENEW_EVERY,
    ) -> None:
        self._queue = queue
        self._administrations = administrations
        self._name = name
        self._capacity = capacity
        self._held = HeldClaims(queue, renew_every)
        # `Queue.wait` goes by what the same thread has claimed
        self._claiming = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-claim")
        self._settling = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-settle")
        self._troubles = Troubles("take messages")
        self._complete: list[Claim] = []
        self._give_back: list[Claim] = []
        self._give_up: list[tuple[Claim, str, str]] = []
        self._changed = asyncio.Event()
        self._to_settle = asyncio.Event()

    def complete(self, claims: Sequence[Claim]) -> None:
        self._complete += claims
        self._to_settle.set()

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Another process may have them at once."""
        self._give_back += claims
        self._to_settle.set()

    def give_up(self, claim: Claim, *, reason: str, description: str) -> None:
        self._give_up.append((claim, reason, description))
        self._to_settle.set()

    async def settled(self) -> bool:
        """Settle at once what it was told to; False when the queue does not answer."""
        return await self._settle() and not (self._complete or self._give_back or self._give_up)

    def look_again(self) -> None:
        """The consumer's room may have grown."""
        self._changed.set()

    async def run(
        self,
        accept: Callable[[Triage], None],
        room: Callable[[], int],
        *,
        stop: asyncio.Event,
        done: asyncio.Event,
    ) -> None:
        """Claim until `stop`, settle until `done`; what is held then is given back.

        accept: takes what was claimed; whatever is in it must be settled some time.
        room: how many more the consumer wants now.
        """
        self._held.start()
        settling = asyncio.create_task(self._settle_until(done))
        try:
            await self._claim_until(stop, accept, room)
            await settling
        finally:
            settling.cancel()
            self._claiming.shutdown(wait=False)
            self._settling.shutdown(wait=False)
            self._held.close()

    async def _claim_until(
        self, stop: asyncio.Event, accept: Callable[[Triage], None], room: Callable[[], int]
    ) -> None:
        while not stop.is_set():
            self._changed.clear()
            wanted = min(room(), self._capacity - len(self._held), AT_ONCE)
            if wanted < 1:
                await _either(self._changed, LOOK_EVERY.total_seconds())
                continue
            try:
                claims = await self._in(self._claiming, partial(self._claim, wanted))
                self._troubles.succeeded(self._name)
            except Exception as error:
                await self._rest(stop, error)
                continue
            await self._sort(claims, stop, accept)

    def _claim(self, limit: int) -> list[Claim]:
        claims = self._queue.claim(limit)
        if not claims:
            self._queue.wait(LOOK_EVERY)
            claims = self._queue.claim(limit)
        self._held.add(claims)
        return claims

    async def _sort(self, claims: list[Claim], stop: asyncio.Event, accept: Callable[[Triage], None]) -> None:
        """Look at what came; the admin database, which knows the administrations, may be away for a while."""
        while claims and not stop.is_set():
            try:
                sorted_out = await self._in(self._claiming, lambda: triage(claims, self._administrations))
            except Exception as error:
                await self._rest(stop, error)
                continue
            self._troubles.succeeded(self._name)
            accept(sorted_out)
            return
        self.give_back(claims)

    async def _rest(self, stop: asyncio.Event, error: Exception) -> None:
        if not isinstance(error, OrderSyncError):
            _log.error("%s: messages could not be taken", self._name, exc_info=error)
        await _either(stop, self._troubles.failed(self._name, error))

    async def _settle_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await _either(self._to_settle, LOOK_EVERY.total_seconds())
            if self._to_settle.is_set():
                self._to_settle.clear()
                await _either(done, SETTLE_EVERY)
                await self._settle_patiently()
        for _ in range(_LAST_TRIES):
            self._give_back += self._unsettled()
            if not self._held or await self._settle():
                return

    async def _settle_patiently(self) -> None:
        if not await self._settle():
            self._to_settle.set()
            await asyncio.sleep(1)

    def _unsettled(self) -> list[Claim]:
        waiting = {
            claim.token for claim in (*self._complete, *self._give_back, *(claim for claim, _, _ in self._give_up))
        }
        return [claim for claim in self._held.all() if claim.token not in waiting]

    async def _settle(self) -> bool:
        """False when the queue does not answer: all of it is tried again, and what was settled already is passed
        over then."""
        complete, give_back, give_up = self._complete, self._give_back, self._give_up
        self._complete, self._give_back, self._give_up = [], [], []

        def settle() -> None:
            self._queue.complete(complete)
            for claim, reason, description in give_up:
                self._queue.dead_letter(claim, reason=reason, description=description)
            self._queue.abandon(give_back)

        try:
            await self._in(self._settling, settle)
        except Exception as error:
            _log.warning("%s: messages could not be settled: %s", self._name, error)
            self._complete, self._give_up = complete + self._complete, give_up + self._give_up
            self._give_back = give_back + self._give_back
            return False
        self._held.remove([*complete, *give_back, *(claim for claim, _, _ in give_up)])
        self._changed.set()
        return True

    async def _in(self, threads: ThreadPoolExecutor, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(threads, call)


async def stopped_or_broken(stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Wait for `stop`. Work that ends before it raises what broke it: the process must not live on without it."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopping, work}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        stopping.cancel()


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or for that long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
