import sys
from datetime import UTC, datetime
from typing import Any

import rich_click as click

from ordersync_admin.cells import readable
from ordersync_admin.output import done, folding, print_json, say, show_one, show_rows, show_text
from ordersync_admin.shell import Shell, administration_option, json_option, limit_option, pass_shell, uuid_of
from ordersync_core.kernel.errors import InvalidInput, NotFound
from ordersync_core.kernel.paging import MAXIMUM_LIMIT, PageRequest
from ordersync_core.webhooks.commands import (
    Backlog,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    Redeliver,
    Replay,
    SendTest,
)
from ordersync_core.webhooks.handlers.again import redeliver, replay
from ordersync_core.webhooks.handlers.subscriptions import (
    create_webhook,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    prepare_test,
)
from ordersync_core.webhooks.model import Delivery, DeliveryState, EventTypePattern, Webhook, shown
from ordersync_core.webhooks.ports import TargetRefused

webhook_argument = click.argument("webhook_id")


@click.group(name="webhooks")
def command() -> None:
    """Subscriptions of other systems to an administration's events."""


@command.command(name="list")
@administration_option
@json_option
@pass_shell
def list_(shell: Shell, administration: str, as_json: bool) -> None:
    """List webhooks."""
    page = shell.queries(administration).webhooks(PageRequest(limit=MAXIMUM_LIMIT))
    show_rows(
        [shown(webhook) for webhook in page.rows],
        {
            "id": "webhook",
            "state": "state",
            "url": folding("url"),
            "event_types": folding("events"),
            "last_position": "deliveries",
            "disabled_because": folding("because"),
        },
        as_json=as_json,
        empty=f"There are no webhooks yet: ordersync webhooks create URL -a {administration}",
    )


@command.command()
@webhook_argument
@administration_option
@json_option
@pass_shell
def show(shell: Shell, webhook_id: str, administration: str, as_json: bool) -> None:
    """Show a webhook, without its secret."""
    show_one(shown(_webhook(shell, administration, webhook_id)), as_json=as_json)


@command.command()
@click.argument("url")
@administration_option
@click.option(
    "--event", "events", multiple=True, default=("*",), show_default=True, help="Such as item.updated or item.*"
)
@json_option
@pass_shell
def create(shell: Shell, url: str, administration: str, events: tuple[str, ...], as_json: bool) -> None:
    """Create a webhook. Its secret is shown this once."""
    try:
        patterns = tuple(EventTypePattern(event) for event in events)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--event") from None
    request = CreateWebhook(url=url, event_types=patterns)
    try:
        webhook, secret = shell.application.run(create_webhook, request, shell.context(administration))
    except TargetRefused as error:
        if shell.settings.allow_private_targets:
            raise
        raise InvalidInput(f"{error} (ORDERSYNC_ALLOW_PRIVATE_TARGETS=true allows this machine's own)") from error
    show_one({**shown(webhook), "secret": secret}, as_json=as_json)
    say(
        "Keep the secret: it is shown this once. The receiver verifies each request with it.",
        style="bold",
        quiet=as_json,
    )
    say(f"Next: ordersync webhooks send-test {webhook.id} -a {administration}", quiet=as_json)


@command.command()
@webhook_argument
@administration_option
@json_option
@pass_shell
def delete(shell: Shell, webhook_id: str, administration: str, as_json: bool) -> None:
    """Delete a webhook with its deliveries."""
    shell.application.run(delete_webhook, DeleteWebhook(id=uuid_of(webhook_id)), shell.context(administration))
    done(f"Webhook {webhook_id} is deleted.", deleted=webhook_id, as_json=as_json)


@command.command()
@webhook_argument
@administration_option
@click.option("--cancel-parked", is_flag=True, help="Give up what was parked instead of sending it.")
@json_option
@pass_shell
def enable(shell: Shell, webhook_id: str, administration: str, cancel_parked: bool, as_json: bool) -> None:
    """Take a disabled webhook into service again, and send what was parked meanwhile."""
    backlog = Backlog.CANCEL_PARKED if cancel_parked else Backlog.SEND_PARKED
    webhook = shell.application.run(
        enable_webhook, EnableWebhook(id=uuid_of(webhook_id), backlog=backlog), shell.context(administration)
    )
    show_one(shown(webhook), as_json=as_json)
    say(
        "Events that came while it was disabled are not sent by themselves: "
        f"ordersync webhooks replay {webhook.id} -a {administration} --after NUMBER",
        quiet=as_json,
    )


@command.command()
@webhook_argument
@administration_option
@json_option
@pass_shell
def disable(shell: Shell, webhook_id: str, administration: str, as_json: bool) -> None:
    """Take a webhook out of service: what waits is parked, nothing new is created."""
    webhook = shell.application.run(
        disable_webhook, DisableWebhook(id=uuid_of(webhook_id)), shell.context(administration)
    )
    show_one(shown(webhook), as_json=as_json)
    say(f"Back into service: ordersync webhooks enable {webhook.id} -a {administration}", quiet=as_json)


