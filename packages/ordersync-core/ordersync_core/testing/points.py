"""The points at which a process can die: before and after every call of a port that writes, sends, settles or calls
out. They come from wrapping the ports, so the core has no hooks, and a new method of a port is a point by itself."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import TracebackType
from typing import Any, Final, Self, get_type_hints

from attrs import evolve, frozen

from ordersync_core.administrations.ports import AdministrationsUnitOfWork, TenantDatabases
from ordersync_core.connections.ports import (
    AuthorisationUnitOfWork,
    ConnectionsUnitOfWork,
    Connector,
    Connectors,
    Source,
)
from ordersync_core.flows.ports import FlowsUnitOfWork, RawRepository
from ordersync_core.items.ports import ItemsUnitOfWork
from ordersync_core.jobs.ports import JobsUnitOfWork
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.blobs import Blobs
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.ports import MessagingUnitOfWork, WakeUnitOfWork
from ordersync_core.messaging.queue import Queue, Queues
from ordersync_core.webhooks.ports import WebhookSender, WebhooksUnitOfWork

BEFORE: Final = "before"
AFTER: Final = "after"

At = Callable[[str], None]
"""Told each point when it is reached: "before items.save", "after commit"."""

READS: Final = frozenset(
    {
        "administrations.find",
        "blobs.get",
        "blobs.names",
        "blobs.open",
        "connections.all",
        "connections.find",
        "connections.flows_of",
        "connector.check",
        "connector.consent_url",
        "connector.description",
        "connector.source",
        "definitions.due",
        "definitions.find",
        "deliveries.first_waiting",
        "deliveries.get",
        "deliveries.in_queue",
        "deliveries.owed",
        "event_log.handled_after",
        "event_log.last_number",
        "executions.find",
        "flows.find",
        "items.find",
        "items.get",
        "outbox.earliest_ticket_at",
        "outbox.find",
        "outbox.lock_numbering",
        "outbox.owed",
        "outbox.unfinished",
        "outbox.unnumbered",
        "quarantine.keys",
        "queue.dead_letters",
        "queue.depth",
        "queue.find_dead_letter",
        "queue.wait",
        "raw.count",
        "raw.cursor",
        "raw.dropped",
        "raw.holders",
        "raw.stored",
        "raw.tombstones",
        "raw.unapplied",
        "raw.waiting",
        "runs.find",
        "runs.owed",
        "runs.stuck",
        "runs.waiting_for",
        "webhooks.enabled",
        "webhooks.find",
        "webhooks.of_deliveries",
    }
)
"""The calls that change nothing anywhere: dying beside one is dying beside the call before it."""

_SLICES: Final[tuple[type, ...]] = (
    AdministrationsUnitOfWork,
    AuthorisationUnitOfWork,
    ConnectionsUnitOfWork,
    FlowsUnitOfWork,
    ItemsUnitOfWork,
    JobsUnitOfWork,
    MessagingUnitOfWork,
    WakeUnitOfWork,
    WebhooksUnitOfWork,
)


@cache
def calls() -> frozenset[str]:
    """Every call of every watched port, reads too, as "items.save": read off the protocols."""
    found = {"commit", "tell", "processed"}
    found |= _methods("raw", RawRepository) | _methods("source", Source) | _methods("connector", Connector)
    found |= _methods("blobs", Blobs) | _methods("tenants", TenantDatabases) | _methods("sender", WebhookSender)
    found |= _methods("queue", Queue)
    for slice_ in _SLICES:
        for name, repository in repositories(slice_).items():
            found |= _methods(name, repository)
    return frozenset(found)


def points() -> frozenset[str]:
    """Every point there is. A queue's points name the queue: "before events.send"."""
    names: set[str] = set()
    for call in calls() - READS:
        port, _, method = call.partition(".")
        names |= {f"{queue}.{method}" for queue in QUEUES} if port == "queue" else {call}
    return frozenset(f"{moment} {name}" for name in names for moment in (BEFORE, AFTER))


def repositories(slice_: type) -> Mapping[str, type]:
    """The repositories that a slice of the unit of work shows, by name."""
    return {
        name: get_type_hints(attribute.fget)["return"]
        for kind in slice_.__mro__
        for name, attribute in vars(kind).items()
        if isinstance(attribute, property)
    }


def _methods(port: str, protocol: type) -> set[str]:
    return {f"{port}.{name}" for name in vars(protocol) if not name.startswith("_")}


def watched(application: Application, at: At, *, reading: At = lambda call: None) -> Application:
    """The same application, telling `at` each point that it reaches; whatever `at` raises goes through.

    reading: told the calls that only read, and "begin", without a moment.
    """
    watch = _Watch(at, reading)
    databases = _WatchedDatabases(application.databases, watch)
    return evolve(
        application,
        resolve=lambda port: _resolved(port, application.resolve(port), watch),
        databases=databases,
    )


