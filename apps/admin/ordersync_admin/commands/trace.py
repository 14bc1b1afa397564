import rich_click as click

from ordersync_admin.output import print_json, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_option, pass_shell, uuid_of
from ordersync_core.kernel.errors import NotFound


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
    deliveries = trace.pop("deliveries", [])
    show_one({key: value for key, value in trace.items() if key not in ("body", "before", "after")}, as_json=False)
    for delivery in deliveries:
        attempts = delivery.pop("attempts", [])
        show_one(delivery, as_json=False)
        show_rows(
            attempts,
            {"number": "attempt", "started_at": "started", "ended_at": "ended", "status": "status", "error": "error"},
            as_json=False,
            empty="No attempt has been made yet.",
        )
