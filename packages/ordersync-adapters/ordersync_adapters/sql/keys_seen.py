"""The keys that one complete read has brought: in a temporary table, so that memory stays flat and nothing is left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from attrs import frozen
from sqlalchemy import Connection

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.tables.raw import raw_records
from ordersync_adapters.sql.types import POSTGRES, to_json
from ordersync_core.flows.ports import KeysSeen

_MISSING = """
    SELECT key FROM {records} AS record
    WHERE connection_id = {connection_id} AND entity = {entity} AND {missing} {further}
    ORDER BY key LIMIT {limit}
"""
_UNSEEN = "NOT EXISTS (SELECT 1 FROM keys_seen WHERE keys_seen.key = record.key)"
_NAMES = ("connection_id", "entity", "after", "limit")


@contextmanager
def sql_keys_seen(connection: Connection, connector: str, connection_id: UUID, entity: str) -> Iterator[KeysSeen]:
    """`connection` is held for the block, but each statement is a transaction of its own: a read may last for hours,
    and an open snapshot would slow down everyone else."""
    records = raw_records(connector, connection.dialect.name).fullname
    parameters = {"connection_id": str(connection_id), "entity": entity}
    if connection.dialect.name == POSTGRES:
        connection.execution_options(isolation_level="AUTOCOMMIT")
    # Beneath SQLAlchemy, which begins a transaction with the first statement.
    driver: Any = connection.connection.driver_connection
    with sql_errors():
        opened = _on_postgres(driver) if connection.dialect.name == POSTGRES else _on_sqlite(driver)
        with opened as dialect:
            yield _SqlKeysSeen(driver, dialect, records, parameters)


@frozen(kw_only=True)
class _Dialect:
    """How the database wants it said.

    add: keeps the keys, of which some may be there already.
    missing: whether a record is neither dropped nor seen.
    """

    add: Callable[[Sequence[str]], None]
    missing: str
    mark: str


@contextmanager
def _on_postgres(driver: Any) -> Iterator[_Dialect]:
    # what guards a reading connection guards its temporary tables too
    (read_only,) = driver.execute("SHOW default_transaction_read_only").fetchone()
    driver.execute("SET default_transaction_read_only = off")
    driver.execute("DROP TABLE IF EXISTS pg_temp.keys_seen")
    driver.execute('CREATE TEMPORARY TABLE keys_seen (key text COLLATE "C")')

    def add(keys: Sequence[str]) -> None:
        with driver.cursor() as cursor, cursor.copy("COPY keys_seen FROM STDIN") as copy:
            copy.write("".join([bulk.copy_line((key,)) for key in keys]))

    try:
        yield _Dialect(
            add=add,
            missing=f"NOT dropped AND {_UNSEEN}",
            mark="%({})s",
        )
    finally:
        driver.execute("DROP TABLE IF EXISTS pg_temp.keys_seen")
        driver.execute(f"SET default_transaction_read_only = {read_only}")


@contextmanager
def _on_sqlite(driver: Any) -> Iterator[_Dialect]:
    # query_only guards the temporary file too
    (query_only,) = driver.execute("PRAGMA query_only").fetchone()
    driver.execute("PRAGMA query_only = OFF")
    driver.execute("PRAGMA temp_store = FILE")
    driver.execute("CREATE TEMPORARY TABLE keys_seen (key TEXT)")

    def add(keys: Sequence[str]) -> None:
        driver.execute("INSERT INTO keys_seen SELECT value FROM json_each(?)", (to_json(list(keys)),))

    try:
        yield _Dialect(
            add=add,
            # nearly all were seen: of these only the key is looked at, which an index has
            missing=f"CASE WHEN {_UNSEEN} THEN dropped = 0 END",
            mark=":{}",
        )
    finally:
        driver.execute("DROP TABLE IF EXISTS temp.keys_seen")
        driver.execute(f"PRAGMA query_only = {query_only}")


class _SqlKeysSeen:
    def __init__(self, driver: Any, dialect: _Dialect, records: str, parameters: Mapping[str, str]) -> None:
        self._driver = driver
        self._dialect = dialect
        self._records = records
        self._parameters = parameters

    def add(self, keys: Sequence[str]) -> None:
        with sql_errors():
            self._dialect.add(keys)

    def missing(self, limit: int) -> Iterator[list[str]]:
        with sql_errors():
            # an index that is made at the end costs a third of one that grows with each key
            self._driver.execute("CREATE INDEX IF NOT EXISTS ix_keys_seen ON keys_seen (key)")
            self._driver.execute("ANALYZE keys_seen")
        page = self._page(limit)
        while page:
            yield page
            page = self._page(limit, after=page[-1])

    def _page(self, limit: int, *, after: str | None = None) -> list[str]:
        marks = {name: self._dialect.mark.format(name) for name in _NAMES}
        further = "" if after is None else f"AND key > {marks['after']}"
        statement = _MISSING.format(records=self._records, missing=self._dialect.missing, further=further, **marks)
        parameters = {**self._parameters, "limit": limit} | ({} if after is None else {"after": after})
        with sql_errors():
            return [key for (key,) in self._driver.execute(statement, parameters).fetchall()]
