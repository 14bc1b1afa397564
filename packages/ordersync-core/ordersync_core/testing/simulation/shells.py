"""What the shells do, an actor for each: the same calls of the same handlers, in the same order, on one claim at a
time."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from ordersync_core.dispatch import handle_events, run_job
from ordersync_core.jobs.commands import EnqueueDue, FindFailed, SendOwedRuns
from ordersync_core.jobs.handlers import enqueue_due, find_failed, send_owed_runs
from ordersync_core.jobs.model import JobRun, RunState
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import (
    ChangedMeanwhile,
    LeaseLost,
    OrderSyncError,
    Stopping,
    TemporaryFailure,
)
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat
from ordersync_core.messaging.commands import GiveUpEvents, Relay, TakeDue, Wake
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, WEBHOOKS, Envelope, decode_envelope
from ordersync_core.messaging.handlers import give_up_events, relay, take_due, wake
from ordersync_core.messaging.ports import MessagingUnitOfWork
from ordersync_core.messaging.queue import MAXIMUM_DEATHS, Claim, Queue, Queues
from ordersync_core.testing.simulation.process import Process
from ordersync_core.webhooks.commands import FindDead, GiveUpDelivery, Prepare, Record, SendOwedDeliveries
from ordersync_core.webhooks.handlers.attempts import find_dead, give_up_delivery, prepare, record
from ordersync_core.webhooks.handlers.tickets import send_owed_deliveries
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse, WebhookSender

SWEEP: Final = timedelta(minutes=5)
TIMER: Final = timedelta(seconds=1)
AT_ONCE: Final = 4
"""Messages in one claim: enough to share a transaction, few enough to be interleaved."""

GRACE: Final = timedelta(seconds=5)
"""What sends under way get when their process is asked to end."""

FOR_NOW: Final = (TemporaryFailure, ChangedMeanwhile)
REST: Final = timedelta(seconds=5)


def publish_outbox(process: Process, administrations: Sequence[str], due: Callable[[], bool]) -> None:
    """Visits whoever was woken, and everybody once in a sweep.

    due: whether anybody has been woken for a moment that has come.
    """
    swept_at: datetime | None = None
    while not process.stopping:
        now = process.scheduler.now
        visited = set[str]()
        with suppress(*FOR_NOW):
            visited.update(process.application.run(take_due, TakeDue(), _platform()))
        if swept_at is None or now - swept_at >= SWEEP:
            swept_at = now
            visited |= set(administrations)
        for administration in sorted(visited):
            if not process.stopping:
                _visit(process, administration)
        process.wait(due, SWEEP)
        process.rest(TIMER)


def _visit(process: Process, administration: str) -> None:
    application, context = process.application, _tenant(administration)
    now = application.resolve(Clock).now()
    try:
        sent = application.run(relay, Relay(), context)
        sent += application.run(send_owed_deliveries, SendOwedDeliveries(), context)
        next_visit = application.run(_earliest_ticket_at, None, context)
    except FOR_NOW:
        next_visit = now + REST
    else:
        if next_visit is not None and next_visit <= now and not sent:
            next_visit = now + REST
    if next_visit is not None:
        with suppress(OrderSyncError):
            application.run(wake, Wake(administration=administration, at=next_visit), _platform())


def _earliest_ticket_at(_: None, *, uow: MessagingUnitOfWork) -> datetime | None:
    with uow:
        return uow.outbox.earliest_ticket_at()


def schedule_jobs(process: Process) -> None:
    while not process.stopping:
        with suppress(*FOR_NOW):
            process.application.run(enqueue_due, EnqueueDue(), _platform())
            process.application.run(send_owed_runs, SendOwedRuns(), _platform())
        process.rest(timedelta(minutes=1))


def consume_events(process: Process) -> None:
    _consume(process, EVENTS, AT_ONCE, _handle_events)


def deliver_webhooks(process: Process) -> None:
    _consume(process, WEBHOOKS, AT_ONCE, _deliver)


def _consume(process: Process, name: str, limit: int, work: Callable[[Process, Queue, Sequence[Claim]], None]) -> None:
    queue = process.application.resolve(Queues)[name]
    heartbeat: Heartbeat = process.application.resolve(Heartbeat)
    while not process.stopping:
        try:
            claims = queue.claim(limit)
        except FOR_NOW:
            process.rest(REST)
            continue
        if not claims:
            process.wait(lambda: queue.depth().ready > 0, timedelta(minutes=10))
            continue
        with heartbeat.every(RENEW_EVERY, _renewing(queue, claims)):
            work(process, queue, claims)


def _renewing(queue: Queue, claims: Sequence[Claim]) -> Callable[[], None]:
    def renew() -> None:
        queue.renew(claims)

    return renew


def _handle_events(process: Process, queue: Queue, claims: Sequence[Claim]) -> None:
    for claim in [claim for claim in claims if claim.deaths >= MAXIMUM_DEATHS]:
        _refuse_event(process, queue, claim, "KilledItsProcess")
    for batch in _by_administration(claim for claim in claims if claim.deaths < MAXIMUM_DEATHS):
        if process.stopping:
            _give_back(queue, batch)
        else:
            _handle_batch(process, queue, batch)


def _handle_batch(process: Process, queue: Queue, batch: Sequence[Claim]) -> None:
    envelopes = [_envelope(claim) for claim in batch]
    try:
        handle_events(process.application, envelopes, envelopes[0].context)
    except FOR_NOW:
        _give_back(queue, batch)
    except OrderSyncError as error:
        if len(batch) > 1:
            for claim in batch:
                _handle_batch(process, queue, [claim])
        else:
            _refuse_event(process, queue, batch[0], type(error).__name__)
    else:
        _settle(lambda: queue.complete(batch))


def _refuse_event(process: Process, queue: Queue, claim: Claim, reason: str) -> None:
    envelope = _envelope(claim)
    command = GiveUpEvents(ids=(envelope.id,))
    with suppress(*FOR_NOW):
        patiently(process, lambda: process.application.run(give_up_events, command, envelope.context))
    _settle(lambda: queue.dead_letter(claim, reason=reason, description=reason))


def _deliver(process: Process, queue: Queue, claims: Sequence[Claim]) -> None:
    for claim in [claim for claim in claims if claim.deaths >= MAXIMUM_DEATHS]:
        _refuse_delivery(process, queue, claim, "KilledItsProcess")
    for batch in _by_administration(claim for claim in claims if claim.deaths < MAXIMUM_DEATHS):
        _deliver_batch(process, queue, batch)


def _deliver_batch(process: Process, queue: Queue, batch: Sequence[Claim]) -> None:
    if process.stopping:
        _give_back(queue, batch)
        return
    by_attempt = _one_of_each(batch)
    others = [claim for claim in batch if claim not in by_attempt.values()]
    context = _envelope(batch[0]).context
    envelopes = tuple(_envelope(claim) for claim in by_attempt.values())
    try:
        requests = process.application.run(prepare, Prepare(messages=envelopes), context)
        responses = _send(process, requests)
        dead = _record(process, responses, context)
        dead |= _found_dead(process, [key for key in by_attempt if key not in _keys(requests)], context)
    except FOR_NOW:
        _give_back(queue, batch)
        return
    except OrderSyncError as error:
        if len(batch) > 1:
            for claim in batch:
                _deliver_batch(process, queue, [claim])
        else:
            _refuse_delivery(process, queue, batch[0], type(error).__name__)
        return
    cut_off = _keys(requests) - _keys(response.request for response in responses)
    for key, claim in by_attempt.items():
        if key in cut_off:
            _give_back(queue, [claim])
        else:
            _settle_delivery(queue, claim, dead.get(key))
    if others:
        _deliver_batch(process, queue, others)


def _one_of_each(batch: Sequence[Claim]) -> dict[tuple[UUID, int], Claim]:
    """Of each delivery one message: `prepare` takes them by delivery."""
    first: dict[UUID, Claim] = {}
    for claim in batch:
        first.setdefault(_attempt(claim)[0], claim)
    return {_attempt(claim): claim for claim in first.values()}


def _keys(requests: Iterable[WebhookRequest]) -> set[tuple[UUID, int]]:
    return {(request.delivery_id, request.attempt) for request in requests}


def _send(process: Process, requests: Sequence[WebhookRequest]) -> tuple[WebhookResponse, ...]:
    """All at once. When the process is asked to end, those under way get a grace; one that is cut off is no attempt."""
    sender = process.application.resolve(WebhookSender)
    responses: list[WebhookResponse] = []

    def send(request: WebhookRequest) -> None:
        responses.append(_now(sender.send(request)))

    sends = [process.start("send", partial(send, request)) for request in requests if not process.stopping]

    def are_over() -> bool:
        return not any(actor in process.actors for actor in sends)

    process.wait(are_over, timedelta(hours=1))
    process.scheduler.wait(are_over, GRACE)
    for actor in sends:
        process.stop(actor)
    return tuple(responses)


def _record(process: Process, responses: tuple[WebhookResponse, ...], context: Context) -> dict[tuple[UUID, int], str]:
    if not responses:
        return {}
    recorded = process.application.run(record, Record(responses=responses), context)
    return {(r.delivery_id, r.attempt): r.dead for r in recorded if r.dead is not None}


def _found_dead(process: Process, keys: Sequence[tuple[UUID, int]], context: Context) -> dict[tuple[UUID, int], str]:
    """Those given up by a process that died before the dead letter."""
    if not keys:
        return {}
    found = process.application.run(find_dead, FindDead(attempts=dict(keys)), context)
    return {key: found[key[0]] for key in keys if key[0] in found}


def _settle_delivery(queue: Queue, claim: Claim, dead: str | None) -> None:
    if dead is None:
        _settle(lambda: queue.complete([claim]))
    else:
        _settle(lambda: queue.dead_letter(claim, reason=dead, description=dead))


def _refuse_delivery(process: Process, queue: Queue, claim: Claim, reason: str) -> None:
    id, attempt = _attempt(claim)
    command = GiveUpDelivery(id=id, attempt=attempt, reason=reason)
    with suppress(*FOR_NOW):
        patiently(process, lambda: process.application.run(give_up_delivery, command, _envelope(claim).context))
    _settle_delivery(queue, claim, reason)


def run_one_job(process: Process, holder: str) -> bool:
    """One message, one run; False: there was none. A process that is asked to end, or meets an error that is not the
    run's own, has given its message back when it raises."""
    queue = process.application.resolve(Queues)[QUEUED_JOBS]
    claims = queue.claim(1)
    if not claims:
        return False
    claim = claims[0]
    heartbeat: Heartbeat = process.application.resolve(Heartbeat)
    try:
        with heartbeat.every(RENEW_EVERY, _renewing(queue, claims)):
            run = _run(process, claim, holder, heartbeat)
    except LeaseLost:
        run = None
    except (Stopping, OrderSyncError):
        _give_back(queue, claims)
        raise
    if run is not None and run.state is RunState.FAILED:
        reason = str(run.reason)
        _settle(lambda: queue.dead_letter(claim, reason="JobFailed", description=reason))
    else:
        _settle(lambda: queue.complete(claims))
    return True