def watched_queues(queues: Queues, at: At, *, reading: At = lambda call: None) -> Queues:
    """For whoever has the queues without an application."""
    return _WatchedQueues(queues, _Watch(at, reading))


@frozen
class _Watch:
    at: At
    reading: At

    def method(self, port: str, name: str, method: Callable[..., Any], *, kind: str | None = None) -> Any:
        """port: what the points call it. kind: what `READS` calls it, when that is something else."""
        if f"{kind or port}.{name}" in READS:
            return self._read(f"{port}.{name}", method)
        return self._point(f"{port}.{name}", method)

    def _read(self, call: str, method: Callable[..., Any]) -> Any:
        def read(*arguments: Any, **named: Any) -> Any:
            self.reading(call)
            return method(*arguments, **named)

        return read

    def _point(self, call: str, method: Callable[..., Any]) -> Any:
        def write(*arguments: Any, **named: Any) -> Any:
            self.at(f"{BEFORE} {call}")
            answer = method(*arguments, **named)
            self.at(f"{AFTER} {call}")
            return answer

        return write


class _Watched:
    """Any port whose methods answer values."""

    def __init__(self, target: Any, port: str, watch: _Watch, *, kind: str | None = None) -> None:
        self._target = target
        self._port = port
        self._watch = watch
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        return self._watch.method(self._port, name, attribute, kind=self._kind) if callable(attribute) else attribute


class _WatchedUnitOfWork:
    def __init__(self, target: Any, watch: _Watch) -> None:
        self._target = target
        self._watch = watch

    def __enter__(self) -> Self:
        self._watch.reading("begin")
        self._target.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._target.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return _Watched(attribute, name, self._watch)
        if name == "raw":
            return lambda *arguments: _Watched(attribute(*arguments), name, self._watch)
        return self._watch._point(name, attribute)


class _WatchedDatabases:
    def __init__(self, target: Databases, watch: _Watch) -> None:
        self._target = target
        self._watch = watch

    def unit_of_work(self, context: Context) -> Any:
        return _WatchedUnitOfWork(self._target.unit_of_work(context), self._watch)

    def admin_unit_of_work(self, context: Context) -> Any:
        return _WatchedUnitOfWork(self._target.admin_unit_of_work(context), self._watch)

    def queries(self, context: Context) -> Any:
        return self._target.queries(context)

    def admin_queries(self) -> Any:
        return self._target.admin_queries()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class _WatchedQueues:
    def __init__(self, target: Queues, watch: _Watch) -> None:
        self._target = target
        self._watch = watch

    def __getitem__(self, name: str) -> Any:
        return _Watched(self._target[name], name, self._watch, kind="queue")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class _WatchedSender:
    def __init__(self, target: WebhookSender, watch: _Watch) -> None:
        self._target = target
        self._watch = watch

    async def send(self, request: Any) -> Any:
        self._watch.at(f"{BEFORE} sender.send")
        response = await self._target.send(request)
        self._watch.at(f"{AFTER} sender.send")
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class _WatchedConnectors:
    def __init__(self, target: Connectors, watch: _Watch) -> None:
        self._target = target
        self._watch = watch

    def __getitem__(self, name: str) -> Any:
        return _WatchedConnector(self._target[name], "connector", self._watch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class _WatchedConnector(_Watched):
    def source(self, *arguments: Any, **named: Any) -> Any:
        return _WatchedSource(self._target.source(*arguments, **named), self._watch)


class _WatchedSource:
    """Each page is a call out of its own."""

    def __init__(self, target: Source, watch: _Watch) -> None:
        self._target = target
        self._watch = watch

    def pages(self, *arguments: Any) -> Iterator[Any]:
        return self._each("source.pages", self._target.pages(*arguments))

    def named(self, *arguments: Any) -> Iterator[Any]:
        return self._each("source.named", self._target.named(*arguments))

    def _each(self, call: str, pages: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._watch.at(f"{BEFORE} {call}")
            try:
                page = next(pages)
            except StopIteration:
                return
            self._watch.at(f"{AFTER} {call}")
            yield page


_WATCHED: Final[Mapping[Any, Callable[[Any, _Watch], Any]]] = {
    Queues: _WatchedQueues,
    WebhookSender: _WatchedSender,
    Connectors: _WatchedConnectors,
    Blobs: lambda target, watch: _Watched(target, "blobs", watch),
    TenantDatabases: lambda target, watch: _Watched(target, "tenants", watch),
}


def _resolved(port: Any, adapter: Any, watch: _Watch) -> Any:
    wrap = _WATCHED.get(port)
    return adapter if wrap is None else wrap(adapter, watch)
