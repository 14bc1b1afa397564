from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from attrs import field, frozen

from ordersync_api.calls import Answer, Call, PageQuery, whole_list
from ordersync_api.decoding import together
from ordersync_api.operations import Operations
from ordersync_api.shapes import DefinitionShown, ListOf, RunShown
from ordersync_core.dispatch import start_command
from ordersync_core.jobs import handlers
from ordersync_core.jobs.commands import CancelRun, CreateJobDefinition, DeleteJobDefinition
from ordersync_core.jobs.model import JobDefinition, RunState, shown
from ordersync_core.jobs.ports import JobQueries
from ordersync_core.jobs.schedule import parse
from ordersync_core.kernel.errors import InvalidInput, NotFound
from ordersync_core.kernel.moments import rfc3339

operations = Operations("job")


@frozen(kw_only=True)
class NewRun:
    """`type`: ItemSync, with parameters {"complete", "confirm_deletions"}, or ItemSelectiveSync, with {"codes"}."""

    type: str
    parameters: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class NewDefinition:
    """`cron`: five fields, read in `time_zone`, such as Europe/Amsterdam."""

    type: str
    parameters: Mapping[str, Any] = field(factory=dict)
    cron: str
    time_zone: str


@frozen(kw_only=True)
class RunsQuery(PageQuery):
    state: RunState | None = None


@operations.post("/v1/job-runs", answers={202: RunShown}, creates=True)
def start_run(call: Call, body: NewRun) -> Answer:
    """Start a job."""
    run = call.run(handlers.start_run, start_command(body.type, body.parameters))
    return call.created(shown(run), run.id, status=202)


@operations.get("/v1/job-runs", answers={200: ListOf[RunShown]})
def list_runs(call: Call, query: RunsQuery) -> Answer:
    """Job runs, the newest first."""
    queries: JobQueries = call.admin_queries()
    return call.listed(queries.runs(call.administration, call.page(query), state=query.state), query, shown)


@operations.get("/v1/job-runs/{id}", answers={200: RunShown})
def get_run(call: Call, id: UUID) -> Answer:
    """One job run."""
    queries: JobQueries = call.admin_queries()
    run = queries.run(call.administration, id)
    if run is None:
        raise NotFound(f"there is no job run {id}")
    return Answer(body=shown(run))


@operations.post("/v1/job-runs/{id}:cancel", answers={200: RunShown})
def cancel_run(call: Call, id: UUID) -> Answer:
    """Cancel a job run; one at work notices at its next progress report."""
    return Answer(body=shown(call.run(handlers.cancel_run, CancelRun(id=id))))


@operations.get("/v1/job-definitions", answers={200: ListOf[DefinitionShown]})
def list_definitions(call: Call) -> Answer:
    """Scheduled jobs."""
    queries: JobQueries = call.admin_queries()
    return whole_list(_shown(definition) for definition in queries.definitions(call.administration))


@operations.post("/v1/job-definitions", answers={201: DefinitionShown})
def create_definition(call: Call, body: NewDefinition) -> Answer:
    """Schedule a job."""
    together(
        _error(lambda: start_command(body.type, body.parameters)), _error(lambda: parse(body.cron, body.time_zone))
    )
    command = CreateJobDefinition(
        type=start_command(body.type, body.parameters).type,
        parameters=body.parameters,
        cron=body.cron,
        time_zone=body.time_zone,
    )
    definition = call.run(handlers.create_job_definition, command)
    return call.created(_shown(definition), definition.id)


@operations.delete("/v1/job-definitions/{id}", answers={204: None})
def delete_definition(call: Call, id: UUID) -> Answer:
    """Schedule a job no longer; its runs stay."""
    call.run(handlers.delete_job_definition, DeleteJobDefinition(id=id))
    return Answer(status=204)


def _shown(definition: JobDefinition) -> dict[str, Any]:
    return {
        "id": str(definition.id),
        "type": definition.type.value,
        "parameters": dict(definition.parameters),
        "cron": definition.schedule.cron,
        "time_zone": definition.schedule.time_zone,
        "next_due": None if definition.next_due is None else rfc3339(definition.next_due),
    }


def _error(check: Callable[[], object]) -> InvalidInput | None:
    try:
        check()
    except InvalidInput as error:
        return error
    return None