def _run(process: Process, claim: Claim, holder: str, heartbeat: Heartbeat) -> JobRun | None:
    envelope, message = _envelope(claim), claim.message.send_id
    run = run_job(
        process.application,
        envelope.id,
        holder=holder,
        heartbeat=heartbeat,
        context=envelope.context,
        message=message,
        deaths=claim.deaths,
    )
    return run or process.application.run(find_failed, FindFailed(id=envelope.id, message=message), envelope.context)


def _give_back(queue: Queue, claims: Sequence[Claim]) -> None:
    _settle(lambda: queue.abandon(claims))


def _settle(settle: Callable[[], object]) -> None:
    """What cannot be settled comes again, and is known then."""
    with suppress(TemporaryFailure):
        settle()


def patiently(process: Process, call: Callable[[], Any]) -> Any:
    """Again and again while it fails for now only; once more at most when the process is asked to end."""
    while True:
        try:
            return call()
        except FOR_NOW:
            if process.stopping:
                raise
            process.rest(REST)


def _by_administration(claims: Iterable[Claim]) -> list[list[Claim]]:
    batches: dict[str, list[Claim]] = {}
    for claim in claims:
        batches.setdefault(claim.message.group, []).append(claim)
    return list(batches.values())


def _envelope(claim: Claim) -> Envelope:
    return decode_envelope(claim.message.body)


def _attempt(claim: Claim) -> tuple[UUID, int]:
    body = _envelope(claim).body
    return UUID(body["delivery"]), int(body["attempt"])


def _now(work: Any) -> Any:
    """The answer of a coroutine that waits for nothing but its turn."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise RuntimeError("a sender of the simulation has nothing to wait for")


def _platform() -> Context:
    return Context(administration=None, triggered_by="simulation", correlation_id="simulation")


def _tenant(administration: str) -> Context:
    return _platform().within(administration)
