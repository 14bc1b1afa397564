from datetime import datetime
from typing import Any

import rich_click as click

from ordersync_admin.output import folding, print_json, say, show_one, show_rows, show_text
from ordersync_admin.shell import Shell, administration_option, json_option, pass_shell, uuid_of
from ordersync_core.kernel.errors import NotFound

SHOWN = 200
"""Characters of a receiver's answer that a person gets to see."""


@click.command(name="trace")
@click.argument("event_id")
@administration_option
@json_option
@pass_shell
def command(shell: Shell, event_id: str, administration: str, as_json: bool) -> None:
    """Show a change's whole way: the outbox row, its number, its deliveries and their attempts."""
    trace = shell.queries(administration).trace(uuid_of(event_id))
    if trace is None:
        raise NotFound(f"there is no event {event_id} in {administration}")
    if as_json:
        print_json(trace)
        return
    deliveries = trace.pop("deliveries")
    show_one(trace, as_json=False)
    for delivery in deliveries:
        _show_delivery(delivery)
    remark = _remark(trace, deliveries)
    if remark is not None:
        say(remark, style="dim")


def _show_delivery(delivery: dict[str, Any]) -> None:
    attempts = delivery.pop("attempts")
    show_text("")
    show_one({"delivery": delivery.pop("id"), **delivery}, as_json=False)
    show_rows(
        [
            {**attempt, "milliseconds": _milliseconds(attempt), "response": attempt["response"][:SHOWN] or None}
            for attempt in attempts
        ],
        {
            "number": "attempt",
            "started_at": "started",
            "milliseconds": "ms",
            "status": "status",
            "error": folding("error"),
            "response": folding("response"),
        },
        as_json=False,
        empty="No attempt has been made yet.",
    )


def _milliseconds(attempt: dict[str, Any]) -> int:
    took = datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
    return round(took.total_seconds() * 1000)


def _remark(trace: dict[str, Any], deliveries: list[dict[str, Any]]) -> str | None:
    if trace["absorbed_by"] == trace["id"]:
        return "It came to nothing: what it tells of was gone again before it was told."
    if trace["absorbed_by"] is not None:
        return "Another event tells its fact too: the one that absorbed it. These are that event's deliveries."
    if trace["number"] is None:
        return "It has no number yet: Functions gives it one; is 'ordersync up' running?"
    if trace["handled_at"] is None:
        return "It was numbered, and waits to be handed to the webhooks."
    return None if deliveries else "No webhook takes it."
