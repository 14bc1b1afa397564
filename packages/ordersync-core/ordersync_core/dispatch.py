"""What arrives by wire: job types -> command and handler, event types -> handlers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ordersync_core.flows.commands import ItemSelectiveSync, ItemSync, RunFlow
from ordersync_core.flows.handlers.running import FlowBusy, run_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.jobs.commands import BeginRun, ResubmitRun, StartRun, WakeNext
from ordersync_core.jobs.handlers import Begun, EndRun, LetGo, begin_run, end_run, let_go, resubmit_run, wake_next
from ordersync_core.jobs.model import JobRun, JobType
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.jobs.progress import BeatingProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.decoding import decode
from ordersync_core.kernel.errors import (
    ChangedMeanwhile,
    InvalidInput,
    LeaseLost,
    NotFound,
    OrderSyncError,
    Stopping,
    TemporaryFailure,
    Violation,
)
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat
from ordersync_core.messaging.commands import OweEventsAgain
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, WEBHOOKS, Envelope, decode_envelope
from ordersync_core.messaging.handlers import owe_events_again
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.commands import FanOut, ResubmitDelivery
from ordersync_core.webhooks.handlers.again import resubmit_delivery
from ordersync_core.webhooks.handlers.fan_out import fan_out

_log = logging.getLogger(__name__)

PARAMETERS: Mapping[JobType, type[Any]] = {
    JobType.ITEM_SYNC: ItemSync,
    JobType.ITEM_SELECTIVE_SYNC: ItemSelectiveSync,
}

EVENT_TYPES = frozenset({"item.created", "item.updated", "item.deleted"})


def start_command(type: str, parameters: Mapping[str, Any]) -> StartRun:
    """A checked request to start a job; InvalidInput for an unknown type or parameters that do not fit it."""
    try:
        job_type = JobType(type)
        kind = PARAMETERS[job_type]
    except (ValueError, KeyError):
        text = f"is not a job that can be started; there are {', '.join(known.value for known in PARAMETERS)}"
        raise InvalidInput(f"{type!r} {text}", (Violation("/type", text),)) from None
    try:
        decode(dict(parameters), kind)
    except InvalidInput as error:
        violations = tuple(Violation(f"/parameters{v.pointer}", v.message) for v in error.violations)
        raise InvalidInput(f"parameters: {error}", violations) from None
    return StartRun(type=job_type, parameters=parameters)


def handle_events(application: Application, messages: Sequence[Envelope], context: Context) -> None:
    """Run every handler of these notifications, all of one administration."""
    unknown = [message.type for message in messages if message.type not in EVENT_TYPES]
    if unknown:
        raise InvalidInput(f"event type {unknown[0]!r} is not known here")
    application.run(fan_out, FanOut(messages=tuple(messages)), context)


def run_job(
    application: Application,
    run_id: UUID,
    *,
    holder: str,
    heartbeat: Heartbeat,
    context: Context,
    message: str | None = None,
    deaths: int = 0,
) -> JobRun | None:
    """Do a run's work from beginning to end, or give it up; None when this message needs no work.

    holder: names the process, for the leases.
    message: the send id of the message that stands for the run; None: it came by none.
    deaths: of processes that held this message before.

    Raises:
        LeaseLost: another process has taken the run over; the message is completed without more work.
    """
    begun = application.run(begin_run, BeginRun(id=run_id, holder=holder, message=message, deaths=deaths), context)
    if not isinstance(begun, Begun):
        return begun
    progress = BeatingProgress(application, begun, context)
    working = application.providing(RunProgress, progress)
    try:
        with heartbeat.every(RENEW_EVERY, progress.beat):
            outcome = _work(working, begun, holder=holder, context=context)
    except Stopping:
        application.run(let_go, LetGo(begun=begun), context)
        raise
    ended = application.run(end_run, outcome, context)
    if outcome.busy is None:  # who found the flow busy did not hold it, and would wake itself
        application.run(wake_next, WakeNext(holder=_flow_holder(FlowKind.ITEM)), context)
    return ended


def _work(application: Application, begun: Begun, *, holder: str, context: Context) -> EndRun:
    """The work itself, and how it came out."""
    try:
        return EndRun(begun=begun, result=_JOBS[begun.run.type](application, begun, holder, context))
    except FlowBusy:
        return EndRun(begun=begun, busy=_flow_holder(FlowKind.ITEM))
    except TemporaryFailure as error:
        return EndRun(begun=begun, temporary=str(error), retry_after=error.retry_after)
    except (ChangedMeanwhile, LeaseLost) as error:
        # What was lost may be the flow's lease alone, and is taken anew then; whether the run's is, end_run finds out.
        return EndRun(begun=begun, temporary=str(error))
    except OrderSyncError as error:
        return EndRun(begun=begun, failure=str(error))
    except Exception as error:
        # A fault of ours: the run says so and can be resubmitted, the log has the rest.
        _log.exception("job run %s failed", begun.run.id)
        return EndRun(begun=begun, failure=f"unexpected {type(error).__name__}: {error}")


def _run_item_flow(application: Application, begun: Begun, holder: str, context: Context) -> Mapping[str, Any]:
    command = decode(dict(begun.run.parameters), PARAMETERS[begun.run.type])
    flow_run = RunFlow(
        kind=FlowKind.ITEM,
        run_id=begun.run.id,
        holder=holder,
        codes=tuple(map(str, command.codes)) if isinstance(command, ItemSelectiveSync) else None,
        complete=getattr(command, "complete", False),
        confirm_deletions=getattr(command, "confirm_deletions", False),
    )
    execution = application.run(run_flow, flow_run, context)
    return execution.result()


def _flow_holder(kind: FlowKind) -> str:
    return f"flow:{kind.value}"


_JOBS: Mapping[JobType, Callable[[Application, Begun, str, Context], Mapping[str, Any]]] = {
    JobType.ITEM_SYNC: _run_item_flow,
    JobType.ITEM_SELECTIVE_SYNC: _run_item_flow,
}


def resubmit(application: Application, queue_name: str, dead_letter_id: str, context: Context) -> None:
    """Let what a queue gave up be tried again: its row owes a ticket from now, then the dead letter is complete.

    Raises:
        NotFound: there is no such dead letter.
        InvalidInput: its message cannot be read, so there is no row to reset.
    """
    queue = application.resolve(Queues)[queue_name]
    letter = queue.find_dead_letter(dead_letter_id)
    if letter is None:
        raise NotFound(f"there is no dead letter {dead_letter_id} in {queue_name}")
    envelope = decode_envelope(letter.message.body)
    _RESUBMISSIONS[queue_name](application, envelope, context.within(envelope.administration))
    queue.remove_dead_letter(dead_letter_id)


def _resubmit_event(application: Application, envelope: Envelope, context: Context) -> None:
    application.run(owe_events_again, OweEventsAgain(ids=(envelope.id,)), context)


def _resubmit_delivery(application: Application, envelope: Envelope, context: Context) -> None:
    application.run(resubmit_delivery, ResubmitDelivery(id=envelope.id), context)


def _resubmit_run(application: Application, envelope: Envelope, context: Context) -> None:
    application.run(resubmit_run, ResubmitRun(id=envelope.id), context)


_RESUBMISSIONS: Mapping[str, Callable[[Application, Envelope, Context], None]] = {
    EVENTS: _resubmit_event,
    WEBHOOKS: _resubmit_delivery,
    QUEUED_JOBS: _resubmit_run,
}
