"""The queue `webhooks`: a pool, never a barrier. Claims come in as results go out; who is slow holds up only itself.

A message becomes a request (prepare: rows -> requests, in a thread), waits for its turn, is sent on the event loop, and
its result is kept with those of the same 50 ms (record: results -> rows, in a thread) before the message is settled.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from attrs import define, field, frozen

from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import OrderSyncError
from ordersync_core.messaging.envelope import Envelope
from ordersync_core.messaging.queue import Claim
from ordersync_core.webhooks.commands import FindDead, GiveUpDelivery, Prepare, Record
from ordersync_core.webhooks.handlers.attempts import Recorded, find_dead, give_up_delivery, prepare, record
from ordersync_core.webhooks.health import OPENS_AT
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse, WebhookSender
from ordersync_functions.claims import Intake, stopped_or_broken
from ordersync_functions.contexts import tenant
from ordersync_functions.fair import FairOrder, Limits
from ordersync_functions.patience import Patience, Unreachable
from ordersync_functions.triage import Hopeless, Task, Triage
from ordersync_functions.troubles import Troubles

CAPACITY: Final = 5_000
AHEAD: Final = 600
"""Requests that may start or are being prepared: enough to never run dry, few enough to leave some to others."""

RECORD_EVERY: Final = 0.05
FRESH_SECONDS: Final = 30.0
"""A request that waited longer is made anew when its turn comes: its signature tells the time, and its webhook may have
changed."""

DOUBTFUL_AFTER: Final = OPENS_AT
"""After so many failures in a row what waits for the webhook is looked at again: its breaker may be open."""

LOW: Final = 20
"""With fewer requests waiting for a webhook, more of its deliveries are asked for."""

PILE: Final = 100
"""What may wait for an administration whose database does not answer."""

GRACE: Final = timedelta(seconds=5)
"""What sends under way get when the process is asked to stop; one that is cut off is no attempt, and is made again."""

_log = logging.getLogger("ordersync.functions")


@frozen(cache_hash=True)
class Key:
    """One attempt at one delivery. Several messages may stand for it; it is made once."""

    administration: str
    delivery: UUID
    attempt: int


@define(eq=False)
class Work:
    key: Key
    envelope: Envelope
    claims: list[Claim]
    request: WebhookRequest | None = None
    prepared_at: float = 0.0
    response: WebhookResponse | None = None
    in_flight: bool = False


@define
class _Failures:
    """Failures in a row, by webhook."""

    counts: dict[Hashable, int] = field(factory=dict)

    def add(self, webhook: Hashable, response: WebhookResponse) -> bool:
        """Whether what waits for the webhook has become doubtful."""
        if _succeeded(response):
            self.counts.pop(webhook, None)
            return False
        count = self.counts.get(webhook, 0) + 1
        doubtful = count >= DOUBTFUL_AFTER or response.status == 410
        self.counts[webhook] = 0 if doubtful else count
        return doubtful


class DeliveryPool:
    """Delivers what `intake` brings until `stop`.

    threads: where rows are read and written.
    wake: told the administration whenever its rows owe tickets sooner than anybody expects.
    """

    def __init__(
        self,
        application: Application,
        intake: Intake,
        sender: WebhookSender,
        clock: Clock,
        threads: Executor,
        stop: asyncio.Event,
        wake: Callable[[str], None],
        *,
        limits: Limits | None = None,
        grace: timedelta = GRACE,
    ) -> None:
        self._application = application
        self._intake = intake
        self._sender = sender
        self._clock = clock
        self._stop = stop
        self._wake = wake
        self._grace = grace
        self._troubles = Troubles("deliver")
        self._patience = Patience(threads, self._troubles, stop, on_trouble=self._trim)
        self._order: FairOrder[Work] = FairOrder(limits or Limits())
        self._works: dict[Key, Work] = {}
        self._unprepared: dict[str, list[Work]] = {}
        self._preparing: dict[str, int] = {}
        self._finished: dict[str, list[Work]] = {}
        self._recording: set[str] = set()
        self._failures = _Failures()
        self._results = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._working: set[asyncio.Task[None]] = set()

    def room(self) -> int:
        """How many more messages it wants; none while that is few, for a claim costs the same for one and for many."""
        preparing = sum(
            self._preparing.get(administration, 0) + len(self._unprepared.get(administration, ()))
            for administration in {*self._preparing, *self._unprepared}
            if administration not in self._troubles
        )
        wanted = AHEAD - preparing - self._order.startable()
        return wanted if wanted >= AHEAD // 2 else 0

    async def run(self) -> None:
        done = asyncio.Event()
        taking = asyncio.create_task(self._intake.run(self._accept, self.room, stop=self._stop, done=done))
        recording = asyncio.create_task(self._record_results())
        await stopped_or_broken(self._stop, taking)
        self._give_back(self._order.withdraw_all())
        self._give_back([work for works in self._unprepared.values() for work in works])
        self._unprepared.clear()
        await self._end_sends()
        recording.cancel()
        while self._finished or self._working:
            self._record_finished()
            if self._working:
                await asyncio.wait(self._working)
        done.set()
        await taking

    # from messages to requests

    def _accept(self, triage: Triage) -> None:
        for hopeless in triage.hopeless:
            self._begin(self._refuse(hopeless))
        for task in triage.tasks:
            self._admit(task)
        for administration in {task.envelope.administration for task in triage.tasks}:
            self._prepare_soon(administration)

    def _admit(self, task: Task) -> None:
        try:
            key = _key(task.envelope)
        except (KeyError, ValueError, TypeError, AttributeError):
            description = "the message does not say which attempt at which delivery it stands for"
            self._intake.give_up(task.claim, reason="Malformed", description=description)
            return
        known = self._works.get(key)
        if known is not None:
            known.claims.append(task.claim)
            return
        work = self._works[key] = Work(key=key, envelope=task.envelope, claims=[task.claim])
        pile = self._unprepared.setdefault(key.administration, [])
        pile.append(work)
        if key.administration in self._troubles:
            self._trim(key.administration)

    def _trim(self, administration: str) -> None:
        pile = self._unprepared.get(administration, [])
        self._let_go(pile[PILE:])
        del pile[PILE:]

    def _prepare_soon(self, administration: str) -> None:
        if administration not in self._preparing and self._unprepared.get(administration):
            self._preparing[administration] = 0
            self._begin(self._prepare_waiting(administration))

    async def _prepare_waiting(self, administration: str) -> None:
        try:
            while not self._stop.is_set() and (batch := self._next_batch(administration)):
                self._preparing[administration] = len(batch)
                await self._prepare(administration, batch)
        finally:
            del self._preparing[administration]
            self._intake.look_again()

    def _next_batch(self, administration: str) -> list[Work]:
        """Of each delivery one attempt only: `prepare` takes them by delivery."""
        pile = self._unprepared.pop(administration, [])
        batch: dict[UUID, Work] = {}
        rest = []
        for work in pile:
            if len(batch) < AHEAD and work.key.delivery not in batch:
                batch[work.key.delivery] = work
            else:
                rest.append(work)
        if rest:
            self._unprepared[administration] = rest
        return list(batch.values())

    async def _prepare(self, administration: str, batch: Sequence[Work]) -> None:
        try:
            requests = await self._requests(administration, batch)
        except Unreachable:
            self._let_go(batch)
        except Exception as error:
            if len(batch) > 1:
                for work in batch:
                    await self._prepare(administration, [work])
            else:
                await self._give_up(batch[0], error)
        else:
            for work in batch:
                if (request := requests.get(work.key.delivery)) is not None:
                    self._line_up(work, request)
            await self._end_without_work(administration, [work for work in batch if work.key.delivery not in requests])
            self._start_sends()

    async def _requests(self, administration: str, batch: Sequence[Work]) -> dict[UUID, WebhookRequest]:
        """By delivery."""
        command = Prepare(messages=tuple(work.envelope for work in batch))
        context = tenant("deliver_webhook", administration)
        made = await self._patience.run(administration, lambda: self._application.run(prepare, command, context))
        return {request.delivery_id: request for request in made}

    def _line_up(self, work: Work, request: WebhookRequest) -> None:
        work.request, work.prepared_at = request, time.monotonic()
        if self._stop.is_set():
            self._give_back([work])
        else:
            self._order.put(work.key.administration, request.webhook_id, work)

    async def _end_without_work(self, administration: str, works: Sequence[Work]) -> None:
        """Their deliveries have moved on. Where one was given up and its process died before the dead letter, the dead
        letter is made now."""
        if not works:
            return
        command = FindDead(attempts={work.key.delivery: work.key.attempt for work in works})
        context = tenant("deliver_webhook", administration)
        try:
            dead = await self._patience.run(administration, lambda: self._application.run(find_dead, command, context))
        except Unreachable:
            self._let_go(works)
            return
        except Exception as error:
            # their rows owe another ticket, if anything is left to do; held on to they would never end
            _log.error("what became of %d deliveries is not known", len(works), exc_info=error)
            self._let_go(works)
            return
        for work in works:
            self._settle(work, dead.get(work.key.delivery))

    # from requests to results

    def _start_sends(self) -> None:
        while not self._stop.is_set() and (work := self._order.take()) is not None:
            task = asyncio.create_task(self._send_in_turn(work))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._intake.look_again()

    async def _send_in_turn(self, work: Work | None) -> None:
        """Send it, and then what its end makes room for: with a task for each, the tasks would cost as much as what
        they do."""
        while work is not None:
            await self._send(work)
            work = None if self._stop.is_set() else self._order.take()
            self._intake.look_again()

    async def _send(self, work: Work) -> None:
        work.in_flight = True
        request = work.request
        if time.monotonic() - work.prepared_at > FRESH_SECONDS:
            request = await self._renewed(work)
        if request is None:
            return
        work.response = await self._post(request)
        # the place of one that failed is free when its failure is recorded: that may open the webhook's breaker
        if _succeeded(work.response):
            self._release(work)
        self._finished.setdefault(work.key.administration, []).append(work)
        self._results.set()

    async def _renewed(self, work: Work) -> WebhookRequest | None:
        """The request as it is now; None when there is nothing to send any more."""
        administration = work.key.administration
        try:
            request = (await self._requests(administration, [work])).get(work.key.delivery)
        except Unreachable:
            self._let_go([work])
        except Exception as error:
            await self._give_up(work, error)
        else:
            if request is not None:
                return request
            await self._end_without_work(administration, [work])
        self._release(work)
        return None

    async def _post(self, request: WebhookRequest) -> WebhookResponse:
        started_at = self._clock.now()
        try:
            return await self._sender.send(request)
        except Exception as error:
            _log.error("delivery %s could not be sent", request.delivery_id, exc_info=error)
            return WebhookResponse(
                request=request,
                started_at=started_at,
                ended_at=self._clock.now(),
                status=None,
                error=f"OrderSync could not send it: {type(error).__name__}",
            )

    def _release(self, work: Work) -> None:
        if work.in_flight and work.request is not None:
            work.in_flight = False
            self._order.release(work.key.administration, work.request.webhook_id)

    async def _end_sends(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._grace.total_seconds())
        for task in list(self._sending):
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)

    # from results to rows

    async def _record_results(self) -> None:
        while True:
            await self._results.wait()
            self._results.clear()
            await asyncio.sleep(RECORD_EVERY)
            self._record_finished()

    def _record_finished(self) -> None:
        for administration in list(self._finished):
            if administration not in self._recording:
                self._recording.add(administration)
                self._begin(self._record_waiting(administration))

    async def _record_waiting(self, administration: str) -> None:
        works = self._finished.pop(administration)
        try:
            await self._record(administration, works)
        finally:
            self._recording.discard(administration)
            for work in works:
                self._release(work)
            self._start_sends()
            if administration in self._finished:
                self._results.set()

    async def _record(self, administration: str, works: Sequence[Work]) -> None:
        command = Record(responses=tuple(work.response for work in works if work.response is not None))
        context = tenant("deliver_webhook", administration)
        try:
            recorded = await self._patience.run(administration, lambda: self._application.run(record, command, context))
        except Unreachable:
            self._let_go(works)
        except Exception as error:
            if len(works) > 1:
                for work in works:
                    await self._record(administration, [work])
            else:
                await self._give_up(works[0], error)
        else:
            self._settle_recorded(administration, works, recorded)

    def _settle_recorded(self, administration: str, works: Sequence[Work], recorded: Iterable[Recorded]) -> None:
        dead = {(result.delivery_id, result.attempt): result.dead for result in recorded}
        for work in works:
            self._settle(work, dead.get((work.key.delivery, work.key.attempt)))
        for webhook in self._doubtful(works):
            self._look_again_at(administration, webhook)
        if any(self._owes_more(work) for work in works):
            self._wake(administration)

    def _doubtful(self, works: Sequence[Work]) -> set[UUID]:
        return {
            work.request.webhook_id
            for work in works
            if work.request is not None
            and work.response is not None
            and self._failures.add(work.request.webhook_id, work.response)
        }

    def _look_again_at(self, administration: str, webhook: UUID) -> None:
        withdrawn = self._order.withdraw(administration, webhook)
        if withdrawn:
            self._unprepared.setdefault(administration, []).extend(withdrawn)
            self._prepare_soon(administration)

    def _owes_more(self, work: Work) -> bool:
        """Whether a ticket may be owed now that nobody has been told of: a retry, or the next of those that wait as
        rows."""
        if work.request is None or work.response is None or not _succeeded(work.response):
            return True
        return self._order.waiting(work.key.administration, work.request.webhook_id) < LOW

    # how a message ends

    def _settle(self, work: Work, dead: str | None) -> None:
        """Complete its messages, or, when the delivery was given up, make one of them its dead letter."""
        self._works.pop(work.key, None)
        if dead is None:
            self._intake.complete(work.claims)
            return
        self._intake.give_up(work.claims[0], reason=dead, description=_description(work))
        self._intake.complete(work.claims[1:])

    async def _give_up(self, work: Work, error: Exception) -> None:
        if not isinstance(error, OrderSyncError):
            _log.error("delivery %s failed", work.key.delivery, exc_info=error)
        self._works.pop(work.key, None)
        hopeless = Hopeless(
            claim=work.claims[0],
            reason=type(error).__name__,
            description=str(error) or type(error).__name__,
            envelope=work.envelope,
        )
        await self._refuse(hopeless)
        self._intake.complete(work.claims[1:])

    async def _refuse(self, hopeless: Hopeless) -> None:
        """First on the row, then in the queue: the row owes no more tickets from then on."""
        if hopeless.envelope is not None:
            await self._note_on_row(hopeless.envelope, hopeless.reason)
        self._intake.give_up(hopeless.claim, reason=hopeless.reason, description=hopeless.description)

    async def _note_on_row(self, envelope: Envelope, reason: str) -> None:
        try:
            key = _key(envelope)
            command = GiveUpDelivery(id=key.delivery, attempt=key.attempt, reason=reason)
            await self._patience.run(
                key.administration, lambda: self._application.run(give_up_delivery, command, envelope.context)
            )
        except Exception as error:
            _log.warning("delivery %s could not be marked as given up: %s", envelope.id, error)

    def _let_go(self, works: Sequence[Work]) -> None:
        """Their rows stand behind a database that does not answer, and owe another ticket when it does. A process
        that stops gives them to the next one instead."""
        if self._stop.is_set():
            self._give_back(works)
            return
        for work in works:
            self._settle(work, None)

    def _give_back(self, works: Sequence[Work]) -> None:
        for work in works:
            self._works.pop(work.key, None)
            self._intake.give_back(work.claims)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("webhooks: a part of the work failed", exc_info=task.exception())


def _key(envelope: Envelope) -> Key:
    attempt = envelope.body["attempt"]
    if not isinstance(attempt, int) or isinstance(attempt, bool) or attempt < 1:
        raise ValueError("attempt must be a whole number from 1")
    return Key(envelope.administration, UUID(envelope.body["delivery"]), attempt)


def _succeeded(response: WebhookResponse) -> bool:
    return response.status is not None and 200 <= response.status < 300


def _description(work: Work) -> str:
    outcome = "it was given up before"
    if work.response is not None:
        status, error = work.response.status, work.response.error
        outcome = f"the last answer was HTTP {status}" if status is not None else f"there was no answer: {error}"
    return f"{work.envelope.type} after {work.key.attempt} attempts: {outcome}"
