"""What a flow reads and supplies, and what of it is to be tried again."""

from attrs import evolve

from ordersync_core.connections.ports import Connectors
from ordersync_core.flows.commands import RetryQuarantined, SetUpFlow
from ordersync_core.flows.handlers.run import connection_of, flow_of, raw_of
from ordersync_core.flows.model import Flow, Step
from ordersync_core.flows.ports import FlowsUnitOfWork
from ordersync_core.kernel.errors import InvalidInput, NotFound


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
        flow = flow_of(uow, command.kind)
        connection = connection_of(uow, flow)
        keys = uow.quarantine.keys(command.kind) if command.keys is None else list(command.keys)
        count = raw_of(uow, flow, connection).reset_applied(keys)
        uow.commit()
        return count
