"""OrderSync embedded in a test: its handlers on stores in memory or on SQLite, and a clock that the test holds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_core.items.commands import DeleteItem, PutItem
from ordersync_core.items.handlers import delete_item, put_item
from ordersync_core.items.model import ItemCode
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Heartbeat
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.envelope import Envelope, decode_envelope
from ordersync_core.messaging.queue import Message, Queues
from ordersync_core.testing.clocks import ManualClock, SteppingIds
from ordersync_core.testing.contracts.databases import ALPHA, context
from ordersync_core.testing.contracts.examples import NOON, an_item
from ordersync_core.testing.memory import MemoryDatabases, MemoryHeartbeat, MemorySecrets
from ordersync_core.testing.memory_queue import MemoryQueue, MemoryQueues
from ordersync_core.webhooks.ports import RetryPolicy, TargetPolicy, TargetRefused
from ordersync_core.webhooks.retry import RETRY_DELAYS

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")


class PublicTargets:
    """Refuses what names this machine."""

    def check(self, url: str) -> None:
        if "localhost" in url:
            raise TargetRefused(f"{url} is not called")


class Embedded:
    """One process that embeds OrderSync, with the administrations alpha and beta.

    databases: in memory unless given.
    ports: more adapters, by port, or others than the usual ones.
    """

    def __init__(
        self,
        databases: Callable[[ManualClock], Databases] | None = None,
        *,
        ports: dict[Any, Any] | None = None,
    ) -> None:
        self.clock = ManualClock(NOON)
        self.queues = MemoryQueues(self.clock)
        self.secrets = MemorySecrets()
        self.heartbeat = MemoryHeartbeat(self.clock)
        self.databases: Any = memory_databases(self.clock) if databases is None else databases(self.clock)
        self.ports: dict[Any, Any] = {
            Clock: self.clock,
            Ids: SteppingIds(start=1 << 20),
            Queues: self.queues,
            Secrets: self.secrets,
            Heartbeat: self.heartbeat,
            TargetPolicy: PublicTargets(),
            RetryPolicy: RetryPolicy(delays=RETRY_DELAYS),
        } | (ports or {})
        self.application = Application(resolve=self.ports.__getitem__, databases=self.databases)

    def run(
        self, handler: Callable[Concatenate[C, P], R], command: C, administration: str | None = ALPHA, **why: str
    ) -> R:
        return self.application.run(handler, command, context(administration, **why))

    def put(self, *codes: str, name: str | None = None, administration: str = ALPHA, **why: str) -> None:
        """Create or change items, each in a transaction of its own."""
        for code in codes:
            self.run(put_item, PutItem(item=an_item(code, name=name)), administration, **why)

    def delete(self, *codes: str) -> None:
        for code in codes:
            self.run(delete_item, DeleteItem(code=ItemCode(code)))

    def queries(self, administration: str = ALPHA) -> Any:
        return self.databases.queries(context(administration))

    def pass_time(self, duration: timedelta) -> None:
        self.clock.advance(duration)

    def take(self, queue: str) -> list[Envelope]:
        """Everything that lies in a queue, taken off it."""
        return [decode_envelope(message.body) for message in self.take_messages(queue)]

    def take_messages(self, queue: str) -> list[Message]:
        taken: list[Message] = []
        while claims := self.queues[queue].claim():
            taken += [claim.message for claim in claims]
            assert self.queues[queue].complete(claims) == []
        return taken

    def lose(self, queue: str) -> int:
        """The queue loses all that lies in it; answers how many messages that were."""
        return len(self.take(queue))


class ConsumedAtOnce:
    """Queues of which one has a consumer so fast that its messages are worked on before their sender goes on.

    consume: called after each send that has messages, except while it runs itself.
    """

    def __init__(self, queues: MemoryQueues, name: str, consume: Callable[[], None]) -> None:
        self._queues = queues
        self._name = name
        self._consume = consume
        self._consuming = False

    def __getitem__(self, name: str) -> Any:
        return _Prompt(self._queues[name], self._consume_once) if name == self._name else self._queues[name]

    def _consume_once(self) -> None:
        if not self._consuming:
            self._consuming = True
            self._consume()
            self._consuming = False


class _Prompt:
    def __init__(self, queue: MemoryQueue, consume: Callable[[], None]) -> None:
        self._queue = queue
        self._consume = consume

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def send(self, messages: Sequence[Message]) -> None:
        self._queue.send(messages)
        if messages:
            self._consume()


def memory_databases(clock: ManualClock) -> MemoryDatabases:
    databases = MemoryDatabases(clock, SteppingIds())
    for code in ("alpha", "beta"):
        databases.add_tenant(code)
    return databases


@contextmanager
def sqlite_databases(folder: Path) -> Iterator[Callable[[ManualClock], Databases]]:
    """The same databases as files in a folder, closed at the end."""
    admin = AdminDatabase(f"sqlite:///{folder}/admin.db")
    tenants = SqlTenantDatabases(f"sqlite:///{folder}/{{code}}.db")
    ids = SteppingIds()
    admin.create()
    admin.migrate()
    for code in ("alpha", "beta"):
        tenants.create(code)
        tenants.migrate(code)
        tenants.initialise(code, ids.new())
    opened: list[SqlDatabases] = []

    def open_with(clock: ManualClock) -> Databases:
        opened.append(SqlDatabases(admin, tenants, clock=clock, ids=ids))
        return opened[-1]

    try:
        yield open_with
    finally:
        for databases in opened:
            databases.close()
