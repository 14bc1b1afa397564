"""What the source has no more: marked as it is missed, deleted at the end, with a guard."""

from attrs import evolve

from ordersync_core.flows.handlers.run import Run, raw_of, try_refused_again
from ordersync_core.flows.model import Counts, Execution, KnownRecord, deletions_allowed
from ordersync_core.flows.ports import FlowsUnitOfWork, KeysSeen
from ordersync_core.items.model import ItemCode, delete
from ordersync_core.jobs.model import Progress
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.unit_of_work import Opens


def drop_missing(run: Run, seen: KeysSeen, *, uows: Opens[FlowsUnitOfWork]) -> None:
    for keys in seen.missing(run.batch):
        with uows() as uow:
            uow.leases.hold(run.lease)
            raw = raw_of(uow, run.flow, run.connection)
            if raw.drop(keys):
                try_refused_again(uow, raw, run=run)
            uow.commit()


def delete_dropped(run: Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork], progress: RunProgress) -> Execution:
    """Delete what the source dropped, a batch at a time, if the guard allows it all; hold it otherwise."""
    with uows() as uow:
        known, dropped = raw_of(uow, run.flow, run.connection).count()
    if dropped == 0:
        return execution
    if not deletions_allowed(dropped, known=known, confirmed=run.command.confirm_deletions, guard=run.flow.guard):
        return evolve(execution, held=dropped)
    while True:
        with uows() as uow:
            uow.leases.hold(run.lease)
            raw = raw_of(uow, run.flow, run.connection)
            records: list[KnownRecord] = raw.dropped(run.batch)
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
