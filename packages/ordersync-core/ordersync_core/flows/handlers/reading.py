"""Reading the source, a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext

from attrs import evolve

from ordersync_core.connections.ports import Source, SourcePage
from ordersync_core.flows.handlers.applying import apply_batch
from ordersync_core.flows.handlers.dropping import drop_missing
from ordersync_core.flows.handlers.run import Run, progress_of, raw_of
from ordersync_core.flows.model import Execution
from ordersync_core.flows.ports import FlowReads, FlowsUnitOfWork
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import TemporaryFailure
from ordersync_core.kernel.unit_of_work import Opens


def read(
    run: Run,
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
        for batch in batches(stream, run.batch):
            execution = apply_batch(run, execution, batch, uows=uows, clock=clock)
            all_told_apart = all_told_apart and not batch.broken
            if seen is not None:
                seen.add([record.key for record in batch.records])
            read += len(batch.records) + len(batch.broken)
            progress.tell(progress_of(run, execution, read))
        # An entry that cannot be told apart may be any of the records that seem to be missing.
        if seen is not None and all_told_apart:
            drop_missing(run, seen, uows=uows)
    if execution.complete_read and execution.cursor is not None:
        execution = _move_flow_cursor(run, execution, uows=uows)
    return execution


def _move_flow_cursor(run: Run, execution: Execution, *, uows: Opens[FlowsUnitOfWork]) -> Execution:
    """Everything was read in one go: the flow goes on from the end of this read."""
    moved = evolve(execution, cursor=None)
    with uows() as uow:
        uow.leases.hold(run.lease)
        raw_of(uow, run.flow, run.connection).save_cursor(execution.cursor or None)
        uow.executions.save(moved)
        uow.commit()
    return moved


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
