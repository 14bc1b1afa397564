"""One run of a flow from beginning to end, or the rest of one that was broken off."""

from contextlib import suppress

from attrs import evolve

from ordersync_core.connections.commands import GetAccessToken
from ordersync_core.connections.handlers import get_access_token, secret_settings_of
from ordersync_core.connections.ports import Connectors, CursorTooOld, OpenConnection
from ordersync_core.flows.commands import RunFlow
from ordersync_core.flows.handlers.applying import apply_left_over
from ordersync_core.flows.handlers.dropping import delete_dropped
from ordersync_core.flows.handlers.reading import read
from ordersync_core.flows.handlers.run import Run, connection_of, flow_of, raw_of
from ordersync_core.flows.model import Execution
from ordersync_core.flows.ports import FlowReads, FlowsUnitOfWork, Mappings
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, OrderSyncError, Stopping
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Opens

BATCH = 5_000


class FlowBusy(Conflict):
    """Another run of the flow holds its lease; it wakes whoever waits for it."""


def run_flow(
    command: RunFlow,
    *,
    uows: Opens[FlowsUnitOfWork],
    reads: FlowReads,
    connectors: Connectors,
    mappings: Mappings,
    secrets: Secrets,
    application: Application,
    clock: Clock,
    context: Context,
    progress: RunProgress,
    heartbeat: Heartbeat,
) -> Execution:
    """One run, or the rest of one that was killed; what it did when nothing is left.

    Raises:
        FlowBusy: another run of this flow is at it.
        TemporaryFailure: the source failed for now; what was read before is kept.
        LeaseLost: another process took the flow over; it goes on from what is committed.
    """
    run = _begin(command, uows=uows, mappings=mappings, clock=clock)
    if isinstance(run, Execution):
        return run
    try:
        source = connectors[run.connection.connector].source(
            run.flow.kind.value,
            OpenConnection(
                id=run.connection.id,
                settings=run.connection.settings,
                secret_settings=secret_settings_of(run.connection, secrets),
                access_token=lambda: application.run(
                    get_access_token,
                    GetAccessToken(connection_id=run.connection.id, holder=command.holder),
                    context,
                ),
            ),
        )
        with heartbeat.every(RENEW_EVERY, lambda: _hold(run, uows=uows)):
            execution = apply_left_over(run, run.execution, uows=uows, clock=clock, progress=progress)
            try:
                execution = read(run, execution, source, uows=uows, reads=reads, clock=clock, progress=progress)
            except CursorTooOld:
                execution = execution.begin_complete_read()
                execution = read(run, execution, source, uows=uows, reads=reads, clock=clock, progress=progress)
            execution = apply_left_over(run, execution, uows=uows, clock=clock, progress=progress, again=True)
            execution = delete_dropped(run, execution, uows=uows, progress=progress)
        return _finish(run, execution, uows=uows, clock=clock)
    except (Exception, Stopping):
        _release(run, uows=uows)
        raise


def _begin(command: RunFlow, *, uows: Opens[FlowsUnitOfWork], mappings: Mappings, clock: Clock) -> Run | Execution:
    """The execution when it has ended already: its process died before it could say so."""
    with uows() as uow:
        flow = flow_of(uow, command.kind)
        connection = connection_of(uow, flow)
        mapping = mappings.item(connection.connector)
        # the run holds it, not the process: who takes the run over from a dead one goes on at once, under a new term
        lease = uow.leases.take(flow.lease_name, f"run:{command.run_id}")
        execution: Execution | None = uow.executions.find(command.run_id)
        # also while the flow is busy: a run that waited for it would have later ones merged into it, and not do them
        if execution is not None and execution.ended_at is not None:
            return execution
        if lease is None:
            raise FlowBusy(f"the {flow.kind.value} flow is at work already")
        raw = raw_of(uow, flow, connection)
        cursor = raw.cursor()
        if execution is not None:
            execution = execution.go_on(cursor)
        else:
            execution = Execution(run_id=command.run_id, kind=flow.kind, started_at=clock.now())
            if command.codes is None and (command.complete or cursor is None):
                empty = cursor is None and raw.count() == (0, 0)
                execution = execution.begin_complete_read(nothing_is_stored=empty)
        uow.executions.save(execution)
        uow.commit()
    return Run(
        command=command,
        flow=flow,
        connection=connection,
        mapping=mapping,
        lease=lease,
        execution=execution,
        cursor=cursor,
        batch=BATCH,
    )


def _finish(run: Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], clock: Clock) -> Execution:
    ended = evolve(execution, ended_at=clock.now(), cursor=None, answered=())
    with uows() as uow:
        uow.leases.hold(run.lease)
        uow.executions.save(ended)
        uow.leases.release(run.lease)
        uow.commit()
    return ended


def _hold(run: Run, *, uows: Opens[FlowsUnitOfWork]) -> None:
    with uows() as uow:
        uow.leases.hold(run.lease)
        uow.commit()


def _release(run: Run, *, uows: Opens[FlowsUnitOfWork]) -> None:
    """A lease that cannot be released runs out; why the run ends matters more."""
    with suppress(OrderSyncError), uows() as uow:
        uow.leases.release(run.lease)
        uow.commit()
