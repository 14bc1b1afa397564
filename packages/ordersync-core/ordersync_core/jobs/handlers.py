"""Job runs from being due to their end; the work itself is another feature's handler, called by `dispatch.run_job`."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve, frozen

from ordersync_core.jobs.commands import (
    BeatRun,
    BeginRun,
    CancelRun,
    CreateJobDefinition,
    DeleteJobDefinition,
    EnqueueDue,
    FindFailed,
    ResubmitRun,
    SendOwedRuns,
    StartRun,
    WakeNext,
)
from ordersync_core.jobs.model import (
    AFTER_LEASE,
    FIRST_RETRY,
    JobDefinition,
    JobRun,
    RunState,
    UnknownJob,
    absorb,
    due_run,
    retry_at,
)
from ordersync_core.jobs.ports import JobsUnitOfWork
from ordersync_core.jobs.schedule import next_due, parse
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, NotFound, TemporaryFailure
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Lease
from ordersync_core.kernel.unit_of_work import Opens
from ordersync_core.messaging.commands import FindStuck
from ordersync_core.messaging.envelope import QUEUED_JOBS, Envelope, encode
from ordersync_core.messaging.queue import Message, Queues, send_id
from ordersync_core.messaging.tickets import REPORTED_AFTER, Stuck, sent_straight_away, ticketed

_log = logging.getLogger(__name__)


class RunCancelled(Conflict):
    """Somebody cancelled the run while it was at work."""


def create_job_definition(
    command: CreateJobDefinition, *, uow: JobsUnitOfWork, clock: Clock, ids: Ids, context: Context
) -> JobDefinition:
    """Raises InvalidInput for a cron expression or time zone that makes no sense, or that never fires."""
    schedule = parse(command.cron, command.time_zone)
    definition = JobDefinition(
        id=ids.new(),
        administration=_administration(context),
        type=command.type,
        parameters=command.parameters,
        schedule=schedule,
        next_due=next_due(schedule, after=clock.now()),
    )
    with uow:
        uow.definitions.add(definition)
        uow.commit()
    return definition


def delete_job_definition(command: DeleteJobDefinition, *, uow: JobsUnitOfWork, context: Context) -> None:
    with uow:
        definition = uow.definitions.find(command.id)
        if definition is None or definition.administration != context.administration:
            raise NotFound(f"there is no job definition {command.id}")
        uow.definitions.delete(command.id)
        uow.commit()


def enqueue_due(
    command: EnqueueDue, *, uows: Opens[JobsUnitOfWork], queues: Queues, clock: Clock, context: Context
) -> int:
    """Make one run of each definition whose moment has come, and send their tickets; answers how many were due: with as
    many as the limit there may be more."""
    now = clock.now()
    with uows() as uow:
        due = uow.definitions.due(now, command.limit)
        if not due:
            return 0
        runs, moved = _due_runs(due, now=now, correlation_id=context.correlation_id)
        added = uow.runs.add(runs)
        uow.definitions.move_on(moved)
        uow.commit()
    _send(added, queues, now)
    return len(due)


def _due_runs(
    due: Sequence[JobDefinition | UnknownJob], *, now: datetime, correlation_id: str
) -> tuple[list[JobRun], list[JobDefinition | UnknownJob]]:
    """The runs, and the definitions moved on. One of which no run can be made is disabled, or it would be met again
    each second; the others have their turn."""
    runs: list[JobRun] = []
    moved: list[JobDefinition | UnknownJob] = []
    for definition in due:
        try:
            run, following = due_run(
                definition, now=now, ticket_at=sent_straight_away(now), correlation_id=correlation_id
            )
        except Exception as error:  # a fault of ours that one definition shows is no reason to stop all
            _log.error("%s: job definition %s is disabled: %s", definition.administration, definition.id, error)
            moved.append(evolve(definition, next_due=None))
        else:
            runs.append(run)
            moved.append(following)
    return runs, moved


def send_owed_runs(command: SendOwedRuns, *, uows: Opens[JobsUnitOfWork], queues: Queues, clock: Clock) -> int:
    """Send the tickets that runs owe: lost ones again, and those of runs whose wait is over."""
    with uows() as uow:
        owed = uow.runs.owed(clock.now(), command.limit)
    if owed:
        now = clock.now()
        _send(owed, queues, now)
        with uows() as uow:
            uow.runs.ticketed(
                [
                    ticketed(run.id, was=run.ticket_at, tickets_before=run.tickets, at=now)
                    for run in owed
                    if run.ticket_at is not None
                ]
            )
            uow.commit()
    return len(owed)


def stuck_runs(command: FindStuck, *, uow: JobsUnitOfWork) -> Sequence[Stuck]:
    """Of all administrations."""
    with uow:
        runs = uow.runs.stuck(REPORTED_AFTER, command.limit)
    return [
        Stuck(administration=run.administration, what=f"job run {run.id} ({run.type})", tickets=run.tickets)
        for run in runs
    ]


def start_run(
    command: StartRun, *, uow: JobsUnitOfWork, queues: Queues, clock: Clock, ids: Ids, context: Context
) -> JobRun:
    """A run that somebody starts; its ticket is sent straight away, or, should the queue be away, when it is back."""
    now = clock.now()
    run = JobRun(
        id=ids.new(),
        administration=_administration(context),
        type=command.type,
        parameters=command.parameters,
        triggered_by=context.triggered_by,
        correlation_id=context.correlation_id,
        created_at=now,
        ticket_at=sent_straight_away(now),
        tickets=1,
    )
    with uow:
        uow.runs.add([run])
        uow.commit()
    with suppress(TemporaryFailure):  # the run is kept: it owes its ticket
        _send([run], queues, now)
    return run


def cancel_run(command: CancelRun, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> JobRun:
    """A run at work notices at its next progress report."""
    with uow:
        run = _find(uow, command.id, context).cancel(at=clock.now())
        uow.runs.save(run)
        uow.commit()
    return run


def resubmit_run(command: ResubmitRun, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> JobRun:
    """The dead letter's run starts again; one that has not failed, or not any more, stays as it is."""
    with uow:
        run = _find(uow, command.id, context)
        if run.state is not RunState.FAILED:
            return run
        again = run.restart(at=clock.now())
        uow.runs.save(again)
        uow.commit()
    return again


