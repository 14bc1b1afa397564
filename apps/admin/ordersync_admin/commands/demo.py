import signal
import threading
from pathlib import Path
from typing import Any

import rich_click as click

from ordersync_admin.output import merged_log, print_json, say, show_rows
from ordersync_admin.shell import json_option

RUN_COLUMNS = {
    name: name
    for name in (
        "label",
        "state",
        "read",
        "created",
        "updated",
        "deleted",
        "unchanged",
        "quarantined",
        "events",
        "seconds",
    )
}


@click.command(name="demo")
@click.option("--once", is_flag=True, help="End after the summary; exit code 0 only if every expectation held.")
@click.option("--items", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An item file of your own.")
@click.option("--webhook", "webhook_url", help="A receiver of your own, in place of the demo's two.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".ordersync-demo"),
    show_default=True,
    help="The demo's own state folder; it is emptied at the start.",
)
@click.option(
    "--patience", type=click.FloatRange(1), default=300.0, show_default=True, help="Seconds to wait for deliveries."
)
@click.option("--verbose", is_flag=True, help="Show everything that the programs write, not only troubles.")
@json_option
def command(
    once: bool,
    items: Path | None,
    webhook_url: str | None,
    state: Path,
    patience: float,
    verbose: bool,
    as_json: bool,
) -> int:
    """Everything at work on this machine: real items, four synchronisations, signed webhooks, and a verdict."""
    from ordersync_admin.demo.play import Subscription, perform, staged
    from ordersync_admin.demo.receivers import EVERYTHING, UPDATES
    from ordersync_admin.demo.verdict import failures, figures

    if webhook_url is None:
        subscriptions = [
            Subscription(name=EVERYTHING, event_types=("*",)),
            Subscription(name=UPDATES, event_types=("item.updated",)),
        ]
    else:
        subscriptions = [Subscription(name="yours", event_types=("*",), url=webhook_url)]
    signal.signal(signal.SIGTERM, _interrupt)
    say("Starting API, Functions, Jobs, an Exact Online sandbox and receivers ...", quiet=as_json)
    log = merged_log(only_troubles=not verbose)
    with staged(state, items=items, subscriptions=subscriptions, log=log) as stage:
        for name, webhook in stage.webhooks.items():
            if webhook_url is not None:
                say(f"webhook {name}: secret {webhook['secret']}")
        evidence = perform(stage, subscriptions, patience=patience, quiet=as_json)
        found = failures(evidence)
        result = {
            **figures(evidence),
            "passed": not found,
            "failures": found,
            "api": stage.where.api,
            "administration": "demo",
            "token": stage.token,
            "webhooks": [
                {"name": name, "id": webhook["id"], "url": webhook["url"], "secret": webhook["secret"]}
                for name, webhook in stage.webhooks.items()
            ],
        }
        if not as_json:
            _summary(result)
        if not once:
            _addresses(result)
            _wait_for_interrupt()
    if as_json:
        print_json(result)
    return 1 if found else 0


def _summary(result: dict[str, Any]) -> None:
    show_rows(result["runs"], RUN_COLUMNS, as_json=False, empty="")
    names = (
        "events",
        "delivered",
        "attempts",
        "failed_requests",
        "dead_letters",
        "sequence_gaps",
        "position_gaps",
        "signature_failures",
        "lost",
    )
    show_rows(
        [{"figure": name.replace("_", " "), "value": result[name]} for name in names],
        {"figure": "figure", "value": "value"},
        as_json=False,
        empty="",
    )
    for failure in result["failures"]:
        say(f"[red]not as expected[/red]  {failure}")
    if result["passed"]:
        say("[bold green]Every expectation held.[/bold green]")


def _addresses(result: dict[str, Any]) -> None:
    say(f"API {result['api']}  documentation {result['api']}/docs  administration demo")
    say("Try:")
    click.echo(
        f"curl -s -H 'Authorization: Bearer {result['token']}' -H 'X-Administration: demo' "
        f"'{result['api']}/v1/items?limit=5'",
        err=True,
    )
    say("Everything keeps running until Ctrl-C.")


def _interrupt(*_: object) -> None:
    """A polite request to end is the same as Ctrl-C."""
    raise KeyboardInterrupt


def _wait_for_interrupt() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        say("Stopping ...")