@command.command(name="replay")
@webhook_argument
@administration_option
@click.option(
    "--after", type=click.IntRange(0), required=True, help="The last event number that is not sent; 0 sends all."
)
@json_option
@pass_shell
def replay_(shell: Shell, webhook_id: str, administration: str, after: int, as_json: bool) -> None:
    """Deliver again, at new positions, what the webhook takes of the events after a number."""
    command = Replay(webhook_id=uuid_of(webhook_id), after_number=after)
    count = replay(shell.application, command, shell.context(administration))
    show_one({"deliveries": count}, as_json=as_json)


@command.command()
@webhook_argument
@administration_option
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]))
@limit_option
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="Begin after this position.")
@json_option
@pass_shell
def deliveries(
    shell: Shell, webhook_id: str, administration: str, state: str | None, limit: int, after: int, as_json: bool
) -> None:
    """List a webhook's deliveries by position."""
    webhook = _webhook(shell, administration, webhook_id)
    page = shell.queries(administration).deliveries(
        webhook.id, PageRequest(limit=limit, after=(after,)), state=None if state is None else DeliveryState(state)
    )
    show_rows(
        [_shown(delivery) for delivery in page.rows],
        {
            "position": "position",
            "state": "state",
            "id": "delivery",
            "attempts": "attempts",
            "event_type": "event",
            "event_number": "number",
            "reason": folding("reason"),
            "event_id": "event id",
        },
        as_json=as_json,
        empty="There are no such deliveries." if state or after else "It has not been given any delivery yet.",
        more=None if page.next is None else f"There are more: add --after {page.rows[-1].position}",
    )


@command.command(name="redeliver")
@click.argument("delivery_id")
@administration_option
@json_option
@pass_shell
def redeliver_(shell: Shell, delivery_id: str, administration: str, as_json: bool) -> None:
    """Send one delivery again, whatever became of it."""
    delivery = shell.application.run(redeliver, Redeliver(id=uuid_of(delivery_id)), shell.context(administration))
    show_one(_shown(delivery), as_json=as_json)


@command.command()
@webhook_argument
@administration_option
@json_option
@pass_shell
def send_test(shell: Shell, webhook_id: str, administration: str, as_json: bool) -> int:
    """Send a signed request of type webhook.test now and show the answer; exit code 1 unless it is 2xx."""
    request = shell.application.run(prepare_test, SendTest(id=uuid_of(webhook_id)), shell.context(administration))
    response = shell.send(request)
    show_one(
        {
            "url": request.url,
            "status": response.status,
            "error": response.error,
            "milliseconds": round((response.ended_at - response.started_at).total_seconds() * 1000),
            "response": response.response[:500].decode(errors="replace"),
        },
        as_json=as_json,
    )
    return 0 if response.status is not None and 200 <= response.status < 300 else 1


@command.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=9000, show_default=True, help="0 takes a free one.")
@click.option(
    "--secret",
    multiple=True,
    required=True,
    help="As it was shown when the webhook was created; '-' reads it from standard input. Of several any is good.",
)
@click.option("--file", "path", type=click.Path(dir_okay=False), help="Also write one JSON line for each request.")
@json_option
def listen(port: int, secret: tuple[str, ...], path: str | None, as_json: bool) -> None:
    """Receive webhooks on this machine, verify each signature and show what comes, until Ctrl-C.

    With --json one object a line.
    """
    from ordersync_admin.receiver import Receiver, serve

    secrets = tuple(sys.stdin.readline().strip() if given == "-" else given for given in secret)
    receiver = Receiver(name="listen", secrets=secrets, path=path, show=print_json if as_json else _show_received)
    serve([receiver], port=port, ready=_listening)


def _listening(url: str) -> None:
    say(f"Listening on {url}/listen, until Ctrl-C.", style="bold")
    say("A platform calls this machine only where ORDERSYNC_ALLOW_PRIVATE_TARGETS is true.", style="dim")


def _show_received(line: dict[str, Any]) -> None:
    """position, time, type, event number, key, and what became of it: one line, as `events tail` has it."""
    verdict = "verified" if line["verified"] else f"refused: {line['problem']}"
    answered = "" if line["status"] < 300 or not line["verified"] else f", answered {line['status']}"
    at = readable(line["at"], now=datetime.now(UTC) if sys.stdout.isatty() else None)
    show_text(
        f"{line['position'] or '-':>7}  {at}  {line['type'] or '-':<12}  {line['key'] or '-'}  {verdict}{answered}",
        style="" if line["verified"] else "red",
    )


def _webhook(shell: Shell, administration: str, webhook_id: str) -> Webhook:
    webhook: Webhook | None = shell.queries(administration).webhook(uuid_of(webhook_id))
    if webhook is None:
        raise NotFound(f"there is no webhook {webhook_id} in {administration}")
    return webhook


def _shown(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": str(delivery.id),
        "webhook_id": str(delivery.webhook_id),
        "position": delivery.position,
        "event_id": str(delivery.event_id),
        "event_type": delivery.event_type,
        "event_number": delivery.event_number,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "reason": delivery.reason,
    }
