"""The demo's stage: platform, sandbox and receivers in an empty folder, connected and subscribed."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
from attrs import field, frozen

from ordersync_admin.consent import CALLBACK, give_consent
from ordersync_admin.demo.client import ApiClient
from ordersync_admin.demo.evidence import Rows, lines_of
from ordersync_admin.item_file import check_item_file
from ordersync_admin.local_access import Access
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
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.kernel.errors import ExternalFailure, PermanentFailure

ADMINISTRATION = "demo"
IDENTITY = "demo-operator"
MARK = "this-is-the-state-of-ordersync-demo"
SANDBOX_LOG = "sandbox.log"
RECEIVED = "receivers.ndjson"
TOKEN_LIFE = timedelta(hours=12)
RETRY_DELAYS = tuple(timedelta(seconds=seconds) for seconds in (1, 2, 3, 5, *[10] * 11))
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
    """Everything that is up and connected, and where its traces lie.

    receivers: the address of the demo's own; None where only somebody else's receiver is tried.
    """

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
        return lines_of(self.state / SANDBOX_LOG)

    @property
    def received(self) -> list[dict[str, Any]]:
        """What the demo's own receivers wrote."""
        return lines_of(self.state / RECEIVED)

    def configure(self, receiver: str, wishes: dict[str, Any]) -> None:
        _ask("PUT", f"{self.receivers}/{receiver}/settings", wishes)

    def call_sandbox(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(_ask(method, f"{self.sandbox}{path}", body))
        return answer


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
        AdminSettings(state=state.absolute(), allow_private_targets=True, retry_delays=RETRY_DELAYS)
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
        "ORDERSYNC_RETRY_DELAYS": ",".join(f"{delay.total_seconds():g}s" for delay in RETRY_DELAYS),
    }


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
            str(state / SANDBOX_LOG),
            *chosen,
        ),
        environment=environment,
    )


def _receivers(state: Path, port: int, environment: dict[str, str]) -> Program:
    return Program(
        name="receivers",
        arguments=python("ordersync_admin.demo.receivers", str(state / RECEIVED), str(port)),
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
        stage.configure(subscription.name, {"secrets": [webhook["secret"]]})
    return webhook


def _ask(method: str, url: str, body: Any) -> bytes:
    """Raises ExternalFailure when one of the demo's own programs does not do what it is asked."""
    content = None if body is None else orjson.dumps(body)
    try:
        return httpx.request(method, url, content=content, timeout=30, trust_env=False).raise_for_status().content
    except httpx.HTTPError as error:
        raise ExternalFailure(f"{method} {url}: {error}") from error
