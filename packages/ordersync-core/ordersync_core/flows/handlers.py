"""Running a flow: read, detect, plan, apply, a batch at a time; then the deletions, with a guard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from attrs import evolve, frozen

from ordersync_core.connections.commands import GetAccessToken
from ordersync_core.connections.handlers import get_access_token, secret_settings_of
from ordersync_core.connections.model import Connection
from ordersync_core.connections.ports import Connectors, OpenConnection, Source, SourcePage, SourceRecord
from ordersync_core.flows.commands import RetryQuarantined, RunFlow, SetUpFlow
from ordersync_core.flows.model import (
    Counts,
    Execution,
    Flow,
    FlowKind,
    KnownRecord,
    Quarantined,
    RawRecord,
    Step,
    deletions_allowed,
)
from ordersync_core.flows.plan import (
    Plan,
    build,
    codes_claimed,
    codes_touched,
    detect,
    latest,
    plan,
    refuse_taken_codes,
)
from ordersync_core.flows.ports import FlowReads, FlowsUnitOfWork, ItemMapping, KeysSeen, Mappings, RawRepository
from ordersync_core.items.model import ItemCode, delete
from ordersync_core.jobs.model import Progress
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.canonical import content_hash
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound, Stopping, TemporaryFailure
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat, Lease
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Opens

BATCH = 5_000


class FlowBusy(Conflict):
    """Another run of the flow holds its lease; it wakes whoever waits for it."""


def set_up_flow(command: SetUpFlow, *, uow: FlowsUnitOfWork, connectors: Connectors) -> Flow:
    """Raises NotFound for an unknown connection, InvalidInput for an aspect that its connector cannot supply."""
    with uow:
        connection = uow.connections.find(command.connection_id)
        if connection is None:
            raise NotFound(f"there is no connection {command.connection_id}")
        offered = connectors[connection.connector].description.entities.get(command.kind.value, ())
        aspects = offered if command.aspects is None else command.aspects
        unknown = [aspect for aspect in aspects if aspect not in offered]
        if unknown or not aspects:
            raise InvalidInput(
                f"{connection.connector} supplies {', '.join(offered) or 'nothing'} for {command.kind.value}s, "
                f"not {', '.join(unknown) or 'nothing at all'}"
            )
        kept = uow.flows.find(command.kind)
        wanted = Flow(
            kind=command.kind,
            source=Step(connection_id=connection.id, aspects=tuple(aspects)),
            guard=command.guard,
            version=1 if kept is None else kept.version,
        )
        if kept == wanted:
            return kept
        if kept is not None:
            wanted = evolve(wanted, version=kept.version + 1)
        uow.flows.save(wanted)
        uow.commit()
        return wanted


def retry_quarantined(command: RetryQuarantined, *, uow: FlowsUnitOfWork) -> int:
    """How many records the next run builds again."""
    with uow:
        flow = _flow(uow, command.kind)
        connection = _connection(uow, flow)
        keys = uow.quarantine.keys(command.kind) if command.keys is None else list(command.keys)
        count = _raw(uow, flow, connection).reset_applied(keys)
        uow.commit()
        return count


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
    """One run, or the rest of one that was killed.

    Raises:
        FlowBusy: another run of this flow is at it.
        TemporaryFailure: the source failed for now; what was read before is kept.
        LeaseLost: another process took the flow over; it goes on from what is committed.
    """
    run = _begin(command, uows=uows, mappings=mappings, clock=clock)
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
    try:
        with heartbeat.every(RENEW_EVERY, lambda: _hold(run, uows=uows)):
            execution = _apply_left_over(run, run.execution, uows=uows, clock=clock)
            execution = _read(run, execution, source, uows=uows, reads=reads, clock=clock, progress=progress)
            execution = _apply_left_over(run, execution, uows=uows, clock=clock, again=True)
            execution = _delete_dropped(run, execution, uows=uows, clock=clock)
        return _finish(run, execution, uows=uows, clock=clock)
    except (Exception, Stopping):
        _release(run, uows=uows)
        raise


@frozen(kw_only=True)
class _Run:
    """What holds for the whole of a run."""

    command: RunFlow
    flow: Flow
    connection: Connection
    mapping: ItemMapping
    lease: Lease
    execution: Execution
    cursor: Any


def _begin(command: RunFlow, *, uows: Opens[FlowsUnitOfWork], mappings: Mappings, clock: Clock) -> _Run:
    with uows() as uow:
        flow = _flow(uow, command.kind)
        connection = _connection(uow, flow)
        lease = uow.leases.take(flow.lease_name, command.holder)
        if lease is None:
            raise FlowBusy(f"the {flow.kind.value} flow is at work already")
        raw = _raw(uow, flow, connection)
        execution = uow.executions.find(command.run_id)
        if execution is None:
            if command.complete:
                raw.save_cursor(None)
            execution = Execution(
                run_id=command.run_id,
                kind=flow.kind,
                started_at=clock.now(),
                complete_read=command.codes is None and raw.cursor() is None,
            )
        elif execution.complete_read and raw.cursor() is not None:
            # The read was broken off: what it saw is forgotten, so it may delete nothing by absence.
            execution = evolve(execution, complete_read=False)
        uow.executions.save(execution)
        cursor = raw.cursor()
        uow.commit()
    return _Run(
        command=command,
        flow=flow,
        connection=connection,
        mapping=mappings.item(connection.connector),
        lease=lease,
        execution=execution,
        cursor=cursor,
    )


def _apply_left_over(
    run: _Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], clock: Clock, again: bool = False
) -> Execution:
    """Build records that were stored but never applied, or applied by an earlier version of the flow.

    again: they get another try, so that one which is refused once more counts no second time.
    """
    while True:
        with uows() as uow:
            uow.leases.hold(run.lease)
            raw = _raw(uow, run.flow, run.connection)
            left_over = raw.unapplied(run.flow.version, BATCH)
            if not left_over:
                return execution
            planned = _plan(uow, raw, left_over, run=run, clock=clock)
            _write(uow, planned, run=run)
            raw.mark([record.known for record in planned.records])
            counts = evolve(planned.counts, quarantined=0) if again else planned.counts
            execution = execution.add(
                evolve(counts, read=counts.created + counts.updated + counts.unchanged + counts.quarantined)
            )
            uow.executions.save(execution)
            uow.commit()


def _read(
    run: _Run,
    execution: Execution,
    source: Source,
    *,
    uows: Opens[FlowsUnitOfWork],
    reads: FlowReads,
    clock: Clock,
    progress: RunProgress,
) -> Execution:
    codes = run.command.codes
    stream = source.pages(run.cursor) if codes is None else source.named(codes)
    entity = run.flow.kind.value
    seen_keys = (
        reads.keys_seen(run.connection.connector, run.connection.id, entity)
        if execution.complete_read
        else nullcontext(None)
    )
    all_told_apart, read = True, 0
    with seen_keys as seen:
        for batch in batches(stream, BATCH):
            execution = _apply(run, execution, batch, uows=uows, clock=clock)
            all_told_apart = all_told_apart and not batch.broken
            if seen is not None:
                seen.add([record.key for record in batch.records])
            read += len(batch.records) + len(batch.broken)
            progress.tell(_progress(run, execution, read))
        # An entry that cannot be told apart may be any of the records that seem to be missing.
        if seen is not None and all_told_apart:
            _drop_missing(run, seen, uows=uows)
    return execution


def _progress(run: _Run, execution: Execution, read: int) -> Progress:
    """Of named records all are read again when a run goes on; of changes, and of everything, what is left."""
    text = f"{run.flow.kind.value}s read"
    if run.command.codes is None:
        return Progress(done=execution.counts.read, text=text)
    return Progress(done=read, total=len(run.command.codes), text=text)


def batches(pages: Iterable[SourcePage], size: int) -> Iterator[SourcePage]:
    """Whole pages put together until at least `size` records; the cursor is the last page's.

    When the source fails for now, what it brought before comes first: the next attempt goes on from there.
    """
    held: list[SourcePage] = []
    failure: TemporaryFailure | None = None
    try:
        for page in pages:
            held.append(page)
            if sum(len(page.records) for page in held) >= size:
                yield _together(held)
                held = []
    except TemporaryFailure as error:
        failure = error
    if held:
        yield _together(held)
    if failure is not None:
        raise failure


def _together(pages: Sequence[SourcePage]) -> SourcePage:
    return SourcePage(
        records=[record for page in pages for record in page.records],
        tombstones=[tombstone for page in pages for tombstone in page.tombstones],
        broken=[entry for page in pages for entry in page.broken],
        cursor=pages[-1].cursor,
    )


def _apply(
    run: _Run, execution: Execution, batch: SourcePage, *, uows: Opens[FlowsUnitOfWork], clock: Clock
) -> Execution:
    """Store what changed, build and write it, and move the cursor on: one transaction."""
    records = latest(batch.records)
    with uows() as uow:
        uow.leases.hold(run.lease)
        raw = _raw(uow, run.flow, run.connection)
        known = raw.known([r.key for r in records] + [t.key for t in batch.tombstones])
        removed = _tombstoned(batch, records, known)
        # Before the plan: what is removed gives up its code to a record of this batch that was made anew with it.
        newly_dropped = raw.drop(removed)
        detected = detect(records, known, flow_version=run.flow.version)
        planned = _plan(uow, raw, detected.changed, run=run, clock=clock)
        _write(uow, planned, run=run)
        raw.save(planned.records)
        raw.mark(detected.returned)
        raw.drop(removed)
        if newly_dropped or planned.deleted:
            _try_refused_again(uow, raw, run=run)
        _quarantine_broken(uow, batch, run=run, clock=clock)
        if batch.cursor is not None:
            raw.save_cursor(batch.cursor)
        counts = planned.counts.plus(
            Counts(
                read=len(records) + len(batch.broken),
                unchanged=detected.unchanged,
                quarantined=detected.quarantined + len(batch.broken),
            )
        )
        execution = execution.add(counts)
        uow.executions.save(execution)
        uow.commit()
    return execution


def _plan(uow: FlowsUnitOfWork, raw: RawRepository, records: Sequence[RawRecord], *, run: _Run, clock: Clock) -> Plan:
    if not records:
        return Plan()
    built = build(records, run.mapping, run.connection.settings)
    drafts = refuse_taken_codes(built, raw.holders(codes_claimed(built)))
    kept = uow.items.get(codes_touched(drafts))
    return plan(drafts, kept, aspects=run.flow.source.aspects, flow_version=run.flow.version, at=clock.now())


def _write(uow: FlowsUnitOfWork, planned: Plan, *, run: _Run) -> None:
    if planned.saved:
        uow.items.save(planned.saved)
    if planned.deleted:
        uow.items.delete(planned.deleted)
    uow.tell(*planned.changes)
    if planned.quarantined:
        uow.quarantine.save(run.flow.kind, planned.quarantined)
    if planned.cleared:
        uow.quarantine.clear(run.flow.kind, planned.cleared)


def _quarantine_broken(uow: FlowsUnitOfWork, batch: SourcePage, *, run: _Run, clock: Clock) -> None:
    if batch.broken:
        uow.quarantine.save(
            run.flow.kind,
            [
                Quarantined(key=f"broken:{content_hash(raw)}", reason=reason, raw=raw, since=clock.now())
                for raw, reason in batch.broken
            ],
        )


def _tombstoned(batch: SourcePage, records: Sequence[SourceRecord], known: Mapping[str, KnownRecord]) -> list[str]:
    """Keys that the source removed, unless a record of the same batch or store is of a later version."""
    if not batch.tombstones:
        return []
    versions = [(key, record.source_version) for key, record in known.items()]
    versions += [(record.key, record.version) for record in records]
    newest: dict[str, int] = {}
    for key, version in versions:
        newest[key] = max(newest.get(key, 0), version or 0)
    return [
        tombstone.key
        for tombstone in batch.tombstones
        if tombstone.key in newest and (tombstone.version is None or newest[tombstone.key] <= tombstone.version)
    ]


def _drop_missing(run: _Run, seen: KeysSeen, *, uows: Opens[FlowsUnitOfWork]) -> None:
    for keys in seen.missing(BATCH):
        with uows() as uow:
            uow.leases.hold(run.lease)
            raw = _raw(uow, run.flow, run.connection)
            if raw.drop(keys):
                _try_refused_again(uow, raw, run=run)
            uow.commit()


def _try_refused_again(uow: FlowsUnitOfWork, raw: RawRepository, *, run: _Run) -> None:
    """Codes have become free: one of them may be what a record in quarantine was refused for."""
    raw.reset_applied(uow.quarantine.keys(run.flow.kind))


def _delete_dropped(run: _Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], clock: Clock) -> Execution:
    """Delete what the source dropped, a batch at a time, if the guard allows it all; hold it otherwise."""
    with uows() as uow:
        known, dropped = _raw(uow, run.flow, run.connection).count()
    if dropped == 0:
        return execution
    if not deletions_allowed(
        dropped,
        known=known,
        read=known - dropped,  # not the count of the run, which has in it what was built without being read
        complete_read=execution.complete_read,
        confirmed=run.command.confirm_deletions,
        guard=run.flow.guard,
    ):
        return evolve(execution, held=dropped)
    while True:
        with uows() as uow:
            uow.leases.hold(run.lease)
            raw = _raw(uow, run.flow, run.connection)
            records: list[KnownRecord] = raw.dropped(BATCH)
            if not records:
                return execution
            codes = {ItemCode(r.code) for r in records if r.code is not None}
            taken_over = raw.holders(sorted(codes))
            kept = uow.items.get(sorted(code for code in codes if code not in taken_over))
            uow.items.delete(list(kept))
            uow.tell(*(delete(item) for item in kept.values()))
            raw.delete([record.key for record in records])
            uow.quarantine.clear(run.flow.kind, [record.key for record in records])
            execution = execution.add(Counts(deleted=len(kept)))
            uow.executions.save(execution)
            uow.commit()


def _finish(run: _Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], clock: Clock) -> Execution:
    ended = evolve(execution, ended_at=clock.now())
    with uows() as uow:
        uow.leases.hold(run.lease)
        uow.executions.save(ended)
        uow.leases.release(run.lease)
        uow.commit()
    return ended


def _hold(run: _Run, *, uows: Opens[FlowsUnitOfWork]) -> None:
    with uows() as uow:
        uow.leases.hold(run.lease)
        uow.commit()


def _release(run: _Run, *, uows: Opens[FlowsUnitOfWork]) -> None:
    with uows() as uow:
        uow.leases.release(run.lease)
        uow.commit()


def _flow(uow: FlowsUnitOfWork, kind: FlowKind) -> Flow:
    flow = uow.flows.find(kind)
    if flow is None:
        raise NotFound(f"the {kind.value} flow is not set up")
    return flow


def _connection(uow: FlowsUnitOfWork, flow: Flow) -> Connection:
    connection = uow.connections.find(flow.source.connection_id)
    if connection is None:
        raise NotFound(f"there is no connection {flow.source.connection_id}")
    return connection


def _raw(uow: FlowsUnitOfWork, flow: Flow, connection: Connection) -> RawRepository:
    return uow.raw(connection.connector, connection.id, flow.kind.value)
