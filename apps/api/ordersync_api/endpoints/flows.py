from typing import Any
from uuid import UUID

from attrs import field, frozen

from ordersync_api.calls import Answer, Call, PageQuery
from ordersync_api.operations import Operations
from ordersync_api.shapes import ExecutionShown, FlowShown, ListOf, QuarantinedShown, Retried
from ordersync_core.flows.commands import RetryQuarantined, SetUpFlow
from ordersync_core.flows.handlers import setting_up
from ordersync_core.flows.model import Execution, FlowKind, Guard, Quarantined, shown, shown_quarantined
from ordersync_core.flows.ports import FlowQueries
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.moments import rfc3339

operations = Operations("flow")


@frozen(kw_only=True)
class FlowSetUp:
    """`aspects`: those that the connection supplies; null for all that its connector can. `guard`: how many deletions
    one run may apply without a person's confirmation: max(floor, ratio x known).
    """

    connection_id: UUID
    aspects: tuple[str, ...] | None = None
    guard: Guard = field(factory=Guard)


@frozen(kw_only=True)
class Retrying:
    """`keys`: of the records to build again; null for all in quarantine."""

    keys: tuple[str, ...] | None = None


@operations.get("/v1/flows/{kind}", answers={200: FlowShown})
def get_flow(call: Call, kind: FlowKind) -> Answer:
    """How one kind of data moves."""
    queries: FlowQueries = call.queries()
    flow = queries.flow(kind)
    if flow is None:
        raise NotFound(f"there is no {kind.value} flow yet")
    return Answer(body=shown(flow))


@operations.put("/v1/flows/{kind}", answers={200: FlowShown})
def put_flow(call: Call, kind: FlowKind, body: FlowSetUp) -> Answer:
    """Set a flow up, or replace its source."""
    command = SetUpFlow(kind=kind, connection_id=body.connection_id, aspects=body.aspects, guard=body.guard)
    return Answer(body=shown(call.run(setting_up.set_up_flow, command)))


@operations.get("/v1/flows/{kind}/quarantine", answers={200: ListOf[QuarantinedShown]})
def list_quarantine(call: Call, kind: FlowKind, query: PageQuery) -> Answer:
    """Records that could not be built, each with the reason."""
    queries: FlowQueries = call.queries()
    return call.listed(queries.quarantine(kind, call.page(query)), query, _shown_quarantined)


@operations.post("/v1/flows/{kind}/quarantine:retry", answers={202: Retried})
def retry_quarantined(call: Call, kind: FlowKind, body: Retrying) -> Answer:
    """Build quarantined records again in the next run."""
    count = call.run(setting_up.retry_quarantined, RetryQuarantined(kind=kind, keys=body.keys))
    return Answer(body={"records": count}, status=202)


@operations.get("/v1/flows/{kind}/executions", answers={200: ListOf[ExecutionShown]})
def list_executions(call: Call, kind: FlowKind, query: PageQuery) -> Answer:
    """The execution log, the newest run first."""
    queries: FlowQueries = call.queries()
    return call.listed(queries.executions(kind, call.page(query)), query, _shown_execution)


@operations.get("/v1/flows/{kind}/executions/{run_id}", answers={200: ExecutionShown})
def get_execution(call: Call, kind: FlowKind, run_id: UUID) -> Answer:
    """What one run did."""
    queries: FlowQueries = call.queries()
    execution = queries.execution(run_id)
    if execution is None or execution.kind is not kind:
        raise NotFound(f"there is no execution {run_id}")
    return Answer(body=_shown_execution(execution))


def _shown_quarantined(entry: Quarantined) -> dict[str, Any]:
    return shown_quarantined([entry])[0]


def _shown_execution(execution: Execution) -> dict[str, Any]:
    return {
        "run_id": str(execution.run_id),
        "kind": execution.kind.value,
        "started_at": rfc3339(execution.started_at),
        "ended_at": None if execution.ended_at is None else rfc3339(execution.ended_at),
        "complete_read": execution.complete_read,
        **execution.result(),
    }
