"""The queue `events`: every handler of each notification, one transaction for what belongs to one administration."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, Final

from ordersync_core.dispatch import EVENT_TYPES, handle_events
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.commands import GiveUpEvents
from ordersync_core.messaging.handlers import give_up_events
from ordersync_core.messaging.queue import CLAIM_LIMIT
from ordersync_functions.claims import AT_ONCE, Intake, stopped_or_broken
from ordersync_functions.patience import Patience, Unreachable
from ordersync_functions.triage import Hopeless, Task, Triage
from ordersync_functions.troubles import Troubles

CAPACITY: Final = 5_000
PILE: Final = 100
"""What may wait for an administration whose database does not answer."""

QUICK: Final = 0.05
LONG: Final = 0.2
"""Seconds that a batch takes: after a quick one the next takes in more, after a long one, which holds up whoever else
writes, less. How long it takes depends on how many webhooks each event goes to."""

SETTLE_AGAIN: Final = 1.0
"""Seconds until the next try to settle with a queue that does not answer."""

TRIES: Final = 3
"""How often a message is tried whose handler fails in a way that nobody foresaw."""

_log = logging.getLogger("ordersync.functions")


class EventsConsumer:
    """Handles what `intake` brings: administrations side by side, the messages of one after another.

    wake: told the administration whenever its deliveries may owe tickets.
    """

    def __init__(
        self,
        application: Application,
        intake: Intake,
        threads: Executor,
        stop: asyncio.Event,
        wake: Callable[[str], None],
    ) -> None:
        self._application = application
        self._intake = intake
        self._stop = stop
        self._wake = wake
        self._troubles = Troubles("handle events")
        self._patience = Patience(threads, self._troubles, stop, on_trouble=self._trim)
        self._waiting: dict[str, deque[Task]] = {}
        self._sizes: dict[str, int] = {}
        self._suspects: Sequence[Task] = ()
        self._working: set[asyncio.Task[None]] = set()

    def room(self) -> int:
        """None while messages are under suspicion: they are worked on by themselves."""
        return 0 if self._suspects else AT_ONCE

    async def run(self) -> None:
        done = asyncio.Event()
        taking = asyncio.create_task(self._intake.run(self._accept, self.room, stop=self._stop, done=done))
        await stopped_or_broken(self._stop, taking)
        while self._working:
            await asyncio.wait(self._working)
        done.set()
        await taking

    def _accept(self, triage: Triage) -> None:
        for hopeless in triage.hopeless:
            self._start(self._give_up(hopeless))
        # a claim holds either messages that have died or fresh ones, and none follows while there are suspects
        self._suspects = [task for task in triage.tasks if task.claim.deaths]
        for task in triage.tasks:
            if not task.claim.deaths:
                self._enqueue(task)
        self._question_suspects()

    def _enqueue(self, task: Task) -> None:
        administration = task.envelope.administration
        if administration in self._waiting:
            self._waiting[administration].append(task)
        else:
            self._waiting[administration] = deque([task])
            self._start(self._work_for(administration))
        if administration in self._troubles:
            self._trim(administration)

    def _trim(self, administration: str) -> None:
        pile = self._waiting.get(administration, deque())
        self._let_go([pile.pop() for _ in range(len(pile) - PILE)])

    async def _work_for(self, administration: str) -> None:
        waiting = self._waiting[administration]
        try:
            while waiting and not self._stop.is_set():
                size = self._sizes.get(administration, CLAIM_LIMIT)
                batch = [waiting.popleft() for _ in range(min(len(waiting), size))]
                began = time.monotonic()
                await self._handle(administration, batch)
                self._sizes[administration] = next_size(size, len(batch), seconds=time.monotonic() - began)
        finally:
            del self._waiting[administration]
            self._intake.give_back([task.claim for task in waiting])

    async def _handle(self, administration: str, batch: Sequence[Task], tries: int = 1) -> None:
        claims = [task.claim for task in batch]
        envelopes = [task.envelope for task in batch]
        try:
            await self._patience.run(
                administration, lambda: handle_events(self._application, envelopes, envelopes[0].context)
            )
        except Unreachable:
            self._let_go(batch)
        except Exception as error:
            if len(batch) > 1:
                for task in batch:
                    await self._handle(administration, [task])
            elif isinstance(error, OrderSyncError) or tries == TRIES:
                await self._refuse(batch[0], error)
            else:
                await asyncio.sleep(tries)
                await self._handle(administration, batch, tries + 1)
        else:
            self._intake.complete(claims)
            self._wake(administration)

    def _let_go(self, batch: Sequence[Task]) -> None:
        """Their rows stand behind a database that does not answer, and owe another ticket when it does. A process
        that stops gives them to the next one instead."""
        claims = [task.claim for task in batch]
        if self._stop.is_set():
            self._intake.give_back(claims)
        else:
            self._intake.complete(claims)

    async def _refuse(self, task: Task, error: Exception) -> None:
        if not isinstance(error, OrderSyncError):
            _log.error("handling %s %s failed", task.envelope.type, task.envelope.id, exc_info=error)
        known = task.envelope.type in EVENT_TYPES
        await self._give_up(
            Hopeless(
                claim=task.claim,
                reason=type(error).__name__ if known else "UnknownType",
                description=str(error) or type(error).__name__,
                envelope=task.envelope,
            )
        )

    async def _give_up(self, hopeless: Hopeless) -> None:
        """First on the row, then in the queue: the row owes no more tickets from then on."""
        envelope = hopeless.envelope
        if envelope is not None:
            try:
                await self._patience.run(
                    envelope.administration,
                    lambda: self._application.run(give_up_events, GiveUpEvents(ids=(envelope.id,)), envelope.context),
                )
            except Exception as error:
                _log.warning("%s %s could not be marked as given up: %s", envelope.type, envelope.id, error)
        self._intake.give_up(hopeless.claim, reason=hopeless.reason, description=hopeless.description)

    def _question_suspects(self) -> None:
        """Messages that came back because their process died are handled while nothing else is in hand, so that they
        take no others along should one of them kill this process too."""
        if self._suspects and not self._working:
            self._start(self._question(self._suspects))

    async def _question(self, suspects: Sequence[Task]) -> None:
        """What was handled before is settled first, and the suspects before anything else is claimed: whatever this
        process still holds when it dies has died with it, done or not."""
        await self._settle_all()
        if not self._stop.is_set():
            await asyncio.gather(*(self._handle(*each) for each in by_administration(suspects).items()))
            await self._settle_all()
        self._suspects = ()
        self._intake.look_again()

    async def _settle_all(self) -> None:
        while not await self._intake.settled() and not self._stop.is_set():
            await asyncio.sleep(SETTLE_AGAIN)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("events: a part of the work failed", exc_info=task.exception())
        if not self._stop.is_set():
            self._question_suspects()


def by_administration(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    batches: dict[str, list[Task]] = {}
    for task in tasks:
        batches.setdefault(task.envelope.administration, []).append(task)
    return batches


def next_size(size: int, handled: int, *, seconds: float) -> int:
    """How many messages the next batch may have, from 25 to 1,000, after one that might have had `size` and took so
    long for those it had."""
    if seconds > LONG:
        return max(handled // 2, CLAIM_LIMIT // 4)
    return min(size * 2, AT_ONCE) if seconds < QUICK and handled == size else size
