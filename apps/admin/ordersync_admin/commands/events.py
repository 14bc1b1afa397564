import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import rich_click as click

from ordersync_admin.cells import readable
from ordersync_admin.output import print_json, say, show_text
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
    """Show the latest events: number, time, type, id, key and who; with --json one object a line."""
    queries = shell.queries(administration)
    last_number = queries.feed().last_number
    number = max(0, last_number - last) if after is None else after
    if number >= last_number and not as_json:
        say("There are no events yet." if last_number == 0 else f"The last event is number {last_number}.")
    while True:
        page = queries.events(PageRequest(limit=PAGE, after=(number,)))
        for event in page.rows:
            print_json(event) if as_json else show_text(_line(event, brief=sys.stdout.isatty()))
            number = event["sequence"]
        if page.next is None:
            if not follow:
                return
            time.sleep(LOOK_EVERY)


def _line(event: Mapping[str, Any], *, brief: bool) -> str:
    """In columns that stay where they are whatever comes next; the key, which may be of any length, comes late."""
    at = readable(event["timestamp"], now=datetime.now(UTC) if brief else None)
    columns = (f"{event['sequence']:>7}", at, f"{event['type']:<12}", event["id"], event["data"]["code"])
    return f"{'  '.join(columns)}  by {event['triggered_by']}"
