"""The Functions shell on databases of its own: what the benchmarks of the notification chain run on."""

import asyncio
import gc
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import psycopg
from attrs import frozen

from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.wiring import prepare_stores
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.items.commands import PutItem, PutItems
from ordersync_core.items.handlers import put_item, put_items
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.localised import localised_text
from ordersync_core.webhooks.commands import CreateWebhook
from ordersync_core.webhooks.handlers.subscriptions import create_webhook
from ordersync_core.webhooks.model import EventTypePattern
from ordersync_functions import function_app
from ordersync_functions.composition import build_parts
from ordersync_functions.declarations import declarations
from ordersync_functions.host import Host, listen
from ordersync_functions.parts import Parts
from ordersync_functions.settings import FunctionsSettings
from tests.postgres import PostgresServer

PLATFORM = Context(administration=None, triggered_by="bench", correlation_id="bench")
DATABASES = ("sqlite", "postgres")
LOOK_EVERY = 0.02
STARTS_WITHIN = 30.0
AT_ONCE = 1_000
_PREFIX = "ITEM-"
_TEXT = "For indoor and outdoor use; see the data sheet for what it bears and how it is kept. "


class Void(Exception):
    """A side did not do all of its work, so its time says nothing."""


@frozen
class Addresses:
    """URLs as the settings take them: of the admin database, the tenant databases with `{code}`, and the queues."""

    state: Path
    admin: str
    tenants: str
    queues: str

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")},
            "ORDERSYNC_STATE": str(self.state),
            "ORDERSYNC_ADMIN_DATABASE": self.admin,
            "ORDERSYNC_TENANT_DATABASES": self.tenants,
            "ORDERSYNC_QUEUES": self.queues,
            "ORDERSYNC_FUNCTIONS_PORT": "0",
            "ORDERSYNC_ALLOW_PRIVATE_TARGETS": "true",
        }


@frozen
class Deployment:
    """A Functions shell with what it works on; nothing runs before `running`."""

    addresses: Addresses
    parts: Parts

    def administration(self, code: str) -> Context:
        self.parts.application.run(create_administration, CreateAdministration(code=code, name=code), PLATFORM)
        return PLATFORM.within(code)

    def webhook(self, context: Context, url: str) -> None:
        self.parts.application.run(
            create_webhook, CreateWebhook(url=url, event_types=(EventTypePattern("*"),)), context
        )

    def put(self, context: Context, count: int, *, first: int = 0) -> None:
        """Commit so many new items, each with an outbox row whose body will have about 1.2 KB."""
        for start in range(first, first + count, AT_ONCE):
            items = tuple(_item(number) for number in range(start, min(start + AT_ONCE, first + count)))
            self.parts.application.run(put_items, PutItems(items), context)

    def put_one(self, context: Context, number: int) -> float:
        """Commit one new item; answers the moment (seconds of CLOCK_MONOTONIC) at which it was."""
        self.parts.application.run(put_item, PutItem(item=_item(number)), context)
        return time.monotonic()

    def event_ids(self, code: str) -> dict[int, str]:
        """By the number of the item, the id of its event."""
        rows = rows_of(self.addresses.tenants.format(code=code), "SELECT key, id FROM outbox")
        return {int(key.removeprefix(_PREFIX)): str(id) for key, id in rows}

    def ask(self, database: str, statement: str) -> Any:
        """The one value that a statement answers. database: "queues", or an administration's code."""
        url = self.addresses.queues if database == "queues" else self.addresses.tenants.format(code=database)
        return rows_of(url, statement)[0][0]

    def running(self) -> "Running":
        return Running(self)


class Running:
    """The shell's host on an event loop of the caller: `async with deployment.running(): ...`."""

    def __init__(self, deployment: Deployment) -> None:
        self._parts = deployment.parts
        self._stop = asyncio.Event()
        self._patch = patch.object(function_app, "parts", lambda: self._parts)
        self._host: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._patch.start()
        collect_rarely()  # as the shell does
        host = Host(self._parts, declarations(), opened=listen(0), key="bench")
        self._host = asyncio.create_task(host.run(self._stop))

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._host is not None
        await self._host
        gc.unfreeze()
        self._patch.stop()


@contextmanager
def deployed(addresses: Addresses, **settings: Any) -> Iterator[Deployment]:
    values: dict[str, Any] = {
        "state": addresses.state,
        "admin_database": addresses.admin,
        "tenant_databases": addresses.tenants,
        "queues": addresses.queues,
        "allow_private_targets": True,
    }
    made = FunctionsSettings(**(values | settings))
    prepare_stores(made)
    parts = build_parts(made)
    try:
        yield Deployment(addresses, parts)
    finally:
        parts.close()
        parts.queues.close()  # type: ignore[attr-defined]
        parts.application.databases.close()  # type: ignore[attr-defined]


@contextmanager
def functions_shell(addresses: Addresses) -> Iterator[None]:
    """The Functions shell as a process of its own, at work."""
    command = [sys.executable, "-m", "ordersync_functions"]
    log = addresses.state / "functions.log"
    with log.open("w") as written:
        process = subprocess.Popen(command, env=addresses.environment(), stderr=written, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + STARTS_WITHIN
        while "listening on" not in log.read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise Void(f"the Functions shell did not start: {log.read_text()[-500:]}")
            time.sleep(LOOK_EVERY)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def fresh_addresses(database: str, folder: Path, server: PostgresServer | None) -> Iterator[Addresses]:
    """Empty databases. database: "sqlite", or "postgres" on the server."""
    mark = uuid4().hex[:8]
    state = folder / mark
    if database == "sqlite":
        yield Addresses(
            state, f"sqlite:///{state}/admin.db", f"sqlite:///{state}/{{code}}.db", f"sqlite:///{state}/queues.db"
        )
        return
    assert server is not None
    names = (f"admin_{mark}", f"queues_{mark}")
    for name in names:
        server.create_database(name)
    tenants = server.url(f"tenant_{mark}_CODE").replace("CODE", "{code}")
    yield Addresses(state, server.url(names[0]), tenants, server.url(names[1]))


@contextmanager
def postgres_if(database: str) -> Iterator[PostgresServer | None]:
    """A server that flushes at each commit, when the database is to be "postgres"."""
    if database == "sqlite":
        yield None
        return
    with PostgresServer(durable=True) as server:
        yield server


async def until(holds: Callable[[], bool], *, seconds: float = 300) -> float:
    """The moment by `time.perf_counter` at which it was seen to hold; TimeoutError when it does not in that time."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        if time.monotonic() > end:
            raise TimeoutError("it did not come about")
        await asyncio.sleep(LOOK_EVERY)
    return time.perf_counter()


def rows_of(url: str, statement: str) -> list[tuple[Any, ...]]:
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(file_of(url), timeout=10)) as connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(libpq_of(url), autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def file_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def libpq_of(url: str) -> str:
    return url.replace("postgresql+psycopg:", "postgresql:")


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of them does not exceed; part: above 0, up to 1."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By name, the middle of the rounds."""
    return {name: sorted(each[name] for each in rounds)[len(rounds) // 2] for name in rounds[0]}


def _item(number: int) -> Item:
    return Item(
        code=ItemCode(f"{_PREFIX}{number:07}"),
        name=localised_text({"en": f"Item number {number}", "nl": f"Artikel nummer {number}"}),
        family_code=f"G{number % 60:03}",
        unit="pc",
        attributes={"text": _TEXT * 8, "barcode": f"87{number:011}", "net_weight": 1.25, "search": f"ITEM {number}"},
    )
