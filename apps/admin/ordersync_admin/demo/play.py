"""The demo from an empty folder to its verdict."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
from attrs import field, frozen

from ordersync_admin.consent import CALLBACK, give_consent
from ordersync_admin.demo.client import ApiClient
from ordersync_admin.demo.evidence import Rows, lines_of, rows_served
from ordersync_admin.demo.receivers import EVERYTHING
from ordersync_admin.demo.verdict import Evidence, RunEvidence, WebhookEvidence
from ordersync_admin.item_file import check_item_file
from ordersync_admin.output import progress_bar, say
from ordersync_admin.platform import Addresses, addresses, free_port, programs, wait_until_ready, with_free_ports
from ordersync_admin.settings import AdminSettings
from ordersync_admin.shell import Shell
from ordersync_admin.supervisor import Program, python, running
from ordersync_core.administrations.commands import CreateAdministration, GrantMembership
from ordersync_core.administrations.handlers import create_administration, grant_membership
from ordersync_core.administrations.model import Role
from ordersync_core.connections.commands import BeginAuthorisation, CreateConnection
from ordersync_core.connections.handlers import begin_authorisation, create_connection
from ordersync_core.flows.commands import SetUpFlow
from ordersync_core.flows.handlers import set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.kernel.errors import ExternalFailure, PermanentFailure
from ordersync_core.webhooks.model import EventTypePattern

ADMINISTRATION = "demo"
IDENTITY = "demo-operator"
MARK = "this-is-the-state-of-ordersync-demo"
FAILING_REQUESTS = 5
TOKEN_LIFE = timedelta(hours=12)
RETRY_DELAYS = ("1s", "2s", "3s", "5s", *["10s"] * 11)
CLIENT_ID = "6f1f2b5e-3c1d-4a7e-9b52-0d7a4f6c1e01"
CLIENT_SECRET = "sandbox-secret"


@frozen(kw_only=True)
class Subscription:
    """One of the demo's webhooks. `url` None: a receiver of the demo itself, by the same name."""

    name: str
    event_types: tuple[str, ...]
    url: str | None = None


@frozen(kw_only=True)
class Stage:
    """Everything that is up and connected, and where its traces lie."""

    shell: Shell
    where: Addresses
    sandbox: str
    receivers: str | None
    api: ApiClient
    token: str
    webhooks: dict[str, dict[str, Any]] = field(factory=dict)

    @property
    def state(self) -> Path:
        return self.shell.settings.state

    @property
    def rows(self) -> Rows:
        return Rows(self.state, ADMINISTRATION)

    @property
    def source_log(self) -> list[dict[str, Any]]:
        return lines_of(self.state / "sandbox.log")


@contextmanager
def staged(
    state: Path, *, items: Path | None, subscriptions: Sequence[Subscription], log: Callable[[str, str], None]
) -> Iterator[Stage]:
    """Everything up, on an empty state folder: platform, sandbox, receivers, one administration with its connection,
    flow and webhooks."""
    if items is not None:
        check_item_file(items)
    _empty(state)
    settings = with_free_ports(
        AdminSettings(state=state.absolute(), allow_private_targets=True, retry_delays=_delays())
    )
    shell = Shell(settings)
    shell.prepare()
    sandbox_port, receivers_port = free_port(), free_port()
    environment = _environment(settings)
    extras = [_sandbox(state, items, sandbox_port, environment)]
    own_receivers = any(subscription.url is None for subscription in subscriptions)
    if own_receivers:
        extras.append(_receivers(state, receivers_port, environment))
    with running([*programs(environment), *extras], log):
        where = addresses(settings)
        wait_until_ready(where)
        sandbox = f"http://127.0.0.1:{sandbox_port}"
        _wait_for(f"{sandbox}/_sandbox/state")
        receivers = f"http://127.0.0.1:{receivers_port}" if own_receivers else None
        token = _create_administration(shell)
        _connect(shell, where, sandbox)
        stage = Stage(
            shell=shell,
            where=where,
            sandbox=sandbox,
            receivers=receivers,
            api=ApiClient(where.api, token, ADMINISTRATION),
            token=token,
        )
        for subscription in subscriptions:
            stage.webhooks[subscription.name] = _subscribe(stage, subscription)
        yield stage


def perform(stage: Stage, subscriptions: Sequence[Subscription], *, patience: float, quiet: bool) -> Evidence:
    """Four runs of the item flow, with a failing receiver on the way, and what all of it left behind.

    patience: seconds to wait after each run until everything is delivered.
    """
    runs = [
        _run(stage, "first", {}, patience=patience, quiet=quiet),
        _run(stage, "incremental, no change at the source", {}, patience=patience, quiet=quiet),
        _run(stage, "full re-read, cursor reset", {"complete": True}, patience=patience, quiet=quiet),
    ]
    changed = _sandbox_call(stage, "POST", "/_sandbox/change", {"percent": 1})["changed"]
    if stage.receivers is not None:
        _configure(stage, EVERYTHING, {"fail": FAILING_REQUESTS})
        say(
            f"The receiver [bold]{EVERYTHING}[/bold] now fails {FAILING_REQUESTS} requests and then recovers.",
            quiet=quiet,
        )
    runs.append(_run(stage, "1 % changed at the source", {}, patience=patience, quiet=quiet))
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
        items_at_source=_sandbox_call(stage, "GET", "/_sandbox/state")["items"],
        items_stored=stage.rows.items(),
        changed_at_source=[code.strip() for code in changed],
        changed_events=[e["data"]["code"] for e in feed if e["type"] == "item.updated"],
    )