@frozen(kw_only=True)
class Begun:
    """A run that this process may work on, under the lease. is_first: nobody has begun its work before."""

    run: JobRun
    lease: Lease
    is_first: bool


def begin_run(command: BeginRun, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> Begun | JobRun | None:
    """Take the run up. The run itself when it is given up instead, for it has killed too many processes: committed
    before its dead letter, for without it the row would owe the same ticket again.

    None when there is nothing to do for this message: the run has ended, must wait still, or another process works on
    it (its ticket then comes again after the lease could have ended).
    """
    with uow:
        run = _find(uow, command.id, context)
        if run.state.ended or run.must_wait_still(clock.now()):
            return None
        lease = uow.leases.take(run_lease(run), command.holder)
        if lease is None:
            uow.runs.save(evolve(run, ticket_at=clock.now() + AFTER_LEASE))
            uow.commit()
            return None
        taken_up = run.taken_up(command.message, deaths=command.deaths)
        if taken_up.has_killed:
            killer = taken_up.fail(f"{taken_up.deaths} processes died while they worked on it", at=clock.now())
            uow.runs.save(killer)
            uow.leases.release(lease)
            uow.commit()
            return killer
        begun = taken_up.start(at=clock.now())
        uow.runs.save(begun)
        uow.commit()
    return Begun(run=begun, lease=lease, is_first=run.started_at is None)


def find_failed(command: FindFailed, *, uow: JobsUnitOfWork, context: Context) -> JobRun | None:
    """The run if its dead letter is to be made of this message: a process that died between the two leaves such a one.
    Further messages of the run are none of that."""
    with uow:
        run = _find(uow, command.id, context)
    return run if run.state is RunState.FAILED and run.message == command.message else None


def beat_run(command: BeatRun, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> None:
    """Prolong the lease and note how far the run is. Raises LeaseLost or RunCancelled."""
    with uow:
        uow.leases.hold(command.lease)
        run = _find(uow, command.id, context)
        if run.state is not RunState.RUNNING:
            raise RunCancelled(f"job run {run.id} is {run.state}")
        uow.runs.save(run.beat(command.progress, at=clock.now()))
        uow.commit()


@frozen(kw_only=True)
class LetGo:
    """Give a begun run back: its process was asked to end."""

    begun: Begun


def let_go(command: LetGo, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> None:
    with uow:
        uow.leases.hold(command.begun.lease)
        run = _find(uow, command.begun.run.id, context)
        if not run.state.ended:
            uow.runs.save(run.give_back(at=clock.now()))
        uow.leases.release(command.begun.lease)
        uow.commit()


@frozen(kw_only=True)
class EndRun:
    """How the work of a begun run came out: exactly one of the fields after `begun` is set.

    result: what it did. failure: why it must not be tried again. busy: whose holder it must wait for.
    temporary: why it cannot go on for now; `retry_after` is the wait that was asked for, None when it just failed.
    """

    begun: Begun
    result: Mapping[str, Any] | None = None
    failure: str | None = None
    busy: str | None = None
    temporary: str | None = None
    retry_after: timedelta | None = None


def end_run(command: EndRun, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> JobRun:
    """Keep the outcome. Raises LeaseLost when another process has taken the run over; it decides then."""
    now = clock.now()
    with uow:
        uow.leases.hold(command.begun.lease)
        run = _find(uow, command.begun.run.id, context)
        if run.state.ended:
            uow.leases.release(command.begun.lease)
            uow.commit()
            return run
        after = _outcome(command, run, uow=uow, now=now)
        uow.runs.save(after)
        uow.leases.release(command.begun.lease)
        uow.commit()
    return after


def _outcome(command: EndRun, run: JobRun, *, uow: JobsUnitOfWork, now: datetime) -> JobRun:
    if command.result is not None:
        return run.succeed(command.result, at=now)
    if command.busy is not None:
        unbegun = run.not_started() if command.begun.is_first else run
        return _wait_for(unbegun, command.busy, uow=uow, now=now)
    if command.temporary is not None:
        if command.retry_after is not None and command.retry_after > timedelta(0):
            asked = now + max(command.retry_after, FIRST_RETRY)
            return run.wait_until(asked, reason=command.temporary, tries=run.tries)
        moment = retry_at(run, now=now)
        if moment is not None:
            return run.wait_until(moment, reason=command.temporary, tries=run.tries + 1)
    return run.fail(command.failure or command.temporary or "no reason was given", at=now)


def _wait_for(run: JobRun, holder: str, *, uow: JobsUnitOfWork, now: datetime) -> JobRun:
    waiting = uow.runs.waiting_for(run.administration, holder)
    absorbed = absorb(run, waiting, at=now)
    if absorbed is not None:
        other, merged = absorbed
        uow.runs.save(other)
        return merged
    return run.wait_for(holder, at=now, reason=f"{holder} is at work for another run")


def wake_next(command: WakeNext, *, uow: JobsUnitOfWork, clock: Clock, context: Context) -> JobRun | None:
    """The run that ends wakes the oldest one that waits for what it held."""
    with uow:
        waiting = uow.runs.waiting_for(_administration(context), command.holder)
        if not waiting:
            return None
        woken = waiting[0].wake(at=clock.now())
        uow.runs.save(woken)
        uow.commit()
    return woken


def run_lease(run: JobRun) -> str:
    return f"run:{run.id}"


def _find(uow: JobsUnitOfWork, id: Any, context: Context) -> JobRun:
    """The run, if it belongs to the context's administration: the admin database holds those of all."""
    run = uow.runs.find(id)
    if run is None or run.administration != context.administration:
        raise NotFound(f"there is no job run {id}")
    return run


def _send(runs: Sequence[JobRun], queues: Queues, now: datetime) -> None:
    queues[QUEUED_JOBS].send(
        [Message(send_id=send_id(run.id, now), body=encode(_ticket(run)), group=run.administration) for run in runs]
    )


def _ticket(run: JobRun) -> Envelope:
    return Envelope(
        id=run.id,
        type=run.type.value,
        administration=run.administration,
        occurred_at=run.created_at,
        triggered_by=run.triggered_by,
        correlation_id=str(run.id),
        body={"run": str(run.id)},
    )


def _administration(context: Context) -> str:
    if context.administration is None:
        raise NotFound("name an administration")
    return context.administration
