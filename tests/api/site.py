"""The API behind a real server on this machine, with two tenants; every answer is held against the description."""

import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from attrs import field, frozen
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from punq import Container
from starlette.applications import Starlette

from ordersync_adapters.system import SystemClock, SystemIds
from ordersync_adapters.tokens.local_issuer import LocalIssuer
from ordersync_adapters.tokens.verifier import make_verifier
from ordersync_adapters.webhook_sender.sender import UrlTargetPolicy
from ordersync_adapters.wiring import make_application, prepare_stores, register_adapters
from ordersync_api.app import build_app
from ordersync_api.cursors import Cursors
from ordersync_api.main import listen
from ordersync_api.settings import ApiSettings
from ordersync_connectors.wiring import register_connectors
from ordersync_core.administrations.commands import CreateAdministration, GrantMembership
from ordersync_core.administrations.handlers import create_administration, grant_membership
from ordersync_core.administrations.model import Role
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.handlers import relay
from ordersync_core.messaging.queue import Queues
from ordersync_core.testing.memory.databases import MemoryDatabases
from ordersync_core.testing.memory.secrets import MemorySecrets
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_core.webhooks.ports import TargetPolicy

OWNER, EDITOR, READER = "owner", "editor", "reader"
STRANGER, BOTH = "stranger", "both"
A, B = "alpha", "beta"
PUBLIC_URL = "https://93.184.216.34/hook"
"""An address outside of any refused range; nothing is ever sent to it."""

CONNECTION = {
    "connector": "exact_online",
    "name": "Exact",
    "settings": {"division": 1, "client_id": "id"},
    "secret_settings": {"client_secret": "s3cret"},
}
_numbers = itertools.count(1)


def new_code() -> str:
    return f"item-{next(_numbers)}"


@frozen
class Site:
    """owner, editor and reader are members of alpha only; `other` owns beta only; `both` owns both."""

    url: str
    application: Application = field(repr=False)
    issuer: LocalIssuer = field(repr=False)
    client: httpx.Client = field(repr=False)
    openapi: Mapping[str, Any] = field(factory=dict, repr=False)
    _tokens: dict[str, str] = field(factory=dict, repr=False)

    def token(self, subject: str) -> str:
        if subject not in self._tokens:
            self._tokens[subject] = self.issuer.issue(subject)
        return self._tokens[subject]

    def call(
        self,
        method: str,
        path: str,
        *,
        subject: str | None = OWNER,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> httpx.Response:
        """A request, whose answer must be one that /openapi.json describes."""
        sent = dict(headers or {})
        if token is not None or subject is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.token(subject or '')}")
        answer = self.client.request(method, self.url + path, headers=sent, **request)
        check_answer(self.openapi, method, path, answer)
        return answer

    def relay(self, administration: str = A) -> None:
        """Number what waits in the outbox."""
        self.application.run(relay, Relay(), self.context(administration))

    def context(self, administration: str | None = A) -> Context:
        return Context(administration=administration, triggered_by="test", correlation_id="test")


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The application behind a real server in a thread; its address."""
    opened = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        opened.close()


@contextmanager
def site(kind: str, folder: Path, **limits: int) -> Iterator[Site]:
    """kind: "memory" or "sqlite"."""
    application = in_memory() if kind == "memory" else on_sqlite(folder)
    create_tenants(application)
    keys = folder / "keys"
    tokens = make_verifier(issuer=None, audience=None, jwks=None, folder=keys, clock=SystemClock())
    app = build_app(application, tokens=tokens, cursors=Cursors.of([b"a key for cursors"]), **limits)
    with serving(app) as url, httpx.Client(timeout=30, trust_env=False) as client:
        openapi = client.get(url + "/openapi.json").json()
        yield Site(url, application, LocalIssuer(keys), client, openapi)


def in_memory() -> Application:
    clock, ids = SystemClock(), SystemIds()
    databases = MemoryDatabases(clock, ids)
    container = Container()
    adapters: dict[Any, Any] = {
        Clock: clock,
        Ids: ids,
        TenantDatabases: databases.tenants,
        Queues: MemoryQueues(clock),
        Secrets: MemorySecrets(),
        TargetPolicy: UrlTargetPolicy(allow_private=False),
    }
    for port, adapter in adapters.items():
        container.register(port, instance=adapter)
    register_connectors(container, allow_private_targets=False)
    return Application(resolve=container.resolve, databases=databases)


def on_sqlite(folder: Path) -> Application:
    settings = ApiSettings(state=folder)
    prepare_stores(settings)
    container = Container()
    register_adapters(container, settings)
    register_connectors(container, allow_private_targets=False)
    return make_application(container)


def create_tenants(application: Application) -> None:
    context = Context(administration=None, triggered_by="test", correlation_id="test")
    for code in (A, B):
        application.run(create_administration, CreateAdministration(code=code, name=code.title()), context)
    members = [
        (OWNER, A, Role.OWNER),
        (EDITOR, A, Role.EDITOR),
        (READER, A, Role.READER),
        ("other", B, Role.OWNER),
        (BOTH, A, Role.OWNER),
        (BOTH, B, Role.OWNER),
    ]
    for identity, administration, role in members:
        grant = GrantMembership(identity=identity, administration=administration, role=role)
        application.run(grant_membership, grant, context)


_FORMATS = FormatChecker(formats=("uuid",))


def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_FORMATS.checks("date-time", raises=ValueError)(_is_moment)


def check_answer(openapi: Mapping[str, Any], method: str, path: str, answer: httpx.Response) -> None:
    """Every answer carries its id, and looks as the description says; an error is always a problem document."""
    if not openapi:
        return
    assert answer.headers["X-Request-Id"]
    described = _described(openapi, method, path)
    media = answer.headers.get("Content-Type", "").partition(";")[0]
    if answer.status_code >= 400 and not (path.startswith("/health/ready") and answer.status_code == 503):
        assert media == "application/problem+json", answer.text
        _validate(openapi, {"$ref": "#/components/schemas/ProblemDocument"}, answer.json())
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["type"].startswith("urn:ordersync:problem:")
        assert "Traceback" not in answer.text
        if described is not None and answer.status_code != 405:
            assert str(answer.status_code) in described["responses"], (method, path, answer.status_code)
        return
    assert described is not None, (method, path)
    response = described["responses"][str(answer.status_code)]
    if "content" not in response:
        assert not answer.content
        return
    if method == "HEAD":
        return
    schema = response["content"][media]["schema"]
    if media == "application/json":
        _validate(openapi, schema, answer.json())
    elif media == "application/x-ndjson":
        for line in answer.content.splitlines():
            _validate(openapi, schema, json.loads(line))


def _described(openapi: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any] | None:
    """The operation, found by literal parts first: as the server finds it."""
    method = "get" if method == "HEAD" else method.lower()
    parts = path.partition("?")[0].split("/")
    candidates = [
        (template.count("{"), operations[method])
        for template, operations in openapi["paths"].items()
        if method in operations and _fits(template.split("/"), parts)
    ]
    return min(candidates, key=lambda found: found[0])[1] if candidates else None


def _fits(template: list[str], parts: list[str]) -> bool:
    return len(template) == len(parts) and all(
        part.endswith(expected.partition("}")[2]) if expected.startswith("{") else part == expected
        for expected, part in zip(template, parts, strict=True)
    )


def _validate(openapi: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> None:
    _validator(json.dumps(schema), json.dumps(openapi["components"])).validate(value)


@lru_cache
def _validator(schema: str, components: str) -> Any:
    whole = {**json.loads(schema), "components": json.loads(components)}
    return Draft202012Validator(whole, format_checker=_FORMATS)
