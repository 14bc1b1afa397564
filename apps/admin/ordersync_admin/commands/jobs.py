import shlex
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import rich_click as click

from ordersync_admin.cells import outcome, readable
from ordersync_admin.output import Column, done, folding, progress_bar, say, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_object, json_option, pass_shell, uuid_of
from ordersync_core.dispatch import start_command
from ordersync_core.jobs.commands import CancelRun, CreateJobDefinition, DeleteJobDefinition
from ordersync_core.jobs.handlers import cancel_run, create_job_definition, delete_job_definition, start_run
from ordersync_core.jobs.model import JobDefinition, JobRun, RunState, shown
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import MAXIMUM_LIMIT, PageRequest

LOOK_EVERY = 0.25
QUEUED_FOR_LONG = 10.0
SILENT_FOR_LONG = timedelta(minutes=1)
COLUMNS: Mapping[str, str | Column] = {
    "id": "run",
    "state": "state",
    "created_at": "created",
    "outcome": folding("outcome"),
    "type": "type",
    "ended_at": "ended",
    "triggered_by": "by",
}
run_argument = click.argument("run_id")


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
    say(f"Next: ordersync jobs watch {run.id} -a {administration}", quiet=as_json)
    return 0


@command.command(name="list")
@administration_option
@click.option("--state", type=click.Choice([state.value for state in RunState]))
@click.option("--limit", type=click.IntRange(1, MAXIMUM_LIMIT), default=20, show_default=True)
@json_option
@pass_shell
def list_(shell: Shell, administration: str, state: str | None, limit: int, as_json: bool) -> None:
    """List runs, the newest first."""
    shell.check_administration(administration)
    page = shell.admin_queries.runs(
        administration, PageRequest(limit=limit), state=None if state is None else RunState(state)
    )
    rows = [shown(run) for run in page.rows]
    show_rows(
        rows if as_json else [{**row, "outcome": outcome(row)} for row in rows],
        COLUMNS,
        as_json=as_json,
        empty=(
            f"No job has run yet: ordersync jobs start ItemSync -a {administration} --watch"
            if state is None
            else f"No run is {state}."
        ),
        more=None if page.next is None else "There are more: see --limit",
    )


@command.command()
@run_argument
@administration_option
@json_option
@pass_shell
def show(shell: Shell, run_id: str, administration: str, as_json: bool) -> None:
    """Show one run."""
    show_one(shown(_run(shell, administration, run_id)), as_json=as_json)


@command.command()
@run_argument
@administration_option
@json_option
@pass_shell
def watch(shell: Shell, run_id: str, administration: str, as_json: bool) -> int:
    """Show a progress bar until the run has ended; exit code 1 if it did not succeed."""
    return _watch(shell, administration, _run(shell, administration, run_id), as_json=as_json)


@command.command()
@run_argument
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
    show_one(_shown_definition(definition, as_json), as_json=as_json)
    say("Functions starts it when it is due; 'ordersync up' runs Functions.", style="dim", quiet=as_json)


@command.command()
@administration_option
@json_option
@pass_shell
def schedules(shell: Shell, administration: str, as_json: bool) -> None:
    """List scheduled jobs and when they are due next."""
    shell.check_administration(administration)
    show_rows(
        [_shown_definition(definition, as_json) for definition in shell.admin_queries.definitions(administration)],
        {
            "id": "definition",
            "cron": "cron",
            "next_due": folding("next due"),
            "type": "type",
            "parameters": folding("parameters"),
        },
        as_json=as_json,
        empty=f"Nothing is scheduled: ordersync jobs schedule ItemSync '0 6 * * *' -a {administration}",
    )


@command.command()
@click.argument("definition_id")
@administration_option
@json_option
@pass_shell
def unschedule(shell: Shell, definition_id: str, administration: str, as_json: bool) -> None:
    """Delete a scheduled job."""
    shell.application.run(
        delete_job_definition, DeleteJobDefinition(id=uuid_of(definition_id)), shell.context(administration)
    )
    done(f"Job definition {definition_id} is deleted.", deleted=definition_id, as_json=as_json)


def _watch(shell: Shell, administration: str, run: JobRun, *, as_json: bool) -> int:
    try:
        run = _wait_for_end(shell, administration, run, quiet=as_json)
    except KeyboardInterrupt:
        say(f"The run goes on: ordersync jobs watch {run.id} -a {administration}", quiet=as_json)
        raise
    show_one(shown(run), as_json=as_json)
    if not as_json:
        _say_what_is_left(run, administration)
    return 0 if run.state in (RunState.SUCCEEDED, RunState.MERGED) else 1


def _wait_for_end(shell: Shell, administration: str, run: JobRun, *, quiet: bool) -> JobRun:
    began, said = time.monotonic(), ""
    clock: Clock = shell.application.resolve(Clock)
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task(f"{run.type.value} {run.state.value}", total=None)
        while not run.state.ended:
            time.sleep(LOOK_EVERY)
            run = _run(shell, administration, str(run.id))
            progress.update(
                task,
                description=f"{run.type.value} {run.state.value}",
                completed=run.progress.done,
                total=run.progress.done if run.state.ended else run.progress.total,
            )
            remark = _remark(run, watched=time.monotonic() - began, now=clock.now())
            if remark not in ("", said):
                say(remark, style="yellow", quiet=quiet)
                said = remark
    return run


def _say_what_is_left(run: JobRun, administration: str) -> None:
    result = run.result or {}
    if result.get("quarantined"):
        say(f"To see why: ordersync flows quarantine list item -a {administration}")
    held = result.get("held_deletions")
    if held:
        confirm = shlex.quote('{"confirm_deletions": true}')
        say(
            f"{held} deletions are held back; to apply them: ordersync jobs start ItemSync "
            f"-a {administration} --parameters {confirm} --watch",
            style="yellow",
        )


def _remark(run: JobRun, *, watched: float, now: datetime) -> str:
    """What a person who watches should know; empty while the run simply goes on."""
    if run.state is RunState.QUEUED and watched > QUEUED_FOR_LONG:
        return "No Jobs process has taken the run yet: is 'ordersync up' running?"
    if run.state is RunState.WAITING:
        return f"It waits: {run.reason}"
    if run.state is RunState.RUNNING and run.heartbeat_at is not None and now - run.heartbeat_at > SILENT_FOR_LONG:
        return f"No sign of life since {readable(rfc3339(run.heartbeat_at))}: another process will take the run over."
    return ""


def _run(shell: Shell, administration: str, run_id: str) -> JobRun:
    shell.check_administration(administration)
    run: JobRun | None = shell.admin_queries.run(administration, uuid_of(run_id))
    if run is None:
        raise NotFound(f"there is no job run {run_id} in {administration}")
    return run


def _shown_definition(definition: JobDefinition, as_json: bool) -> dict[str, Any]:
    """A person sees when it is due in the time zone of its expression."""
    schedule, due = definition.schedule, definition.next_due
    if due is None:
        next_due = None
    elif as_json:
        next_due = rfc3339(due)
    else:
        next_due = f"{due.astimezone(ZoneInfo(schedule.time_zone)):%Y-%m-%d %H:%M} {schedule.time_zone}"
    return {
        "id": str(definition.id),
        "type": definition.type.value,
        "parameters": dict(definition.parameters),
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "next_due": next_due,
    }
