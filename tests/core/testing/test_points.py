"""Every call that writes, sends, settles or calls out is a point, by itself."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import ordersync_core
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.unit_of_work import AdminUnitOfWork, Queries, Transaction, UnitOfWork
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.handlers import relay
from ordersync_core.messaging.queue import Queues
from ordersync_core.testing.contracts.databases import context
from ordersync_core.testing.contracts.examples import an_item
from ordersync_core.testing.points import READS, calls, points, repositories, watched
from tests.core.embedded import Embedded

UNWATCHED = {
    "AdminQueries",
    "AdminUnitOfWork",
    "Clock",
    "Connectors",
    "Databases",
    "Heartbeat",
    "Ids",
    "ItemMapping",
    "KeysSeen",
    "Mappings",
    "Opens",
    "Queries",
    "Queues",
    "RunProgress",
    "Secrets",
    "TargetPolicy",
    "Transaction",
    "UnitOfWork",
}
"""Protocols without a point of their own: reads, pure values, what hands out something watched, what ends in calls of
other ports."""


def protocols() -> Iterator[type]:
    for found in pkgutil.walk_packages(ordersync_core.__path__, "ordersync_core."):
        if ".testing" in found.name or found.name.endswith("__main__"):
            continue
        module = import_module(found.name)
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == found.name and getattr(kind, "_is_protocol", False):
                yield kind


def is_slice(kind: type) -> bool:
    return any(base in kind.__mro__ for base in (UnitOfWork, AdminUnitOfWork)) and kind is not Transaction


def test_every_port_of_the_core_is_watched_or_said_not_to_be() -> None:
    in_slices = {repository for kind in protocols() if is_slice(kind) for repository in repositories(kind).values()}
    called = {call.partition(".")[2] for call in calls()}
    for kind in protocols():
        if kind.__name__ in UNWATCHED or kind in in_slices or is_slice(kind) or Queries in kind.__mro__:
            continue
        if kind.__name__.endswith("Queries"):
            continue
        methods = {name for name in vars(kind) if not name.startswith("_")}
        assert methods <= called, f"{kind.__name__} is a port of which nobody knows whether it writes"


def test_every_repository_of_every_unit_of_work_is_watched() -> None:
    for kind in protocols():
        if is_slice(kind):
            for name, repository in repositories(kind).items():
                methods = {f"{name}.{method}" for method in vars(repository) if not method.startswith("_")}
                assert methods <= calls()


def test_what_is_said_to_read_exists() -> None:
    assert calls() >= READS


def test_a_new_method_is_a_point_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from ordersync_core.messaging.queue import Queue

    def evaporate(self: Any) -> None: ...

    monkeypatch.setattr(Queue, "evaporate", evaporate, raising=False)
    calls.cache_clear()
    try:
        assert "before events.evaporate" in points()
    finally:
        calls.cache_clear()


def test_points_come_before_and_after_each_call_in_order() -> None:
    embedded, reached = Embedded(), list[str]()
    application = watched(embedded.application, reached.append)
    application.run(put_item, PutItem(item=an_item("A-1")), context("alpha"))
    assert reached == [
        *("before items.save", "after items.save"),
        *("before tell", "after tell"),
        *("before commit", "after commit"),
    ]


def test_points_of_a_queue_name_it() -> None:
    embedded, reached = Embedded(), list[str]()
    embedded.put("A-1")
    application = watched(embedded.application, reached.append)
    application.run(relay, Relay(), context("alpha"))
    assert "before events.send" in reached
    application.resolve(Queues)["webhooks"].claim()
    assert reached[-2:] == ["before webhooks.claim", "after webhooks.claim"]


class Gone(BaseException):
    pass


@pytest.mark.parametrize("point", ["before commit", "before items.save", "after tell"])
def test_who_dies_before_the_commit_leaves_nothing(point: str) -> None:
    embedded = Embedded()
    with pytest.raises(Gone):
        dying(embedded.application, point).run(put_item, PutItem(item=an_item("A-1")), context("alpha"))
    assert embedded.queries().count_items() == 0


def test_who_dies_after_the_commit_leaves_it() -> None:
    embedded = Embedded()
    with pytest.raises(Gone):
        dying(embedded.application, "after commit").run(put_item, PutItem(item=an_item("A-1")), context("alpha"))
    assert embedded.queries().count_items() == 1


def dying(application: Application, point: str) -> Application:
    def at(reached: str) -> None:
        if reached == point:
            raise Gone

    return watched(application, at)


def test_reads_are_told_apart() -> None:
    embedded, reached, read = Embedded(), list[str](), list[str]()
    application = watched(embedded.application, reached.append, reading=read.append)
    application.run(relay, Relay(), context("alpha"))
    assert "outbox.unnumbered" in read
    assert read[0] == "begin"
    assert not [point for point in reached if "unnumbered" in point]


def test_protocol_helper_sees_the_ports() -> None:
    names = {kind.__name__ for kind in protocols()}
    assert {"Queue", "ItemRepository", "WebhookSender", "Blobs"} <= names
