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
from ordersync_admin.demo.client import ENDED, ApiClient
from ordersync_admin.demo.evidence import Rows, lines_of, rows_served
from ordersync_admin.demo.receivers import EVERYTHING
from ordersync_admin.demo.verdict import Evidence, RunEvidence, WebhookEvidence
from ordersync_admin.item_file import check_item_file
from ordersync_admin.local_access import Access
from ordersync_admin.output import progress_bar, say
from ordersync_admin.platform import (
    Addresses,
    addresses,
    free_ports,
    programs,
    wait_until_it_answers,
    wait_until_ready,
    with_free_ports,
)
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
WIDTH = 22
"""Cells of the words before a progress bar."""


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

    def addresses(self) -> dict[str, Any]:
        """Where everything is, and what it takes to call it."""
        access = Access(administration=ADMINISTRATION, identity=IDENTITY, token=self.token)
        return {
            "api": self.where.api,
            "functions": self.where.functions,
            "sandbox": self.sandbox,
            "administration": ADMINISTRATION,
            "token": self.token,
            "curl": access.curl(self.where.api),
            "webhooks": [
                {"name": name, "id": webhook["id"], "url": webhook["url"], "secret": webhook["secret"]}
                for name, webhook in self.webhooks.items()
            ],
        }

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
    environment = _environment(settings)
    _, _, sandbox_port, receivers_port = free_ports(settings.api_port, settings.functions_port, 0, 0)
    extras = [_sandbox(state, items, sandbox_port, environment)]
    own_receivers = any(subscription.url is None for subscription in subscriptions)
    if own_receivers:
        extras.append(_receivers(state, receivers_port, environment))
    with running([*programs(settings, environment), *extras], log):
        where = addresses(settings)
        wait_until_ready(where)
        sandbox = f"http://127.0.0.1:{sandbox_port}"
        wait_until_it_answers(f"{sandbox}/_sandbox/state")
        receivers = f"http://127.0.0.1:{receivers_port}" if own_receivers else None
        if receivers is not None:
            wait_until_it_answers(f"{receivers}/")
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
        _run(stage, "no change", {}, patience=patience, quiet=quiet),
        _run(stage, "full re-read", {"complete": True}, patience=patience, quiet=quiet),
    ]
    changed = _sandbox_call(stage, "POST", "/_sandbox/change", {"percent": 1})["changed"]
    if stage.receivers is not None:
        failing = min(FAILING_REQUESTS, len(changed))  # of few deliveries each would have to fail many times in a row
        _configure(stage, EVERYTHING, {"fail": failing})
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
        items_at_source=_sandbox_call(stage, "GET", "/_sandbox/state")["items"],
        items_stored=stage.rows.items(),
        in_quarantine=stage.rows.in_quarantine(),
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
    callback = f"{where.functions}{CALLBACK}"
    url = shell.application.run(
        begin_authorisation, BeginAuthorisation(connection_id=connection.id, redirect_uri=callback), context
    )
    give_consent(url, redirect_uri=callback)
    shell.application.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id), context)


def _subscribe(stage: Stage, subscription: Subscription) -> dict[str, Any]:
    url = subscription.url or f"{stage.receivers}/{subscription.name}"
    webhook = stage.api.create_webhook(url, list(subscription.event_types))
    if subscription.url is None:
        _configure(stage, subscription.name, {"secrets": [webhook["secret"]]})
    return webhook


def _configure(stage: Stage, receiver: str, wishes: dict[str, Any]) -> None:
    _ask("PUT", f"{stage.receivers}/{receiver}/settings", wishes)


def _sandbox_call(stage: Stage, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(_ask(method, f"{stage.sandbox}{path}", body))
    return answer


def _ask(method: str, url: str, body: Any) -> bytes:
    """Raises ExternalFailure when one of the demo's own programs does not do what it is asked."""
    content = None if body is None else orjson.dumps(body)
    try:
        return httpx.request(method, url, content=content, timeout=30, trust_env=False).raise_for_status().content
    except httpx.HTTPError as error:
        raise ExternalFailure(f"{method} {url}: {error}") from error


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
            time.sleep(0.1)
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
