import time
from typing import Any

import rich_click as click

from ordersync_admin.output import progress_bar, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_object, json_option, pass_shell, uuid_of
from ordersync_core.dispatch import start_command
from ordersync_core.jobs.commands import CancelRun, CreateJobDefinition, DeleteJobDefinition
from ordersync_core.jobs.handlers import cancel_run, create_job_definition, delete_job_definition, start_run
from ordersync_core.jobs.model import JobDefinition, JobRun, RunState, shown
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import MAXIMUM_LIMIT, PageRequest

LOOK_EVERY = 0.25
COLUMNS = {
    "id": "run",
    "type": "type",
    "state": "state",
    "created_at": "created",
    "ended_at": "ended",
    "result": "result",
    "reason": "reason",
}


@click.group(name="jobs")
def command() -> None:
    """Job runs, and the schedule that makes them."""


@command.command()
@click.argument("type")
@administration_option
@click.option("--parameters", default="{}", show_default=True, help="A JSON object.")
@click.option("--watch", "watch_it", is_flag=True, help="Show a progress bar until the run has ended.")
@json_option
@pass_shell
def start(shell: Shell, type: str, administration: str, parameters: str, watch_it: bool, as_json: bool) -> int:
    """Start a job now, such as ItemSync."""
    request = start_command(type, json_object("--parameters", parameters))
    run = shell.application.run(start_run, request, shell.context(administration))
    if watch_it:
        return _watch(shell, administration, run, as_json=as_json)
    show_one(shown(run), as_json=as_json)
    return 0


@command.command(name="list")
@administration_option
@click.option("--state", type=click.Choice([state.value for state in RunState]))
@click.option("--limit", type=click.IntRange(1, MAXIMUM_LIMIT), default=20, show_default=True)
@json_option
@pass_shell
def list_(shell: Shell, administration: str, state: str | None, limit: int, as_json: bool) -> None:
    """List runs, the newest first."""
    shell.context(administration)
    page = shell.admin_queries.runs(
        administration, PageRequest(limit=limit), state=None if state is None else RunState(state)
    )
    show_rows(
        [shown(run) for run in page.rows],
        COLUMNS,
        as_json=as_json,
        empty=f"No job has run yet: ordersync jobs start ItemSync -a {administration}",
    )


@command.command()
@click.argument("run_id")
@administration_option
@json_option
@pass_shell
def show(shell: Shell, run_id: str, administration: str, as_json: bool) -> None:
    """Show one run."""
    show_one(shown(_run(shell, administration, run_id)), as_json=as_json)


@command.command()
@click.argument("run_id")
@administration_option
@json_option
@pass_shell
def watch(shell: Shell, run_id: str, administration: str, as_json: bool) -> int:
    """Show a progress bar until the run has ended; exit code 1 if it did not succeed."""
    return _watch(shell, administration, _run(shell, administration, run_id), as_json=as_json)


@command.command()
@click.argument("run_id")
@administration_option
@json_option
@pass_shell
def cancel(shell: Shell, run_id: str, administration: str, as_json: bool) -> None:
    """Cancel a run; one at work notices at its next step."""
    run = shell.application.run(cancel_run, CancelRun(id=uuid_of(run_id)), shell.context(administration))
    show_one(shown(run), as_json=as_json)


@command.command()
@click.argument("type")
@click.argument("cron")
@administration_option
@click.option("--time-zone", default="UTC", show_default=True, help="In which the expression is read.")
@click.option("--parameters", default="{}", show_default=True, help="A JSON object.")
@json_option
@pass_shell
def schedule(
    shell: Shell, type: str, cron: str, administration: str, time_zone: str, parameters: str, as_json: bool
) -> None:
    """Run a job by a cron expression, such as '0 6 * * 1-5'."""
    request = start_command(type, json_object("--parameters", parameters))
    definition = shell.application.run(
        create_job_definition,
        CreateJobDefinition(type=request.type, parameters=request.parameters, cron=cron, time_zone=time_zone),
        shell.context(administration),
    )
    show_one(_shown_definition(definition), as_json=as_json)


@command.command()
@administration_option
@json_option
@pass_shell
def schedules(shell: Shell, administration: str, as_json: bool) -> None:
    """List scheduled jobs and when they are due next."""
    shell.context(administration)
    show_rows(
        [_shown_definition(definition) for definition in shell.admin_queries.definitions(administration)],
        {"id": "definition", "type": "type", "cron": "cron", "time_zone": "time zone", "next_due": "next due"},
        as_json=as_json,
        empty=f"Nothing is scheduled: ordersync jobs schedule ItemSync '0 6 * * *' -a {administration}",
    )


@command.command()
@click.argument("definition_id")
@administration_option
@pass_shell
def unschedule(shell: Shell, definition_id: str, administration: str) -> None:
    """Delete a scheduled job."""
    shell.application.run(
        delete_job_definition, DeleteJobDefinition(id=uuid_of(definition_id)), shell.context(administration)
    )


def _watch(shell: Shell, administration: str, run: JobRun, *, as_json: bool) -> int:
    with progress_bar(quiet=as_json) as progress:
        task = progress.add_task(run.type.value, total=None)
        while not run.state.ended:
            time.sleep(LOOK_EVERY)
            run = _run(shell, administration, str(run.id))
            progress.update(
                task,
                description=f"{run.type.value} {run.state.value}",
                completed=run.progress.done,
                total=run.progress.total,
            )
    show_one(shown(run), as_json=as_json)
    return 0 if run.state in (RunState.SUCCEEDED, RunState.MERGED) else 1


def _run(shell: Shell, administration: str, run_id: str) -> JobRun:
    shell.context(administration)
    run: JobRun | None = shell.admin_queries.run(administration, uuid_of(run_id))
    if run is None:
        raise NotFound(f"there is no job run {run_id} in {administration}")
    return run


def _shown_definition(definition: JobDefinition) -> dict[str, Any]:
    return {
        "id": str(definition.id),
        "type": definition.type.value,
        "parameters": dict(definition.parameters),
        "cron": definition.schedule.cron,
        "time_zone": definition.schedule.time_zone,
        "next_due": None if definition.next_due is None else rfc3339(definition.next_due),
    }
