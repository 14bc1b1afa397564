"""One database in memory and its transactions: read committed, as Postgres does it."""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

import orjson
from attrs import frozen

from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.testing.memory.locks import Locks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_GONE: Final = object()
_WRITER: Final = "the one writer"


@frozen
class Table(Generic[K, V]):
    """Rows by key. A further unique key is a table of its own, from that key to the row's."""

    name: str


class Reader(Protocol):
    """What reads need: a transaction, or the database as it is committed."""

    def row(self, table: Table[K, V], key: K) -> V | None: ...

    def rows(self, table: Table[K, V]) -> dict[K, V]: ...


Observe = Callable[["MemoryDatabase", Mapping[str, Mapping[Any, Any]]], None]
"""Told what a commit writes, by table and key, None for what it removes; the rows of before still stand."""


class MemoryDatabase:
    """The committed rows.

    one_writer: whether a transaction excludes every other one from its beginning, as on SQLite.
    observe: told of each commit; None: nobody is.
    """

    def __init__(self, name: str, locks: Locks, *, one_writer: bool, observe: Observe | None = None) -> None:
        self.name = name
        self.locks = locks
        self.one_writer = one_writer
        self._observe = observe
        self._tables: dict[str, dict[Any, Any]] = defaultdict(dict)
        self._order = itertools.count(1)
        self._mutex = threading.RLock()

    def row(self, table: Table[K, V], key: K) -> V | None:
        with self._mutex:
            found: V | None = self._tables[table.name].get(key)
            return found

    def rows(self, table: Table[K, V]) -> dict[K, V]:
        with self._mutex:
            return dict(self._tables[table.name])

    def tables(self) -> set[str]:
        """The names of those that hold rows, or held some."""
        with self._mutex:
            return set(self._tables)

    def moment(self) -> AbstractContextManager[Any]:
        """What is read inside belongs together: nobody commits meanwhile."""
        return self._mutex

    def next_order(self) -> int:
        """Rises with each call; a number that was taken is gone, committed or not."""
        return next(self._order)

    def apply(self, written: Mapping[str, Mapping[Any, Any]]) -> None:
        with self._mutex:
            if self._observe is not None:
                self._observe(self, {name: _without_marks(rows) for name, rows in written.items() if rows})
            for name, rows in written.items():
                for key, value in rows.items():
                    if value is _GONE:
                        self._tables[name].pop(key, None)
                    else:
                        self._tables[name][key] = value


