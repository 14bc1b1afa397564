"""The demo's play on its stage: four runs, a receiver that fails for a while, and what all of it left behind."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ordersync_admin.demo.client import ENDED
from ordersync_admin.demo.evidence import rows_served
from ordersync_admin.demo.receivers import EVERYTHING
from ordersync_admin.demo.stage import Stage, Subscription
from ordersync_admin.demo.verdict import Evidence, RunEvidence, WebhookEvidence
from ordersync_admin.output import progress_bar, say
from ordersync_core.webhooks.model import EventTypePattern

FAILING_REQUESTS = 5
LOOK_EVERY = 0.1
WIDTH = 22
"""Cells of the words before a progress bar."""


def perform(stage: Stage, subscriptions: Sequence[Subscription], *, patience: float, quiet: bool) -> Evidence:
    """Four runs of the item flow, with a failing receiver on the way, and the evidence of them.

    patience: seconds to wait after each run until everything is delivered.
    """
    runs = [
        _run(stage, "first", {}, patience=patience, quiet=quiet),
        _run(stage, "no change", {}, patience=patience, quiet=quiet),
        _run(stage, "full re-read", {"complete": True}, patience=patience, quiet=quiet),
    ]
    changed = stage.call_sandbox("POST", "/_sandbox/change", {"percent": 1})["changed"]
    if stage.receivers is not None:
        failing = min(FAILING_REQUESTS, len(changed))  # of few deliveries each would have to fail many times in a row
        stage.configure(EVERYTHING, {"fail": failing})
        say(f"The receiver {EVERYTHING} now fails {failing} requests and then recovers.", quiet=quiet)
    runs.append(_run(stage, "1 % changed", {}, patience=patience, quiet=quiet))
    return _gather(stage, subscriptions, runs, changed)


def _run(stage: Stage, label: str, parameters: dict[str, Any], *, patience: float, quiet: bool) -> RunEvidence:
    before, began = len(stage.source_log), datetime.now(UTC)
    clock = time.monotonic()
    with _bar(label, quiet=quiet) as tell:
        run = stage.api.run("ItemSync", parameters, tell)
    seconds = time.monotonic() - clock
    _wait_until_delivered(stage, patience=patience, quiet=quiet)
    return RunEvidence(
        label=label,
        served=rows_served(stage.source_log[before:]),
        row=stage.rows.run(run["id"]),
        log=stage.rows.execution(run["id"]),
        written=stage.rows.items_written(began),
        events=stage.rows.events_of(run["id"]),
        seconds=seconds,
    )


def _gather(
    stage: Stage, subscriptions: Sequence[Subscription], runs: Sequence[RunEvidence], changed: Sequence[str]
) -> Evidence:
    feed = stage.api.events()
    return Evidence(
        runs=runs,
        webhooks=[
            WebhookEvidence(
                name=subscription.name,
                event_types=subscription.event_types,
                selected=[event["id"] for event in feed if _selects(subscription, event["type"])],
                lines=_lines(stage, subscription),
            )
            for subscription in subscriptions
        ],
        own_receivers=stage.receivers is not None,
        numbers=[event["sequence"] for event in feed],
        attempts=stage.rows.attempts(),
        dead_letters=stage.rows.dead_letters(),
        items_at_source=stage.call_sandbox("GET", "/_sandbox/state")["items"],
        items_stored=stage.rows.items(),
        in_quarantine=stage.rows.in_quarantine(),
        changed_at_source=[code.strip() for code in changed],
        changed_events=[e["data"]["code"] for e in feed if e["type"] == "item.updated"],
    )


def _lines(stage: Stage, subscription: Subscription) -> list[dict[str, Any]]:
    """What the receiver wrote, or, of somebody else's receiver, which deliveries were made."""
    if subscription.url is None:
        return [line for line in stage.received if line["receiver"] == subscription.name]
    return [
        {"position": position, "id": id, "verified": True, "status": 200, "body": None}
        for _, position, id in stage.rows.delivered()
    ]


def _selects(subscription: Subscription, event_type: str) -> bool:
    return any(EventTypePattern(pattern).selects(event_type) for pattern in subscription.event_types)


def _wait_until_delivered(stage: Stage, *, patience: float, quiet: bool) -> None:
    deadline = time.monotonic() + patience
    with _bar("delivered", quiet=quiet) as tell:
        most = 0
        while waiting := stage.rows.unsettled():
            most = max(most, waiting)
            tell({"progress": {"done": most - waiting, "total": most}, "state": ""})
            if time.monotonic() > deadline:
                say(f"{waiting} facts or deliveries are still on their way", style="red", quiet=quiet)
                return
            time.sleep(LOOK_EVERY)
        tell({"progress": {"done": most, "total": most}, "state": ""})


@contextmanager
def _bar(label: str, *, quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task(f"{label:<{WIDTH}}", total=None)

        def tell(run: dict[str, Any]) -> None:
            done, total = run["progress"]["done"], run["progress"]["total"]
            if run["state"] in ENDED:
                total = done  # nobody knew before
            progress.update(task, description=f"{label} {run['state']}".ljust(WIDTH), completed=done, total=total)

        yield tell
