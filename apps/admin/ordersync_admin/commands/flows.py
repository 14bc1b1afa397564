import shlex
from decimal import Decimal, InvalidOperation

import rich_click as click

from ordersync_admin.cells import counts
from ordersync_admin.output import folding, say, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_option, limit_option, pass_shell, uuid_of
from ordersync_core.flows.commands import RetryQuarantined, SetUpFlow
from ordersync_core.flows.handlers.setting_up import retry_quarantined, set_up_flow
from ordersync_core.flows.model import FlowKind, Guard, shown, shown_quarantined
from ordersync_core.kernel.errors import InvalidInput, NotFound
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import PageRequest

kind_argument = click.argument("kind", type=click.Choice([kind.value for kind in FlowKind]))


@click.group(name="flows")
def command() -> None:
    """How data moves in an administration: from which connection, and which parts of it."""


@command.command(name="set")
@kind_argument
@administration_option
@click.option("--connection", "connection_id", required=True, help="The id of the source of truth.")
@click.option("--aspect", "aspects", multiple=True, help="A part that it supplies; all it can when left out.")
@click.option("--guard-floor", type=click.IntRange(0), default=10, show_default=True)
@click.option("--guard-ratio", default="0.10", show_default=True, help="Share of the known that one run may delete.")
@json_option
@pass_shell
def set_(
    shell: Shell,
    kind: str,
    administration: str,
    connection_id: str,
    aspects: tuple[str, ...],
    guard_floor: int,
    guard_ratio: str,
    as_json: bool,
) -> None:
    """Set a flow up, or change it."""
    flow = shell.application.run(
        set_up_flow,
        SetUpFlow(
            kind=FlowKind(kind),
            connection_id=uuid_of(connection_id),
            aspects=aspects or None,
            guard=Guard(floor=guard_floor, ratio=_share(guard_ratio)),
        ),
        shell.context(administration),
    )
    show_one(shown(flow), as_json=as_json)
    say(f"Next: ordersync jobs start ItemSync -a {administration} --watch", quiet=as_json)


@command.command()
@kind_argument
@administration_option
@json_option
@pass_shell
def show(shell: Shell, kind: str, administration: str, as_json: bool) -> None:
    """Show a flow."""
    flow = shell.queries(administration).flow(FlowKind(kind))
    if flow is None:
        raise NotFound(
            f"the {kind} flow of {administration} is not set up: "
            f"ordersync flows set {kind} -a {administration} --connection ID"
        )
    show_one(shown(flow), as_json=as_json)


@command.command()
@kind_argument
@administration_option
@limit_option
@json_option
@pass_shell
def executions(shell: Shell, kind: str, administration: str, limit: int, as_json: bool) -> None:
    """Show the execution log, the newest first."""
    page = shell.queries(administration).executions(FlowKind(kind), PageRequest(limit=limit))
    rows = [
        {
            "run": str(execution.run_id),
            "started_at": rfc3339(execution.started_at),
            "ended_at": None if execution.ended_at is None else rfc3339(execution.ended_at),
            **execution.result(),
        }
        for execution in page.rows
    ]
    if not as_json:
        rows = [{**row, "did": counts(execution.result())} for row, execution in zip(rows, page.rows, strict=True)]
    show_rows(
        rows,
        {"run": "run", "started_at": "started", "did": folding("did")},
        as_json=as_json,
        empty=f"The flow has not run yet: ordersync jobs start ItemSync -a {administration} --watch",
        more=None if page.next is None else "There are more: see --limit",
    )


@command.group()
def quarantine() -> None:
    """Records that could not be built, each with the reason."""


@quarantine.command(name="list")
@kind_argument
@administration_option
@limit_option
@click.option("--after", help="Begin after this key.")
@json_option
@pass_shell
def list_(shell: Shell, kind: str, administration: str, limit: int, after: str | None, as_json: bool) -> None:
    """List what lies in quarantine."""
    request = PageRequest(limit=limit, after=None if after is None else (after,))
    page = shell.queries(administration).quarantine(FlowKind(kind), request)
    show_rows(
        shown_quarantined(page.rows),
        {"key": "key", "since": "since", "reason": folding("reason")},
        as_json=as_json,
        empty="Nothing lies in quarantine.",
        more=None if page.next is None else f"There are more: add --after {shlex.quote(page.rows[-1].key)}",
    )
    if page.rows and not as_json:
        say("With --json also each record as the source sent it.", style="dim")


@quarantine.command()
@kind_argument
@click.argument("keys", nargs=-1)
@administration_option
@json_option
@pass_shell
def retry(shell: Shell, kind: str, keys: tuple[str, ...], administration: str, as_json: bool) -> int:
    """Build the named records again in the next run; all when no key is named. Exit code 1 if one is not there."""
    count = shell.application.run(
        retry_quarantined,
        RetryQuarantined(kind=FlowKind(kind), keys=keys or None),
        shell.context(administration),
    )
    show_one({"records": count}, as_json=as_json)
    if count < len(keys):
        say(f"{len(keys) - count} of the keys name no record that is stored.", style="red", quiet=as_json)
    if count:
        say(f"Next: ordersync jobs start ItemSync -a {administration} --watch", quiet=as_json)
    return 1 if count < len(keys) else 0


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or not 0 <= share <= 1:
        raise InvalidInput(f"--guard-ratio {text!r} is not a share from 0 to 1, such as 0.10")
    return share
