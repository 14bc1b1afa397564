"""Who learns of a wake-up, and how it is written, on both databases."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ordersync_adapters.sql.engines import writing_engine
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds
from ordersync_adapters.wake.notifier import CONTEXT, WakeNotifier
from ordersync_adapters.wake.watcher import watch
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import TemporaryFailure
from ordersync_core.messaging.commands import TakeDue, Wake
from ordersync_core.messaging.handlers import take_due, wake

SOON = datetime(2020, 1, 1, tzinfo=UTC)
LONG = timedelta(seconds=10)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_database"))
    return f"sqlite:///{tmp_path}/admin.db"


@pytest.fixture
def application(url: str) -> Iterator[Application]:
    admin = AdminDatabase(url)
    admin.create()
    admin.migrate()
    clock = SystemClock()
    tenants = SqlTenantDatabases("sqlite:////nowhere/{code}.db")
    databases = SqlDatabases(admin, tenants, clock=clock, ids=SystemIds())
    yield Application(resolve=lambda port: {Clock: clock}[port], databases=databases)
    databases.close()


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_watcher_returns_when_somebody_is_woken(url: str, application: Application) -> None:
    watcher = watch(url)
    try:
        assert watcher.wait(LONG)  # it has missed whatever came before it listened
        assert not watcher.wait(timedelta(seconds=0.1))
        later = threading.Timer(0.1, lambda: application.run(wake, Wake(administration="demo", at=SOON), CONTEXT))
        later.start()
        assert watcher.wait(LONG)
        later.join()
        assert not watcher.wait(timedelta(seconds=0.1))
    finally:
        watcher.close()


def test_a_watcher_that_had_to_connect_anew_may_have_missed_something(url: str, application: Application) -> None:
    watcher = watch(url)
    try:
        assert watcher.wait(LONG)
        watcher.close()
        application.run(wake, Wake(administration="demo", at=SOON), CONTEXT)
        assert watcher.wait(LONG)
        assert not watcher.wait(timedelta(seconds=0.1))
    finally:
        watcher.close()


def test_a_watcher_of_a_database_that_is_away_raises_nothing(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/none.db", "postgresql://nobody@127.0.0.1:1/none"):
        watcher = watch(url)
        assert not watcher.wait(timedelta(seconds=0.05))
        watcher.close()


def test_what_is_noted_is_written_beside_the_work_once_for_each_administration(application: Application) -> None:
    notifier = WakeNotifier(SystemClock())
    for code in ("b", "a", "b", "b"):
        notifier.notify(code)
    notifier.start(application)
    taken: list[str] = []

    def all_taken() -> bool:
        taken.extend(application.run(take_due, TakeDue(), CONTEXT))
        return len(taken) == 2

    assert eventually(all_taken)
    assert sorted(taken) == ["a", "b"]
    notifier.close()
    assert application.run(take_due, TakeDue(), CONTEXT) == []


def test_what_is_noted_last_is_written_before_it_ends(application: Application) -> None:
    notifier = WakeNotifier(SystemClock())
    notifier.start(application)
    notifier.notify("demo")
    notifier.close()

    assert application.run(take_due, TakeDue(), CONTEXT) == ["demo"]


def test_hints_outlast_a_trouble_that_nobody_foresaw_and_one_line_tells(
    url: str, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with writing_engine(url).begin() as connection:
        connection.exec_driver_sql("ALTER TABLE wake RENAME TO elsewhere")
    notifier = WakeNotifier(SystemClock())
    notifier.start(application)
    notifier.notify("a")
    assert eventually(lambda: bool(caplog.records))

    notifier.notify("b")
    with writing_engine(url).begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO wake")
    taken: list[str] = []

    def both_taken() -> bool:
        taken.extend(application.run(take_due, TakeDue(), CONTEXT))
        return len(taken) == 2

    assert eventually(both_taken)
    assert sorted(taken) == ["a", "b"]
    assert [record.message.split(":")[0] for record in caplog.records] == ["nobody can be woken for now"]
    notifier.close()


class Failing:
    """Databases whose admin database does not answer for the first times."""

    def __init__(self, databases: SqlDatabases, failures: int) -> None:
        self._databases = databases
        self.failures = failures

    def admin_unit_of_work(self, context: object) -> object:
        if self.failures:
            self.failures -= 1
            raise TemporaryFailure("away")
        return self._databases.admin_unit_of_work(CONTEXT)


def test_a_hint_waits_while_the_admin_database_is_away_and_nobody_else_does(application: Application) -> None:
    databases = Failing(application.databases, failures=1)  # type: ignore[arg-type]
    notifier = WakeNotifier(SystemClock())
    notifier.start(Application(resolve=application.resolve, databases=databases))  # type: ignore[arg-type]
    notifier.notify("demo")

    assert eventually(lambda: application.run(take_due, TakeDue(), CONTEXT) == ["demo"])
    notifier.close()
