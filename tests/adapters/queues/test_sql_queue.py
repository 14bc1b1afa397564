from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import field, frozen
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from ordersync_adapters.queues.sql import SqlQueues, create_queue_tables
from ordersync_core.testing.queue_contract import QueueContract, QueueStore


@frozen
class SqlStore:
    """`back` shifts a column by so many microseconds, in the words of the database."""

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


class TestSqliteQueue(QueueContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[QueueStore]:
        with sql_store(f"sqlite:///{tmp_path}/queues.db", ":microseconds") as store:
            yield store


class TestPostgresQueue(QueueContract):
    @pytest.fixture
    def store(self, postgres_database: str) -> Iterator[QueueStore]:
        with sql_store(postgres_database, ":microseconds * interval '1 microsecond'") as store:
            yield store
