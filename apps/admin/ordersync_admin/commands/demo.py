import signal
import time
from pathlib import Path
from typing import Any

import rich_click as click

from ordersync_admin.output import Column, merged_log, print_json, say, show_rows, show_text
from ordersync_admin.shell import json_option
from ordersync_admin.supervisor import polite_requests

RUN_FIGURES = (
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
FIGURES = (
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
    from ordersync_admin.demo.play import perform
    from ordersync_admin.demo.receivers import EVERYTHING, UPDATES
    from ordersync_admin.demo.stage import Subscription, staged
    from ordersync_admin.demo.verdict import failures, figures

    if webhook_url is None:
        subscriptions = [
            Subscription(name=EVERYTHING, event_types=("*",)),
            Subscription(name=UPDATES, event_types=("item.updated",)),
        ]
    else:
        subscriptions = [Subscription(name="yours", event_types=("*",), url=webhook_url)]
    for number in polite_requests():
        signal.signal(number, _interrupt)
    log = merged_log(only_troubles=not verbose)
    say("Starting API, Functions, Jobs, an Exact Online sandbox and receivers ...", quiet=as_json)
    result: dict[str, Any] | None = None
    try:
        with staged(state, items=items, subscriptions=subscriptions, log=log) as stage:
            if webhook_url is not None:
                say(f"Your receiver verifies with the secret {stage.webhooks['yours']['secret']}")
            evidence = perform(stage, subscriptions, patience=patience, quiet=as_json)
            found = failures(evidence)
            result = {**figures(evidence), "passed": not found, "failures": found, **stage.addresses()}
            if as_json:
                print_json(result)
            else:
                _summary(result)
            if not once:
                _serve(result, quiet=as_json)
    except BaseException as error:
        if as_json and result is None:
            print_json({"passed": False, "failures": [str(error) or type(error).__name__]})
        raise
    return 0 if result["passed"] else 1


def _summary(result: dict[str, Any]) -> None:
    runs = {str(place): run for place, run in enumerate(result["runs"])}
    show_rows(
        [{"figure": name, **{place: run[name] for place, run in runs.items()}} for name in RUN_FIGURES],
        {"figure": "run", **{place: Column(run["label"], right=True) for place, run in runs.items()}},
        as_json=False,
        empty="",
    )
    show_text("")
    show_rows(
        [{"figure": name.replace("_", " "), "value": result[name]} for name in FIGURES],
        {"figure": "in all", "value": Column("", right=True)},
        as_json=False,
        empty="",
    )
    show_text("")
    for failure in result["failures"]:
        show_text(f"not as expected: {failure}", style="red")
    if result["passed"]:
        show_text("Every expectation held.", style="bold green")


def _serve(result: dict[str, Any], *, quiet: bool) -> None:
    say(f"\nAPI        {result['api']}, documentation {result['api']}/docs", quiet=quiet)
    say(f"sandbox    {result['sandbox']}", quiet=quiet)
    say("\nTry:", quiet=quiet)
    say(result["curl"], quiet=quiet)
    say("\nEverything keeps running until Ctrl-C.", style="bold", quiet=quiet)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("Stopping ...", quiet=quiet)


def _interrupt(*_: object) -> None:
    """A polite request to end is the same as Ctrl-C."""
    raise KeyboardInterrupt
