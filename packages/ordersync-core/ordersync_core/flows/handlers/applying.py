"""What becomes of the records of a batch: detected, planned and written in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from ordersync_core.connections.ports import SourcePage, SourceRecord
from ordersync_core.flows.handlers.run import Run, count_once, progress_of, raw_of, try_refused_again
from ordersync_core.flows.model import Counts, Execution, KnownRecord, Quarantined, RawRecord
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
    tombstoned,
)
from ordersync_core.flows.ports import FlowsUnitOfWork, RawRepository
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.canonical import content_hash, spelling
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.unit_of_work import Opens


def apply_batch(
    run: Run, execution: Execution, batch: SourcePage, *, uows: Opens[FlowsUnitOfWork], clock: Clock
) -> Execution:
    """Store what changed, build and write it, and move the cursor on: one transaction."""
    records = latest(batch.records)
    with uows() as uow:
        uow.leases.hold(run.lease)
        raw = raw_of(uow, run.flow, run.connection)
        stored = raw.stored([r.key for r in records] + [t.key for t in batch.tombstones])
        dropped_in = removed_in(raw, batch, records, stored.known)
        removed = tombstoned(batch, records, stored.known)
        # Before the plan: what is removed gives up its code to a record of this batch that was made anew with it.
        newly_dropped = raw.drop(removed)
        present = outliving(records, dropped_in) if dropped_in else records
        detected = detect(present, stored, flow_version=run.flow.version)
        # Also before the plan, which may build some of these that are in quarantine.
        raw.mark(detected.newer)
        planned = _plan(uow, raw, detected.changed, run=run, clock=clock)
        _write(uow, planned, run=run)
        raw.save(planned.records)
        raw.drop(removed)
        if newly_dropped or planned.deleted:
            try_refused_again(uow, raw, run=run)
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
        execution = execution.add(count_once(run, counts, built=planned.cleared, refused=refused))
        uow.executions.save(execution)
        uow.commit()
    return execution


def apply_left_over(
    run: Run,
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
            raw = raw_of(uow, run.flow, run.connection)
            left_over = raw.unapplied(run.flow.version, run.batch)
            if not left_over:
                return execution
            planned = _plan(uow, raw, left_over, run=run, clock=clock)
            _write(uow, planned, run=run)
            raw.mark([record.known for record in planned.records])
            refused = () if again else planned.refused
            counts = evolve(planned.counts, quarantined=len(refused))
            execution = execution.add(count_once(run, counts, built=planned.cleared, refused=refused))
            uow.executions.save(execution)
            uow.commit()
        progress.tell(progress_of(run, execution, len(execution.answered)))


def _plan(uow: FlowsUnitOfWork, raw: RawRepository, records: Sequence[RawRecord], *, run: Run, clock: Clock) -> Plan:
    if not records:
        return Plan()
    drafts = _drafts(raw, records, run=run)
    kept = uow.items.get(codes_touched(drafts))
    return plan(drafts, kept, aspects=run.flow.source.aspects, flow_version=run.flow.version, at=clock.now())


def _drafts(raw: RawRepository, records: Sequence[RawRecord], *, run: Run) -> Drafts:
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


def _write(uow: FlowsUnitOfWork, planned: Plan, *, run: Run) -> None:
    if planned.saved:
        uow.items.save(planned.saved)
    if planned.deleted:
        uow.items.delete(planned.deleted)
    uow.tell(*planned.changes)
    if planned.quarantined:
        uow.quarantine.save(run.flow.kind, planned.quarantined)
    if planned.cleared:
        uow.quarantine.clear(run.flow.kind, planned.cleared)


def _quarantine_broken(uow: FlowsUnitOfWork, batch: SourcePage, *, run: Run, clock: Clock) -> None:
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


def removed_in(
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
