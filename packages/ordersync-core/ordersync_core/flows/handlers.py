"""Running a flow: read, detect, plan, apply, a batch at a time; then the deletions, with a guard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from attrs import evolve, field, frozen

from ordersync_core.connections.commands import GetAccessToken
from ordersync_core.connections.handlers import get_access_token, secret_settings_of
from ordersync_core.connections.model import Connection
from ordersync_core.connections.ports import (
    Connectors,
    CursorTooOld,
    OpenConnection,
    Source,
    SourcePage,
    SourceRecord,
)
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
    Drafts,
    Plan,
    build,
    changing_code,
    codes_claimed,
    codes_touched,
    detect,
    latest,
    outliving,
    plan,
    refuse_taken_codes,
)
from ordersync_core.flows.ports import FlowReads, FlowsUnitOfWork, ItemMapping, KeysSeen, Mappings, RawRepository
from ordersync_core.items.model import ItemCode, delete
from ordersync_core.jobs.model import Progress
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.canonical import content_hash, spelling
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound, OrderSyncError, Stopping, TemporaryFailure
from ordersync_core.kernel.lease import RENEW_EVERY, Heartbeat, Lease
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Opens

BATCH = 5_000


class FlowBusy(Conflict):
    """Another run of the flow holds its lease; it wakes whoever waits for it."""


def set_up_flow(command: SetUpFlow, *, uow: FlowsUnitOfWork, connectors: Connectors) -> Flow:
    """Set the flow up, or change it.

    Raises:
        NotFound: there is no such connection.
        InvalidInput: its connector cannot supply one of the aspects.
    """
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
            execution = _apply_left_over(run, run.execution, uows=uows, clock=clock, progress=progress)
            try:
                execution = _read(run, execution, source, uows=uows, reads=reads, clock=clock, progress=progress)
            except CursorTooOld:
                execution = execution.begin_complete_read()
                execution = _read(run, execution, source, uows=uows, reads=reads, clock=clock, progress=progress)
            execution = _apply_left_over(run, execution, uows=uows, clock=clock, progress=progress, again=True)
            execution = _delete_dropped(run, execution, uows=uows, progress=progress)
        return _finish(run, execution, uows=uows, clock=clock)
    except (Exception, Stopping):
        _release(run, uows=uows)
        raise


@frozen(kw_only=True)
class _Run:
    """What holds for the whole of a run.

    cursor: the flow's, as the run found it.
    refused: the keys that it has counted as quarantined. Forgotten when the run is broken off.
    """

    command: RunFlow
    flow: Flow
    connection: Connection
    mapping: ItemMapping
    lease: Lease
    execution: Execution
    cursor: Any
    refused: set[str] = field(factory=set)


def _begin(command: RunFlow, *, uows: Opens[FlowsUnitOfWork], mappings: Mappings, clock: Clock) -> _Run | Execution:
    """The execution when it has ended already: its process died before it could say so."""
    with uows() as uow:
        flow = _flow(uow, command.kind)
        connection = _connection(uow, flow)
        mapping = mappings.item(connection.connector)
        # the run holds it, not the process: who takes the run over from a dead one goes on at once, under a new term
        lease = uow.leases.take(flow.lease_name, f"run:{command.run_id}")
        execution: Execution | None = uow.executions.find(command.run_id)
        # also while the flow is busy: a run that waited for it would have later ones merged into it, and not do them
        if execution is not None and execution.ended_at is not None:
            return execution
        if lease is None:
            raise FlowBusy(f"the {flow.kind.value} flow is at work already")
        raw = _raw(uow, flow, connection)
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
    return _Run(
        command=command,
        flow=flow,
        connection=connection,
        mapping=mapping,
        lease=lease,
        execution=execution,
        cursor=cursor,
    )


def _apply_left_over(
    run: _Run,
    execution: Execution,
    *,
    uows: Opens[FlowsUnitOfWork],
    clock: Clock,
    progress: RunProgress,
    again: bool = False,
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
            refused = () if again else planned.refused
            counts = evolve(planned.counts, quarantined=len(refused))
            execution = execution.add(_each_once(run, counts, built=planned.cleared, refused=refused))
            uow.executions.save(execution)
            uow.commit()
        progress.tell(_progress(run, execution, len(execution.answered)))


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
    if codes is None:
        stream = source.pages(execution.goes_on_at(run.cursor))
    else:
        answered = set(execution.answered)
        stream = source.named([code for code in codes if code not in answered])
    entity = run.flow.kind.value
    seen_keys = (
        reads.keys_seen(run.connection.connector, run.connection.id, entity)
        if execution.complete_read
        else nullcontext(None)
    )
    all_told_apart, read = True, len(execution.answered)
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
    if execution.complete_read and execution.cursor is not None:
        execution = _move_flow_cursor(run, execution, uows=uows)
    return execution


def _move_flow_cursor(run: _Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork]) -> Execution:
    """Everything was read in one go: the flow goes on from the end of this read."""
    moved = evolve(execution, cursor=None)
    with uows() as uow:
        uow.leases.hold(run.lease)
        _raw(uow, run.flow, run.connection).save_cursor(execution.cursor or None)
        uow.executions.save(moved)
        uow.commit()
    return moved


def _progress(run: _Run, execution: Execution, read: int) -> Progress:
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
        answered=[code for page in pages for code in page.answered],
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
        stored = raw.stored([r.key for r in records] + [t.key for t in batch.tombstones])
        removed_in = _removed_in(raw, batch, records, stored.known)
        removed = _tombstoned(batch, records, stored.known)
        # Before the plan: what is removed gives up its code to a record of this batch that was made anew with it.
        newly_dropped = raw.drop(removed)
        present = outliving(records, removed_in) if removed_in else records
        detected = detect(present, stored, flow_version=run.flow.version)
        # Also before the plan, which may build some of these that are in quarantine.
        raw.mark(detected.newer)
        planned = _plan(uow, raw, detected.changed, run=run, clock=clock)
        _write(uow, planned, run=run)
        raw.save(planned.records)
        raw.drop(removed)
        if newly_dropped or planned.deleted:
            _try_refused_again(uow, raw, run=run)
        _quarantine_broken(uow, batch, run=run, clock=clock)
        if batch.cursor is not None:
            if execution.cursor is None:
                raw.save_cursor(batch.cursor)
            else:
                execution = evolve(execution, cursor=batch.cursor)
        if batch.answered:
            execution = evolve(execution, answered=(*execution.answered, *batch.answered))
        stay = set(detected.quarantined).difference(planned.cleared)
        counts = planned.counts.plus(
            Counts(
                unchanged=detected.unchanged + len(records) - len(present),
                quarantined=len(stay) + len(batch.broken),
            )
        )
        refused = [*planned.refused, *stay]
        execution = execution.add(_each_once(run, counts, built=planned.cleared, refused=refused))
        uow.executions.save(execution)
        uow.commit()
    return execution


def _plan(uow: FlowsUnitOfWork, raw: RawRepository, records: Sequence[RawRecord], *, run: _Run, clock: Clock) -> Plan:
    if not records:
        return Plan()
    drafts = _drafts(raw, records, run=run)
    kept = uow.items.get(codes_touched(drafts))
    return plan(drafts, kept, aspects=run.flow.source.aspects, flow_version=run.flow.version, at=clock.now())


def _drafts(raw: RawRepository, records: Sequence[RawRecord], *, run: _Run) -> Drafts:
    """What is built of the records, and beside them of those in quarantine that hold a code which is claimed: they wait
    for another one, so that codes can be exchanged also when the records come in several batches."""
    drafts = build(records, run.mapping, run.connection.settings)
    holders = dict(raw.holders(codes_claimed(drafts)))
    own = {record.known.key for record in records} if holders else set()
    asked = set(own)
    while others := sorted(set(holders.values()) - asked):
        asked.update(others)
        beside = changing_code(build(raw.waiting(others), run.mapping, run.connection.settings))
        drafts = evolve(drafts, built=[*beside.built, *drafts.built])
        holders |= raw.holders(codes_claimed(beside))
    settled = refuse_taken_codes(drafts, holders)
    if asked == own:
        return settled
    return evolve(settled, refused=[(record, why) for record, why in settled.refused if record.known.key in own])


def _each_once(run: _Run, counts: Counts, *, built: Sequence[str], refused: Sequence[str]) -> Counts:
    """Each record that a run handles counts once: one that was refused before counts as what becomes of it now."""
    counted = run.refused.intersection([*built, *refused]) if run.refused else ()
    run.refused.difference_update(built)
    run.refused.update(refused)
    quarantined = counts.quarantined - len(counted)
    read = counts.created + counts.updated + counts.unchanged + quarantined
    return evolve(counts, read=read, quarantined=quarantined)


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
                for raw, reason in ((_storable(entry), reason) for entry, reason in batch.broken)
            ],
        )


def _storable(entry: Any) -> Any:
    """The entry; what JSON does not know as Python writes it."""
    try:
        spelling(entry)
    except TypeError:
        return ascii(entry)
    return entry


def _removed_in(
    raw: RawRepository, batch: SourcePage, records: Sequence[SourceRecord], known: Mapping[str, KnownRecord]
) -> Mapping[str, int]:
    """The version in which the source removed what the batch tells to be gone, and those of the records that are not
    stored, or dropped. It is kept, so that an older version that comes later brings nothing back."""
    told: dict[str, int] = {}
    for tombstone in batch.tombstones:
        if tombstone.version is not None:
            told[tombstone.key] = max(tombstone.version, told.get(tombstone.key, tombstone.version))
    stored = ((record.key, known.get(record.key)) for record in records)
    absent = [key for key, record in stored if record is None or record.dropped]
    kept = raw.tombstones([*absent, *told])
    later = {key: version for key, version in told.items() if kept.get(key, version - 1) < version}
    if later:
        raw.save_tombstones(later)
    return {**kept, **later}


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


def _delete_dropped(
    run: _Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], progress: RunProgress
) -> Execution:
    """Delete what the source dropped, a batch at a time, if the guard allows it all; hold it otherwise."""
    with uows() as uow:
        known, dropped = _raw(uow, run.flow, run.connection).count()
    if dropped == 0:
        return execution
    if not deletions_allowed(dropped, known=known, confirmed=run.command.confirm_deletions, guard=run.flow.guard):
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
        progress.tell(Progress(done=execution.counts.deleted, text=f"{run.flow.kind.value}s deleted"))


def _finish(run: _Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], clock: Clock) -> Execution:
    ended = evolve(execution, ended_at=clock.now(), cursor=None, answered=())
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
    """A lease that cannot be released runs out; why the run ends matters more."""
    with suppress(OrderSyncError), uows() as uow:
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
