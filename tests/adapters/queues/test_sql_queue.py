import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import field, frozen
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from ordersync_adapters.queues import postgres_statements, sqlite_statements
from ordersync_adapters.queues.sql import SqlQueue, SqlQueues, create_queue_tables
from ordersync_core.kernel.errors import InvalidInput, TemporaryFailure
from ordersync_core.messaging.envelope import EVENTS, WEBHOOKS
from ordersync_core.messaging.queue import LOCK, Claim, Depth
from ordersync_core.testing.queue_contract import QueueContract, QueueStore, a_message, send_ids, some_messages
from tests.postgres import PostgresServer

BACK_ON_SQLITE = ":microseconds"
BACK_ON_POSTGRES = ":microseconds * interval '1 microsecond'"


@frozen
class SqlStore:
    """`back` is a duration in microseconds, in the words of the database."""

    url: str
    back: str
    opened: list[SqlQueues] = field(factory=list)

    def open(self) -> SqlQueues:
        self.opened.append(SqlQueues(self.url))
        return self.opened[-1]

    def let_time_pass(self, duration: timedelta) -> None:
        shift = {"microseconds": duration // timedelta(microseconds=1)}
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            for table, column in (("queue_messages", "locked_until"), ("queue_dead_letters", "dead_at")):
                connection.execute(text(f"UPDATE {table} SET {column} = {column} - {self.back}"), shift)


@contextmanager
def sql_store(url: str, back: str) -> Iterator[SqlStore]:
    create_queue_tables(url)
    store = SqlStore(url, back)
    yield store
    for queues in store.opened:
        queues.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqlStore]:
    with sql_store(f"sqlite:///{tmp_path}/queues.db", BACK_ON_SQLITE) as store:
        yield store


@pytest.fixture
def postgres_store(postgres_database: str) -> Iterator[SqlStore]:
    with sql_store(postgres_database, BACK_ON_POSTGRES) as store:
        yield store


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> SqlStore:
    store: SqlStore = request.getfixturevalue(f"{request.param}_store")
    return store


class TestSqliteQueue(QueueContract):
    @pytest.fixture
    def store(self, sqlite_store: SqlStore) -> QueueStore:
        return sqlite_store


class TestPostgresQueue(QueueContract):
    @pytest.fixture
    def store(self, postgres_store: SqlStore) -> QueueStore:
        return postgres_store


def test_locks_run_out_by_the_databases_clock(either: SqlStore) -> None:
    queue = either.open()[EVENTS]
    queue.send(some_messages(2))
    short, long = queue.claim(limit=1, lock=timedelta(milliseconds=50)), queue.claim(limit=1)

    while not (back := queue.claim()):
        time.sleep(0.01)

    assert send_ids(back) == send_ids(short)
    assert (back[0].deliveries, back[0].deaths) == (2, 1)
    assert queue.complete([*short, *long]) == short


def test_a_renewal_lasts_as_long_as_it_says(either: SqlStore) -> None:
    queue = either.open()[EVENTS]
    queue.send([a_message()])
    (claim,) = queue.renew(queue.claim(), lock=timedelta(minutes=5))
    either.let_time_pass(timedelta(minutes=4))

    assert queue.complete([claim]) == []


def test_a_message_that_died_once_and_was_abandoned_comes_without_fresh_ones_again(either: SqlStore) -> None:
    queue = either.open()[EVENTS]
    queue.send([a_message("suspect")])
    queue.claim(lock=timedelta(0))
    queue.abandon(queue.claim())
    queue.send(some_messages(2))

    assert queue.depth() == Depth(ready=3, locked=0, dead=0)
    (suspect,) = queue.claim()
    assert (suspect.message.send_id, suspect.deliveries, suspect.deaths) == ("suspect", 3, 1)
    assert send_ids(queue.claim()) == ["0:1", "1:1"]


def test_many_threads_share_one_object(either: SqlStore) -> None:
    queues = either.open()

    def send_and_claim(number: int) -> list[Claim]:
        queues[EVENTS].send([a_message(f"{number}:1")])
        claims = queues[EVENTS].claim(limit=1)
        queues[EVENTS].complete(claims)
        return claims

    with ThreadPoolExecutor(8) as pool:
        claimed = [send_id for claims in pool.map(send_and_claim, range(100)) for send_id in send_ids(claims)]

    left = send_ids(queues[EVENTS].claim())
    assert sorted([*claimed, *left]) == sorted(f"{number}:1" for number in range(100))


def test_the_tables_may_be_made_by_several_at_once_and_again(tmp_path: Path, postgres_database: str) -> None:
    for url in (f"sqlite:///{tmp_path}/fresh.db", postgres_database):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create_queue_tables, [url] * 8))
        queues = SqlQueues(url)
        queues[EVENTS].send([a_message()])

        create_queue_tables(url)

        assert len(queues[EVENTS].claim()) == 1
        queues.close()


