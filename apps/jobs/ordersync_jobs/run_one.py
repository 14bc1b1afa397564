"""One message, one run, exit."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from ordersync_core.dispatch import run_job
from ordersync_core.jobs.commands import FindFailed
from ordersync_core.jobs.handlers import find_failed
from ordersync_core.jobs.model import JobRun, RunState
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import InvalidInput, LeaseLost, NotFound, OrderSyncError, Stopping
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat
from ordersync_core.messaging.envelope import QUEUED_JOBS, Envelope, decode_envelope
from ordersync_core.messaging.queue import Claim, Queue, Queues


def run_one(application: Application) -> bool:
    """Claim one message of `queued-jobs`, do its run with the lock kept alive, settle it. False: there was none.

    Whatever the run itself comes to is on its row; a run that failed, or killed its processes, is a dead letter too,
    so that somebody can resubmit it. A process that is asked to end gives run and message back. So does one that meets
    an error which is not the run's own (a database that is away), with the message alone: had it kept it until the lock
    ran out, the queue would count it as dead.
    """
    queue = application.resolve(Queues)[QUEUED_JOBS]
    claims: list[Claim] = queue.claim(1)
    if not claims:
        return False
    claim = claims[0]
    heartbeat: Heartbeat = application.resolve(Heartbeat)
    try:
        with heartbeat.every(RENEW_EVERY, _renewing(queue, claim)):
            settle = _work(application, claim, heartbeat)
    except (Stopping, OrderSyncError):
        with suppress(OrderSyncError):
            queue.abandon([claim])
        raise
    settle(queue)
    return True


def _work(application: Application, claim: Claim, heartbeat: Heartbeat) -> Callable[[Queue], object]:
    """Do the run; answers how its message is to be settled."""
    try:
        envelope = decode_envelope(claim.message.body)
        run_id = UUID(str(envelope.body.get("run")))
    except (InvalidInput, ValueError) as error:
        reason = f"the message cannot be read: {error}"
        return lambda queue: queue.dead_letter(claim, reason="Malformed", description=reason)
    try:
        run = _run(application, run_id, claim, heartbeat, envelope.context)
    except LeaseLost:
        return lambda queue: queue.complete([claim])
    except NotFound as error:
        unknown = str(error)
        return lambda queue: queue.dead_letter(claim, reason="UnknownRun", description=unknown)
    return _settlement(claim, envelope, run)


def _run(application: Application, run_id: UUID, claim: Claim, heartbeat: Heartbeat, context: Context) -> JobRun | None:
    """What this message's run came to; None when it needed no work."""
    message = claim.message.send_id
    run = run_job(
        application,
        run_id,
        holder=_holder(),
        heartbeat=heartbeat,
        context=context,
        message=message,
        deaths=claim.deaths,
    )
    return run or application.run(find_failed, FindFailed(id=run_id, message=message), context)


def _settlement(claim: Claim, envelope: Envelope, run: JobRun | None) -> Callable[[Queue], object]:
    if run is not None and run.state is RunState.FAILED:
        reason = "KilledItsProcess" if run.has_killed else "JobFailed"
        return lambda queue: queue.dead_letter(claim, reason=reason, description=f"{envelope.type}: {run.reason}")
    return lambda queue: queue.complete([claim])


def _renewing(queue: Queue, claim: Claim) -> Callable[[], None]:
    def renew() -> None:
        queue.renew([claim])

    return renew


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
