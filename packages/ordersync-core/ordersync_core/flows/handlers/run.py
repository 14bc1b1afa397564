"""What the parts of a run share."""

from collections.abc import Sequence
from typing import Any

from attrs import evolve, field, frozen

from ordersync_core.connections.model import Connection
from ordersync_core.flows.commands import RunFlow
from ordersync_core.flows.model import Counts, Execution, Flow, FlowKind
from ordersync_core.flows.ports import FlowsUnitOfWork, ItemMapping, RawRepository
from ordersync_core.jobs.model import Progress
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.lease import Lease


@frozen(kw_only=True)
class Run:
    """What holds for the whole of a run.

    cursor: the flow's, as the run found it.
    batch: how many records go into one transaction, or a few more.
    refused: the keys that it has counted as quarantined. Forgotten when the run is broken off.
    """

    command: RunFlow
    flow: Flow
    connection: Connection
    mapping: ItemMapping
    lease: Lease
    execution: Execution
    cursor: Any
    batch: int
    refused: set[str] = field(factory=set)


def flow_of(uow: FlowsUnitOfWork, kind: FlowKind) -> Flow:
    flow = uow.flows.find(kind)
    if flow is None:
        raise NotFound(f"the {kind.value} flow is not set up")
    return flow


def connection_of(uow: FlowsUnitOfWork, flow: Flow) -> Connection:
    connection = uow.connections.find(flow.source.connection_id)
    if connection is None:
        raise NotFound(f"there is no connection {flow.source.connection_id}")
    return connection


def raw_of(uow: FlowsUnitOfWork, flow: Flow, connection: Connection) -> RawRepository:
    return uow.raw(connection.connector, connection.id, flow.kind.value)


def count_once(run: Run, counts: Counts, *, built: Sequence[str], refused: Sequence[str]) -> Counts:
    """Each record that a run handles counts once: one that was refused before counts as what becomes of it now."""
    counted = run.refused.intersection([*built, *refused]) if run.refused else ()
    run.refused.difference_update(built)
    run.refused.update(refused)
    quarantined = counts.quarantined - len(counted)
    read = counts.created + counts.updated + counts.unchanged + quarantined
    return evolve(counts, read=read, quarantined=quarantined)


def progress_of(run: Run, execution: Execution, read: int) -> Progress:
    text = f"{run.flow.kind.value}s read"
    if run.command.codes is None:
        return Progress(done=execution.counts.read, text=text)
    return Progress(done=read, total=len(run.command.codes), text=text)


def try_refused_again(uow: FlowsUnitOfWork, raw: RawRepository, *, run: Run) -> None:
    """Codes have become free: one of them may be what a record in quarantine was refused for."""
    raw.reset_applied(uow.quarantine.keys(run.flow.kind))
