"""What only databases on a disk can get wrong."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds
from ordersync_core.items.model import Item, ItemCode, put
from ordersync_core.items.ports import ItemsUnitOfWork
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import ChangedMeanwhile, NotFound
from tests.adapters.sql.places import Place, postgres_place, sqlite_place

ACME = Context(administration="acme", triggered_by="somebody", correlation_id="c")
PLATFORM = Context(administration=None, triggered_by="somebody", correlation_id="c")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
THREADS = 40
TIMES = 5


class Wakes(list[str]):
    """The administrations that were told of."""

    def __call__(self, administration: str) -> None:
        self.append(administration)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def tenants(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlTenantDatabases]:
    def made(place: Place) -> Iterator[SqlTenantDatabases]:
        tenants = SqlTenantDatabases(place.tenants)
        tenants.create("acme")
        tenants.migrate("acme")
        tenants.initialise("acme", uuid4())
        yield tenants
        tenants.close()

    if request.param == "sqlite":
        yield from made(sqlite_place(tmp_path_factory.mktemp("unit_of_work")))
    else:
        with postgres_place(request.getfixturevalue("postgres"), "acme") as place:
            yield from made(place)


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
def databases(tenants: SqlTenantDatabases, tmp_path: Path, wakes: Wakes) -> SqlDatabases:
    admin = AdminDatabase(f"sqlite:///{tmp_path}/admin.db")
    return SqlDatabases(admin, tenants, clock=SystemClock(), ids=SystemIds(), on_commit=wakes)


def put_item(databases: SqlDatabases, code: str, **fields: Any) -> None:
    with databases.unit_of_work(ACME) as uow:
        change = put(uow.items.find(ItemCode(code)), Item(code=ItemCode(code), **fields), at=NOON)
        assert change is not None
        assert change.after is not None
        uow.items.save([change.after])
        uow.tell(change)
        uow.commit()


def count_up(command: ItemCode, *, uow: ItemsUnitOfWork) -> None:
    """A read-modify-write in one unit of work; the item is made by whoever comes first."""
    with uow:
        kept = uow.items.find(command) or Item(code=command, family_code="0")
        counted = evolve(kept, family_code=str(int(kept.family_code or 0) + 1))
        change = put(kept, counted, at=NOON)
        assert change is not None
        assert change.after is not None
        uow.items.save([change.after])
        uow.tell(change)
        uow.commit()


def test_no_update_is_lost(databases: SqlDatabases) -> None:
    application = Application(resolve=lambda port: None, databases=databases)
    code = ItemCode("lost update")
    put_item(databases, code, family_code="0")
    with databases.unit_of_work(ACME) as uow:
        told_before = len(uow.outbox.unnumbered(10_000))
    start = threading.Barrier(THREADS)

    def work(_: int) -> None:
        start.wait(30)
        for _ in range(TIMES):
            application.run(count_up, code, ACME)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))

    counted = databases.queries(ACME).item(code)
    assert counted is not None
    assert counted.family_code == str(THREADS * TIMES)
    with databases.unit_of_work(ACME) as uow:
        told = uow.outbox.unnumbered(10_000)[told_before:]
    before = [int(row.before["family_code"]) for row in told]
    assert before == list(range(THREADS * TIMES)), "the outbox follows the order of the changes"


def test_a_failed_transaction_keeps_nothing_whatever_is_done_about_the_error(databases: SqlDatabases) -> None:
    put_item(databases, "taken")
    with databases.unit_of_work(ACME) as uow:
        uow.items.find(ItemCode("half"))
        uow.items.save([Item(code=ItemCode("half"), updated_at=NOON)])
        with pytest.raises(DBAPIError, match="nowhere"):
            uow._connection.execute(text("SELECT nothing FROM nowhere"))
        with pytest.raises(ChangedMeanwhile):
            uow.commit()

    assert databases.queries(ACME).item(ItemCode("half")) is None


def test_a_unit_of_work_is_of_use_in_its_transaction_only(databases: SqlDatabases) -> None:
    uow = databases.unit_of_work(ACME)
    with pytest.raises(RuntimeError):
        uow.items.find(ItemCode("A"))
    with uow:
        with pytest.raises(RuntimeError), uow:
            pass
        uow.items.find(ItemCode("A"))
        uow.commit()
        with pytest.raises(RuntimeError):
            uow.items.find(ItemCode("A"))
    with uow:
        uow.items.find(ItemCode("A"))


def test_the_platform_has_no_tenant_database(databases: SqlDatabases) -> None:
    with pytest.raises(NotFound):
        databases.unit_of_work(PLATFORM)
    with pytest.raises(NotFound):
        databases.queries(PLATFORM)


def test_who_has_something_to_send_is_told_of(databases: SqlDatabases, wakes: Wakes) -> None:
    put_item(databases, "told of")
    assert wakes == ["acme"]

    with databases.unit_of_work(ACME) as uow:
        (row, *_) = uow.outbox.unnumbered(1)
        uow.outbox.owe_again([row.id], NOON)
        uow.commit()
    assert wakes == ["acme", "acme"]


def test_nobody_is_told_of_where_nothing_is_to_be_sent(databases: SqlDatabases, wakes: Wakes) -> None:
    with databases.unit_of_work(ACME) as uow:
        lease = uow.leases.take("flow:item", "me")
        uow.commit()
    assert lease is not None
    with databases.unit_of_work(ACME) as uow:
        uow.leases.hold(lease)
        uow.outbox.lock_numbering()
        uow.commit()
    with databases.unit_of_work(ACME) as uow:
        change = put(None, Item(code=ItemCode("undone")), at=NOON)
        assert change is not None
        uow.tell(change)
    assert wakes == []


def test_a_commit_stands_whatever_is_done_after_it(
    tenants: SqlTenantDatabases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(administration: str) -> None:
        raise OSError(f"nobody can wake {administration}")

    admin = AdminDatabase(f"sqlite:///{tmp_path}/admin.db")
    databases = SqlDatabases(admin, tenants, clock=SystemClock(), ids=SystemIds(), on_commit=fail)
    with caplog.at_level(logging.ERROR):
        put_item(databases, "stands")

    assert databases.queries(ACME).item(ItemCode("stands")) is not None
    assert "the commit stands" in caplog.text
