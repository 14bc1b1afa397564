"""The whole platform on SQLite in a folder of its own, and its local host run in this process."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

from attrs import frozen

from ordersync_adapters.wiring import prepare_stores
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.handlers import relay
from ordersync_core.messaging.queue import Message, Queue
from ordersync_core.webhooks.commands import CreateWebhook
from ordersync_core.webhooks.handlers.subscriptions import create_webhook
from ordersync_core.webhooks.model import EventTypePattern
from ordersync_functions import function_app
from ordersync_functions.composition import build_parts
from ordersync_functions.declarations import declarations
from ordersync_functions.host import Host, listen
from ordersync_functions.parts import Parts
from ordersync_functions.settings import FunctionsSettings

KEY = "the-key"
QUICK_RETRIES = tuple(timedelta(seconds=0.2) for _ in range(15))
PLATFORM = Context(administration=None, triggered_by="a-test", correlation_id="a-test")


@frozen
class Stack:
    parts: Parts
    settings: FunctionsSettings

    def queue(self, name: str) -> Queue:
        return self.parts.queues[name]

    def administration(self, code: str = "demo") -> Context:
        self.parts.application.run(create_administration, CreateAdministration(code=code, name=code), PLATFORM)
        return PLATFORM.within(code)

    def webhook(self, context: Context, url: str, types: Sequence[str] = ("*",)) -> UUID:
        command = CreateWebhook(url=url, event_types=tuple(EventTypePattern(each) for each in types))
        webhook, _ = self.parts.application.run(create_webhook, command, context)
        return webhook.id

    def put(self, context: Context, codes: Sequence[str], name: str = "a name") -> None:
        for code in codes:
            item = Item(code=ItemCode(code), name=localised_text({"en": name}))
            self.parts.application.run(put_item, PutItem(item=item), context)

    def relay(self, context: Context) -> int:
        return self.parts.application.run(relay, Relay(), context)

    def send(self, queue: str, *bodies: bytes) -> None:
        sent = [Message(send_id=f"{queue}:{number}:{time.monotonic_ns()}", body=b) for number, b in enumerate(bodies)]
        self.queue(queue).send(sent)

    def rows(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """What lies in "admin", "queues" or a tenant's database, read without any adapter."""
        with closing(sqlite3.connect(self._file(database))) as connection:
            return connection.execute(statement).fetchall()

    def write(self, database: str, statement: str) -> None:
        with closing(sqlite3.connect(self._file(database))) as connection, connection:
            connection.execute(statement)

    def _file(self, database: str) -> Path:
        folder = self.settings.state
        return folder / f"{database}.db" if database in ("admin", "queues") else folder / "tenants" / f"{database}.db"

    def states(self, code: str = "demo") -> dict[str, int]:
        """How many deliveries are in each state."""
        return dict(self.rows(code, "SELECT state, count(*) FROM deliveries GROUP BY state"))

    def dead(self, queue: str) -> list[tuple[str, str]]:
        return [(letter.reason, letter.description) for letter in self.queue(queue).dead_letters()]


@contextmanager
def open_stack(folder: Path, **settings: Any) -> Iterator[Stack]:
    values: dict[str, Any] = {
        "state": folder,
        "allow_private_targets": True,
        "functions_port": 0,
        "retry_delays": QUICK_RETRIES,
    }
    made = FunctionsSettings(**(values | settings))
    prepare_stores(made)
    parts = build_parts(made)
    try:
        yield Stack(parts, made)
    finally:
        parts.close()
        parts.queues.close()  # type: ignore[attr-defined]
        parts.application.databases.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def running_host(stack: Stack) -> AsyncIterator[int]:
    """The declared functions at work on this stack; answers the port of their HTTP side."""
    stop = asyncio.Event()
    opened = listen(0)
    with patch.object(function_app, "parts", lambda: stack.parts):
        host = asyncio.create_task(Host(stack.parts, declarations(), opened=opened, key=KEY).run(stop))
        try:
            yield opened.getsockname()[1]
        finally:
            stop.set()
            await host


async def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until it holds; AssertionError when it does not in that time."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)
