import errno
from datetime import datetime
from pathlib import Path

import orjson
import rich_click as click

from ordersync_admin.item_file import check_item_file
from ordersync_admin.output import print_json, say
from ordersync_admin.shell import json_option
from ordersync_core.kernel.errors import ExternalFailure, InvalidInput


@click.group(name="sandbox")
def command() -> None:
    """Local servers that behave like an external system's API."""


@command.command(name="exact-online")
@click.option("--port", type=click.IntRange(0, 65_535), default=8090, show_default=True, help="0 takes a free one.")
@click.option(
    "--items",
    type=click.Path(path_type=Path),
    help="CSV, NDJSON or JSON with Code and Description; the real items of a gift-ware seller when left out.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of ids and of simulated changes.")
@click.option("--clock", help="Where its clock starts, such as 2026-01-31T12:00:00+00:00; the real time when left out.")
@click.option("--faults", type=click.Path(path_type=Path), help="A JSON list of faults to play.")
@click.option("--log", type=click.Path(path_type=Path), help="Writes one JSON line for each request.")
@click.option("--minutely-limit", type=click.IntRange(1), default=60, show_default=True)
@click.option("--daily-limit", type=click.IntRange(1), default=5_000, show_default=True)
@json_option
def exact_online(
    port: int,
    items: Path | None,
    seed: int,
    clock: str | None,
    faults: Path | None,
    log: Path | None,
    minutely_limit: int,
    daily_limit: int,
    as_json: bool,
) -> None:
    """Exact Online: OAuth, items, sync and deletions, limits and errors, as far as reading items needs them."""
    from ordersync_connectors.exact_online.sandbox import FaultError, ItemFileError, SandboxSettings, run_sandbox
    from ordersync_connectors.exact_online.sandbox.samples import SAMPLE_ITEMS

    try:
        settings = SandboxSettings(
            port=port,
            items=items or SAMPLE_ITEMS,
            seed=seed,
            clock=None if clock is None else _moment(clock),
            faults=faults,
            log=log,
            minutely_limit=minutely_limit,
            daily_limit=daily_limit,
        )
    except ValueError as error:
        raise InvalidInput(str(error)) from None

    if items is not None:
        check_item_file(items)

    def ready(url: str) -> None:
        if as_json:
            print_json({"url": url, "division": settings.division, "client_id": settings.client_id})
            return
        say(f"Exact Online sandbox on {url}, until Ctrl-C.", style="bold")
        say(f"division {settings.division}, client id {settings.client_id}, client secret {settings.client_secret}")
        described = {"host": url, "division": settings.division, "client_id": settings.client_id}
        secrets = {"client_secret": settings.client_secret}
        say(
            "Next: ordersync connections create exact_online -a CODE "
            f"--settings '{orjson.dumps(described).decode()}' --secrets '{orjson.dumps(secrets).decode()}'"
        )
        say("A platform calls this machine only where ORDERSYNC_ALLOW_PRIVATE_TARGETS is true.", style="dim")

    try:
        run_sandbox(settings, ready)
    except (ItemFileError, FaultError) as error:
        raise InvalidInput(str(error)) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ExternalFailure(f"port {port} is taken; choose another one with --port") from None
        raise ExternalFailure(f"the sandbox cannot start: {error.strerror or error}") from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time", param_hint="--clock") from None
    if moment.tzinfo is None:
        raise click.BadParameter("the time needs a zone, such as +00:00", param_hint="--clock")
    return moment