class Transaction:
    """Sees what is committed at the moment of each read, and its own writes; locks rows until it ends.

    After a failure it can only be left: nothing of it is kept, whatever its user does about the error.
    """

    def __init__(self, database: MemoryDatabase, context: Context) -> None:
        self.database = database
        self.context = context
        self._written: dict[str, dict[Any, Any]] = defaultdict(dict)
        self._absent: set[tuple[str, Hashable]] = set()
        self._failed = False
        self._ended = False
        if database.one_writer:
            self._begin_alone()

    def _begin_alone(self) -> None:
        try:
            self._acquire(_WRITER)
        except BaseException:  # it may have been given while its thread was told to end
            self.end()
            raise

    def row(self, table: Table[K, V], key: K) -> V | None:
        """Without a lock."""
        self._check()
        own = self._written[table.name].get(key)
        if own is _GONE:
            return None
        return self.database.row(table, key) if own is None else own

    def rows(self, table: Table[K, V]) -> dict[K, V]:
        """Without locks."""
        self._check()
        merged = self.database.rows(table) | self._written[table.name]
        return {key: value for key, value in merged.items() if value is not _GONE}

    def tables(self) -> list[str]:
        """The names of those that hold rows, or held some."""
        return sorted(self.database.tables() | set(self._written))

    def find(self, table: Table[K, V], key: K) -> V | None:
        """The row, locked. One that is not there, or that others have not committed, cannot be locked."""
        found = self.row(table, key)
        if found is not None:
            self.lock(table, key)
            found = self.row(table, key)
        if found is not None:
            self._absent.discard((table.name, key))
        elif key not in self._written[table.name]:
            self._absent.add((table.name, key))
        return found

    def get(self, table: Table[K, V], keys: Iterable[K]) -> dict[K, V]:
        """Those that exist, locked in the order given."""
        return {key: found for key in keys if (found := self.find(table, key)) is not None}

    def select(self, table: Table[K, V], where: Callable[[V], bool], *, order: Callable[[V], Any]) -> list[V]:
        """The rows of which `where` holds, locked in that order; asked once more when the lock was waited for."""
        chosen = sorted(((order(row), key) for key, row in self.rows(table).items() if where(row)), key=lambda c: c[0])
        return [row for row in self.get(table, [key for _, key in chosen]).values() if where(row)]

    def lock(self, table: Table[K, V], key: K) -> None:
        """Also a row that is not there: whoever is about to enter it has it."""
        self._check()
        self._acquire((table.name, key))

    def try_lock(self, table: Table[K, V], key: K) -> bool:
        self._check()
        return self.database.locks.try_acquire(self, (self.database.name, (table.name, key)))

    def insert(self, table: Table[K, V], key: K, value: V) -> None:
        """ChangedMeanwhile when the key is taken, after a wait for whoever is about to take it."""
        if not self.insert_absent(table, key, value):
            self.fail(ChangedMeanwhile(f"{table.name}: {key} exists already"))

    def insert_absent(self, table: Table[K, V], key: K, value: V) -> bool:
        """False when the key is taken, after a wait for whoever is about to take it."""
        self.lock(table, key)
        if self.row(table, key) is not None:
            return False
        self._written[table.name][key] = value
        return True

    def save(self, table: Table[K, V], key: K, value: V) -> None:
        """Add or replace; ChangedMeanwhile when `find` saw no such row and a twin has added it since."""
        self.lock(table, key)
        if (table.name, key) in self._absent and self.database.row(table, key) is not None:
            self.fail(ChangedMeanwhile(f"{table.name}: {key} was added meanwhile"))
        self._written[table.name][key] = value

    def update(self, table: Table[K, V], key: K, change: Callable[[V], V | None]) -> bool:
        """Replace the row by what `change` makes of it; False when there is none, or `change` leaves it alone."""
        found = self.find(table, key)
        changed = None if found is None else change(found)
        if changed is None:
            return False
        self._written[table.name][key] = changed
        return True

    def replace(self, table: Table[K, V], key: K, value: V) -> bool:
        """False when there is no such row."""
        return self.update(table, key, lambda _: value)

    def delete(self, table: Table[K, V], key: K) -> bool:
        if self.find(table, key) is None:
            return False
        self._written[table.name][key] = _GONE
        return True

    def written(self, table: Table[K, V]) -> list[V]:
        """Rows that were added or changed, as they stand now."""
        return [row for row in self._written[table.name].values() if row is not _GONE]

    def fail(self, error: Exception) -> NoReturn:
        self._failed = True
        raise error

    def commit(self) -> None:
        self._check()
        self.database.locks.pause(self)
        self.database.apply(self._written)
        self.end()

    def end(self) -> None:
        """What was not committed never was."""
        self._ended = True
        self.database.locks.release_all(self)

    def _acquire(self, key: Hashable) -> None:
        try:
            self.database.locks.acquire(self, (self.database.name, key))
        except ChangedMeanwhile:
            self._failed = True
            raise

    def _check(self) -> None:
        if self._ended:
            raise RuntimeError("the unit of work has ended: open another one")
        if self._failed:
            raise ChangedMeanwhile("the transaction has failed before: nothing of it can be kept")


def _without_marks(rows: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: None if value is _GONE else value for key, value in rows.items()}


def json_copy(value: Any) -> Any:
    """What a database hands back of JSON; TypeError for what is none."""
    return orjson.loads(orjson.dumps(value))
