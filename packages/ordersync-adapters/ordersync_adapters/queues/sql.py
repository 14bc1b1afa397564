"""The queues in a SQLite file or in Postgres."""

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from sqlalchemy import ColumnElement, Connection, Engine, ScalarSelect, Select, Table, delete, event, func, select
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from ordersync_adapters.queues import postgres_statements, sqlite_statements
from ordersync_adapters.queues.sql_changes import Changes, PostgresChanges, SqliteChanges
from ordersync_adapters.queues.sql_rows import to_dead_letter, to_key, to_keys, to_text
from ordersync_adapters.queues.sql_statements import Statements
from ordersync_adapters.queues.sql_tables import dead_letters, messages, metadata
from ordersync_adapters.sql.engines import (
    create_sqlite_file,
    database_url,
    is_postgres,
    reading_engine,
    writing_engine,
)
from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.types import database_moment
from ordersync_core.kernel.errors import ChangedMeanwhile, InvalidInput, TemporaryFailure
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import CLAIM_LIMIT, LOCK, Claim, DeadLetter, Depth, Message

_KEEP = 4
_ADVISORY_LOCK = 0x6F72646572  # "order": one process at a time makes the tables


def create_queue_tables(url: str | URL) -> None:
    """Make what is not there yet; any number of processes may do so at once.

    Raises:
        TemporaryFailure: the database cannot be reached.
    """
    parsed = database_url(url)
    if not is_postgres(parsed):
        create_sqlite_file(Path(str(parsed.database)))
    with sql_errors(), writing_engine(parsed).begin() as connection:
        if is_postgres(parsed):
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        metadata.create_all(connection)


class SqlQueues:
    """All queues of one database; `create_queue_tables` has made its tables. Safe for use by many threads.

    Building it connects to nothing. `close()` ends its connections; it is of no use afterwards.
    """

    def __init__(self, url: str | URL) -> None:
        parsed = database_url(url)
        self._writing = writing_engine(parsed, keep=_KEEP)
        self._reading = reading_engine(parsed, keep=_KEEP)
        self._changes: Changes
        statements: Statements
        if is_postgres(parsed):
            event.listen(self._writing, "connect", _plan_by_index)
            # a statement is a transaction of its own: one round trip instead of three
            self._writing = self._writing.execution_options(isolation_level="AUTOCOMMIT")
            self._changes = PostgresChanges(self._writing)
            statements = postgres_statements
        else:
            self._changes = SqliteChanges(self._reading)
            statements = sqlite_statements
        self._queues = {
            name: SqlQueue(name, self._writing, self._reading, statements, self._changes) for name in QUEUES
        }

    def __getitem__(self, name: str) -> "SqlQueue":
        return self._queues[name]

    def close(self) -> None:
        self._changes.close()
        self._writing.dispose()
        self._reading.dispose()


class SqlQueue:
    """One queue. TemporaryFailure, with one line, wherever the database does not answer."""

    def __init__(self, name: str, writing: Engine, reading: Engine, statements: Statements, changes: Changes) -> None:
        self._name = name
        self._writing = writing
        self._reading = reading
        self._statements = statements
        self._changes = changes
        self._thread = threading.local()

    def send(self, messages: Sequence[Message]) -> None:
        if messages:
            with self._write() as connection:
                self._statements.send(connection, self._name, messages)
            self._changes.sent()

    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        # noted first: what is sent while this looks is a change for the wait that follows
        self._thread.seen = self._changes.seen(self._name)
        if limit < 1:
            return []
        with self._write() as connection:
            return self._statements.claim(connection, self._name, limit=limit, lock=lock, token=secrets.randbits(63))

    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        if not claims:
            return []
        with self._write() as connection:
            ends = self._statements.renew(connection, to_keys(claims), lock)
        return [evolve(claim, locked_until=ends[key]) for claim in claims if (key := to_key(claim)) in ends]

    def complete(self, claims: Sequence[Claim]) -> list[Claim]:
        if not claims:
            return []
        keys = to_keys(claims)
        with self._write() as connection:
            completed = self._statements.complete(connection, keys)
        return [] if len(completed) == len(keys) else [claim for claim in claims if to_key(claim) not in completed]

    def abandon(self, claims: Sequence[Claim]) -> None:
        if claims:
            with self._write() as connection:
                self._statements.abandon(connection, self._name, to_keys(claims))

    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        with self._write() as connection:
            return self._statements.dead_letter(
                connection, to_key(claim), reason=to_text(reason), description=to_text(description)
            )

    def dead_letters(self, *, limit: int = 50, after: str | None = None) -> list[DeadLetter]:
        """As the port says; InvalidInput when `after` cannot be the id of a dead letter."""
        letters = select(dead_letters).where(dead_letters.c.queue == self._name)
        if after is not None:
            if (number := _number(after)) is None:
                raise InvalidInput(f"{after!r} is not the id of a dead letter")
            letters = letters.where(dead_letters.c.id > number)
        with self._read() as connection:
            return [to_dead_letter(row) for row in connection.execute(letters.order_by(dead_letters.c.id).limit(limit))]

    def find_dead_letter(self, id: str) -> DeadLetter | None:
        if (number := _number(id)) is None:
            return None
        letter = select(dead_letters).where(dead_letters.c.queue == self._name, dead_letters.c.id == number)
        with self._read() as connection:
            row = connection.execute(letter).one_or_none()
        return None if row is None else to_dead_letter(row)

    def remove_dead_letter(self, id: str) -> bool:
        if (number := _number(id)) is None:
            return False
        letter = delete(dead_letters).where(dead_letters.c.queue == self._name, dead_letters.c.id == number)
        with self._write() as connection:
            return connection.execute(letter).rowcount == 1

    def purge_dead_letters(self, *, before: datetime, limit: int) -> int:
        oldest = (
            select(dead_letters.c.id)
            .where(dead_letters.c.queue == self._name, dead_letters.c.dead_at < before)
            .order_by(dead_letters.c.dead_at)
            .limit(limit)
        )
        with self._write() as connection:
            return connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(oldest))).rowcount

    def depth(self) -> Depth:
        with self._read() as connection:
            return Depth(**connection.execute(_depth(self._name)).one()._mapping)

    def wait(self, timeout: timedelta) -> None:
        """As the port says. A thread that has neither claimed nor waited yet returns at once."""
        self._thread.seen = self._changes.wait(self._name, getattr(self._thread, "seen", None), timeout)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with _errors(), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _errors(), self._reading.begin() as connection:
            yield connection


def _plan_by_index(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.autocommit = True
    connection.execute(postgres_statements.PLAN_BY_INDEX)
    connection.autocommit = False


@contextmanager
def _errors() -> Iterator[None]:
    """The port knows no conflict: a lock that was not given in time is one more reason to try later."""
    try:
        with sql_errors():
            yield
    except ChangedMeanwhile as error:
        raise TemporaryFailure(f"the queue is busy: {error}") from error


def _depth(queue: str) -> Select[int, int, int]:
    """Counted in the two indices of what is ready and what is locked."""

    def count(table: Table, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
        return select(func.count()).select_from(table).where(table.c.queue == queue, *conditions).scalar_subquery()

    locked_until = messages.c.locked_until
    ready = count(messages, locked_until.is_(None)) + count(messages, locked_until <= database_moment())
    return select(
        ready.label("ready"),
        count(messages, locked_until > database_moment()).label("locked"),
        count(dead_letters).label("dead"),
    )


def _number(id: str) -> int | None:
    """The number of the row; None for what this adapter never gave out."""
    return int(id) if id.isascii() and id.isdigit() and len(id) < 19 else None
