import asyncio
from typing import Any

import rich_click as click

from ordersync_admin.output import say, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_option, pass_shell, uuid_of
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
from ordersync_core.webhooks.handlers import (
    create_webhook,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    prepare_test,
    redeliver,
    replay,
)
from ordersync_core.webhooks.model import Delivery, DeliveryState, EventTypePattern, shown
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse, WebhookSender

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
        {"id": "webhook", "url": "url", "event_types": "events", "state": "state", "last_position": "deliveries"},
        as_json=as_json,
        empty=f"There are no webhooks yet: ordersync webhooks create URL -a {administration}",
    )


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
    webhook, secret = shell.application.run(
        create_webhook, CreateWebhook(url=url, event_types=patterns), shell.context(administration)
    )
    show_one({**shown(webhook), "secret": secret}, as_json=as_json)


@command.command()
@webhook_argument
@administration_option
@pass_shell
def delete(shell: Shell, webhook_id: str, administration: str) -> None:
    """Delete a webhook with its deliveries."""
    shell.application.run(delete_webhook, DeleteWebhook(id=uuid_of(webhook_id)), shell.context(administration))


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


@command.command(name="replay")
@webhook_argument
@administration_option
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="The last event number not sent.")
@json_option
@pass_shell
def replay_(shell: Shell, webhook_id: str, administration: str, after: int, as_json: bool) -> None:
    """Deliver again, at new positions, what the webhook takes of the events after a number."""
    count = shell.application.run(
        replay, Replay(webhook_id=uuid_of(webhook_id), after_number=after), shell.context(administration)
    )
    show_one({"deliveries": count}, as_json=as_json)


@command.command()
@webhook_argument
@administration_option
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]))
@click.option("--limit", type=click.IntRange(1, MAXIMUM_LIMIT), default=50, show_default=True)
@json_option
@pass_shell
def deliveries(
    shell: Shell, webhook_id: str, administration: str, state: str | None, limit: int, as_json: bool
) -> None:
    """List a webhook's deliveries by position."""
    page = shell.queries(administration).deliveries(
        uuid_of(webhook_id), PageRequest(limit=limit), state=None if state is None else DeliveryState(state)
    )
    show_rows(
        [_shown(delivery) for delivery in page.rows],
        {
            "position": "position",
            "event_type": "event",
            "event_number": "number",
            "state": "state",
            "attempts": "attempts",
            "reason": "reason",
            "id": "delivery",
        },
        as_json=as_json,
        empty="There are no such deliveries.",
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
    response = asyncio.run(_send(shell.application.resolve(WebhookSender), request))
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
@click.option("--port", type=click.IntRange(0, 65_535), default=9000, show_default=True)
@click.option("--secret", required=True, help="As it was shown when the webhook was created.")
@click.option("--file", "path", type=click.Path(dir_okay=False), help="Also write one JSON line for each request.")
@json_option
def listen(port: int, secret: str, path: str | None, as_json: bool) -> None:
    """Receive webhooks on this machine, verify each signature and show what comes, until Ctrl-C."""
    from ordersync_admin.receiver import Receiver, serve

    receiver = Receiver(name="listen", secrets=(secret,), path=path, show=None if as_json else _show_received)
    serve([receiver], port=port, ready=lambda url: say(f"Listening on {url}/listen"), echo_json=as_json)


def _show_received(line: dict[str, Any]) -> None:
    verdict = "[green]verified[/green]" if line["verified"] else f"[red]refused: {line['problem']}[/red]"
    say(f"{line['position'] or '-':>8}  {line['type'] or '-'}  {line['key'] or '-'}  {verdict}")


async def _send(sender: WebhookSender, request: WebhookRequest) -> WebhookResponse:
    return await sender.send(request)


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
