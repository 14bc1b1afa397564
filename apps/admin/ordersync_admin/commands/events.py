import time

import rich_click as click

from ordersync_admin.output import print_json, say, show_rows
from ordersync_admin.shell import Shell, administration_option, json_option, pass_shell
from ordersync_core.kernel.paging import PageRequest

LOOK_EVERY = 0.5
PAGE = 500


@click.group(name="events")
def command() -> None:
    """The numbered events of an administration."""


@command.command()
@administration_option
@click.option("--after", type=click.IntRange(0), help="Begin after this number; the last few when left out.")
@click.option("--last", type=click.IntRange(1, PAGE), default=20, show_default=True, help="How many to begin with.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@json_option
@pass_shell
def tail(shell: Shell, administration: str, after: int | None, last: int, follow: bool, as_json: bool) -> None:
    """Show the latest events; with --json one object a line."""
    queries = shell.queries(administration)
    number = max(0, queries.feed().last_number - last) if after is None else after
    shown = False
    while True:
        page = queries.events(PageRequest(limit=PAGE, after=(number,)))
        if page.rows:
            _show(page.rows, as_json=as_json)
            shown = True
            number = page.rows[-1]["sequence"]
            if len(page.rows) == PAGE:
                continue
        if not follow:
            break
        time.sleep(LOOK_EVERY)
    if not shown and not as_json:
        say("There are no events yet.")


def _show(events: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            print_json(event)
        return
    rows = [{**event, "code": event["data"]["code"]} for event in events]  # type: ignore[index]
    show_rows(
        rows,
        {"sequence": "number", "type": "type", "code": "key", "timestamp": "at", "triggered_by": "by", "id": "id"},
        as_json=False,
        empty="",
    )