def test_what_was_sent_outlives_the_sender(either: SqlStore) -> None:
    script = """
import sys
from ordersync_adapters.queues.sql import SqlQueues
from ordersync_core.messaging.queue import Message

queues = SqlQueues(sys.argv[1])
queues["events"].send([Message(send_id="sent", body=b"before the end")])
print("sent", flush=True)
sys.stdin.read()
"""
    sender = subprocess.Popen(
        [sys.executable, "-c", script, either.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "sent\n"
        sender.kill()

    assert [claim.message.body for claim in either.open()[EVENTS].claim()] == [b"before the end"]


def test_a_place_among_the_dead_letters_that_was_never_given_out_is_refused(either: SqlStore) -> None:
    with pytest.raises(InvalidInput, match="not the id of a dead letter"):
        either.open()[EVENTS].dead_letters(after="no such id")


A_CLAIM = Claim(
    message=a_message(), token="1:1", deliveries=1, deaths=0, locked_until=datetime(2026, 3, 2, 12, tzinfo=UTC)
)
OPERATIONS: list[Callable[[SqlQueue], object]] = [
    lambda queue: queue.send([a_message()]),
    lambda queue: queue.claim(),
    lambda queue: queue.renew([A_CLAIM]),
    lambda queue: queue.complete([A_CLAIM]),
    lambda queue: queue.abandon([A_CLAIM]),
    lambda queue: queue.dead_letter(A_CLAIM, reason="Unknown", description="nobody knows this type"),
    lambda queue: queue.dead_letters(),
    lambda queue: queue.find_dead_letter("1"),
    lambda queue: queue.remove_dead_letter("1"),
    lambda queue: queue.purge_dead_letters(before=A_CLAIM.locked_until, limit=1),
    lambda queue: queue.depth(),
]


@pytest.mark.parametrize("url", ["sqlite:////no-such-folder/queues.db", "postgresql://postgres@127.0.0.1:1/queues"])
def test_an_unreachable_database_is_a_temporary_failure_of_one_line(url: str) -> None:
    queues = SqlQueues(url)

    for operation in OPERATIONS:
        with pytest.raises(TemporaryFailure) as failure:
            operation(queues[EVENTS])
        assert "\n" not in str(failure.value)
    # a wait says nothing: it ends, and the claim after it tells
    queues[EVENTS].wait(timedelta(milliseconds=10))
    queues[EVENTS].wait(timedelta(milliseconds=10))
    queues.close()


def test_tables_that_cannot_be_made_are_a_temporary_failure_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for url in (f"sqlite:///{tmp_path}/file/queues.db", "postgresql://postgres@127.0.0.1:1/queues"):
        with pytest.raises(TemporaryFailure) as failure:
            create_queue_tables(url)
        assert "\n" not in str(failure.value)


def test_a_busy_sqlite_file_is_a_temporary_failure(sqlite_store: SqlStore) -> None:
    queue = sqlite_store.open()[EVENTS]
    queue._writing.pool.dispose()
    with create_engine(sqlite_store.url, poolclass=NullPool).connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        with queue._writing.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 10")
        with pytest.raises(TemporaryFailure, match="busy"):
            queue.send([a_message()])


def test_queues_outlive_a_restart_of_postgres() -> None:
    with PostgresServer() as server, sql_store(server.url(), BACK_ON_POSTGRES) as store:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        (held,) = queue.claim(limit=1)
        queue.wait(timedelta(seconds=1))

        server.kill()
        with pytest.raises(TemporaryFailure):
            queue.send([a_message("while it was down")])
        server.restart()

        assert queue.complete([held]) == []
        assert send_ids(queue.claim()) == ["1:1", "2:1"]
        sender = store.open()[EVENTS]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(claim_patiently, queue)
            sender.send([a_message("after the restart")])
            assert send_ids(waiting.result(timeout=60)) == ["after the restart"]


def claim_patiently(queue: SqlQueue) -> list[Claim]:
    while not (claims := queue.claim()):
        queue.wait(timedelta(seconds=60))
    return claims


def test_on_postgres_a_wait_ends_for_a_send_to_its_own_queue_only(postgres_store: SqlStore) -> None:
    queues, other = postgres_store.open(), postgres_store.open()
    queue = queues[WEBHOOKS]
    queue.claim()
    while not queues._changes._listening:  # type: ignore[attr-defined]
        queue.wait(timedelta(milliseconds=10))
    before = queues._changes.seen(WEBHOOKS), queues._changes.seen(EVENTS)

    other[EVENTS].send([a_message()])
    while queues._changes.seen(EVENTS) == before[1]:
        queue.wait(timedelta(milliseconds=10))

    assert queues._changes.seen(WEBHOOKS) == before[0]


@pytest.mark.parametrize(("died", "index"), [(0, "ready"), (1, "locked"), (2, "locked")])
def test_on_postgres_a_claim_reads_no_more_than_it_takes(postgres_store: SqlStore, died: int, index: str) -> None:
    """Also when the planner last saw the table empty."""
    queues = postgres_store.open()
    queue = queues[EVENTS]
    queue.send([a_message()])
    queue.complete(queue.claim())
    with create_engine(postgres_store.url, poolclass=NullPool).begin() as connection:
        connection.execute(text("ANALYZE queue_messages"))
    for _ in range(10):
        queue.send(some_messages(500))
    for _ in range(died):
        while queue.claim(limit=1000):
            pass
        postgres_store.let_time_pass(LOCK)

    with queues._writing.connect() as connection:
        parameters = {"queue": EVENTS, "limit": 100, "suspects": 100, "lock": LOCK, "token": 1}
        lines = connection.exec_driver_sql(f"EXPLAIN ANALYZE {postgres_statements._CLAIM}", parameters).scalars().all()

    plan = "\n".join(lines)
    assert f"Index Scan using queue_messages_{index}" in plan
    assert "Sort" not in plan
    assert "Bitmap" not in plan
    assert "Seq Scan" not in plan


def test_on_sqlite_a_claim_looks_into_the_indices(sqlite_store: SqlStore) -> None:
    parameters = {"queue": EVENTS, "limit": 100, "suspects": 100, "now": 1, "until": 2, "token": 1}

    with sqlite_store.open()._writing.connect() as connection:
        plans = [
            [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement in sqlite_statements._CLAIMS
        ]

    for plan, index in zip(plans, ("locked", "locked", "ready"), strict=True):
        assert any(f"queue_messages_{index}" in detail for detail in plan)
        assert not any("SCAN queue_messages" in detail or "TEMP B-TREE" in detail for detail in plan)