def _lines(stage: Stage, subscription: Subscription) -> list[dict[str, Any]]:
    """What the receiver wrote, or, of somebody else's receiver, which deliveries were made."""
    if subscription.url is None:
        lines = lines_of(stage.state / "receivers.ndjson")
        return [line for line in lines if line["receiver"] == subscription.name]
    return [
        {"position": position, "id": id, "verified": True, "status": 200, "body": None}
        for _, position, id in stage.rows.delivered()
    ]


def _selects(subscription: Subscription, event_type: str) -> bool:
    return any(EventTypePattern(pattern).selects(event_type) for pattern in subscription.event_types)


def _empty(state: Path) -> None:
    """Begin anew; only a folder that an earlier demo made is emptied."""
    if state.exists() and any(state.iterdir()) and not (state / MARK).exists():
        raise PermanentFailure(f"{state} holds something else than an earlier demo; choose another --state")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    (state / MARK).touch()


def _environment(settings: AdminSettings) -> dict[str, str]:
    """This process's environment with the demo's settings in place of any others."""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
    return {
        **foreign,
        "ORDERSYNC_STATE": str(settings.state),
        "ORDERSYNC_API_PORT": str(settings.api_port),
        "ORDERSYNC_FUNCTIONS_PORT": str(settings.functions_port),
        "ORDERSYNC_ALLOW_PRIVATE_TARGETS": "true",
        "ORDERSYNC_RETRY_DELAYS": ",".join(RETRY_DELAYS),
    }


def _delays() -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=float(delay.removesuffix("s"))) for delay in RETRY_DELAYS)


def _sandbox(state: Path, items: Path | None, port: int, environment: dict[str, str]) -> Program:
    chosen = () if items is None else ("--items", str(items.absolute()))
    return Program(
        name="sandbox",
        arguments=python(
            "ordersync_admin",
            "sandbox",
            "exact-online",
            "--port",
            str(port),
            "--log",
            str(state / "sandbox.log"),
            *chosen,
        ),
        environment=environment,
    )


def _receivers(state: Path, port: int, environment: dict[str, str]) -> Program:
    return Program(
        name="receivers",
        arguments=python("ordersync_admin.demo.receivers", str(state / "receivers.ndjson"), str(port)),
        environment=environment,
    )


def _create_administration(shell: Shell) -> str:
    context = shell.context()
    shell.application.run(
        create_administration, CreateAdministration(code=ADMINISTRATION, name="Demonstration"), context
    )
    shell.application.run(
        grant_membership,
        GrantMembership(identity=IDENTITY, administration=ADMINISTRATION, role=Role.OWNER),
        context,
    )
    return shell.issue_token(IDENTITY, lifetime=TOKEN_LIFE)


def _connect(shell: Shell, where: Addresses, sandbox: str) -> None:
    """Connect the sandbox as a person would: consent in a browser, and the redirect to our callback."""
    context = shell.context(ADMINISTRATION)
    connection = shell.application.run(
        create_connection,
        CreateConnection(
            connector="exact_online",
            name="Exact Online (sandbox)",
            settings={"host": sandbox, "division": 1, "client_id": CLIENT_ID},
            secret_settings={"client_secret": CLIENT_SECRET},
        ),
        context,
    )
    url = shell.application.run(
        begin_authorisation,
        BeginAuthorisation(connection_id=connection.id, redirect_uri=f"{where.functions}{CALLBACK}"),
        context,
    )
    give_consent(url)
    shell.application.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id), context)


def _subscribe(stage: Stage, subscription: Subscription) -> dict[str, Any]:
    url = subscription.url or f"{stage.receivers}/{subscription.name}"
    webhook = stage.api.create_webhook(url, list(subscription.event_types))
    if subscription.url is None:
        _configure(stage, subscription.name, {"secrets": [webhook["secret"]]})
    return webhook


def _configure(stage: Stage, receiver: str, wishes: dict[str, Any]) -> None:
    response = httpx.put(
        f"{stage.receivers}/{receiver}/settings", content=orjson.dumps(wishes), timeout=10, trust_env=False
    )
    response.raise_for_status()


def _sandbox_call(stage: Stage, method: str, path: str, body: Any = None) -> dict[str, Any]:
    response = httpx.request(
        method,
        f"{stage.sandbox}{path}",
        content=None if body is None else orjson.dumps(body),
        timeout=30,
        trust_env=False,
    )
    response.raise_for_status()
    answer: dict[str, Any] = orjson.loads(response.content)
    return answer


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx.get(url, timeout=5, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise ExternalFailure(f"{url} does not answer; the log above says why") from None
            time.sleep(0.1)


def _wait_until_delivered(stage: Stage, *, patience: float, quiet: bool) -> None:
    deadline = time.monotonic() + patience
    with _bar("events delivered", quiet=quiet) as tell:
        most = 0
        while waiting := stage.rows.unsettled():
            most = max(most, waiting)
            tell({"progress": {"done": most - waiting, "total": most}, "state": ""})
            if time.monotonic() > deadline:
                say(f"[red]{waiting} facts or deliveries are still on their way[/red]", quiet=quiet)
                return
            time.sleep(0.1)


@contextmanager
def _bar(label: str, *, quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task(label, total=None)

        def tell(run: dict[str, Any]) -> None:
            done, total = run["progress"]["done"], run["progress"]["total"]
            progress.update(task, description=f"{label} {run['state']}", completed=done, total=total)

        yield tell
