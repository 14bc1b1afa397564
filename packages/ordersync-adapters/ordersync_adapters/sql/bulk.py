"""Statements over many rows: set-based on both databases, never one query a row.

Rows are mappings from column name to value, all with the same names. On Postgres they travel by COPY, into the table
itself or into a temporary one that a single statement then reads; on SQLite by the driver's executemany. Of what is
there already, only the columns that the rows name are written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

from psycopg import Binary
from sqlalchemy import Boolean, Column, Connection, Dialect, String, Table, Text, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.transactions import mark_failed
from ordersync_adapters.sql.types import POSTGRES, to_json

Row = Mapping[str, Any]

Stored = tuple[Any, ...]
"""A row's values as the driver takes them, in the order of the columns that are named beside it."""

FEW = 50
"""Up to so many rows, Postgres gets them as parameters of one pipelined executemany: a temporary table costs more."""

_numbers = count(1)


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Add new rows, in their order; a key that is taken is an error."""
    if rows:
        insert_stored(connection, table, tuple(rows[0]), _stored(connection, _named(table, rows), rows))


def insert_stored(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Stored]) -> None:
    """`insert` of rows that are in their stored form already."""
    if not rows:
        return
    if _is_postgres(connection) and len(rows) > FEW:
        _copy(connection, f"{_table(connection, table)} ({_names(connection, names)})", rows)
    else:
        connection.exec_driver_sql(_insert_statement(connection, table, names), list(rows))


def insert_missing(connection: Connection, table: Table, rows: Sequence[Row], *, key: Sequence[str]) -> None:
    """Add the rows whose key is not there yet; the others change nothing."""
    if rows:
        insert_missing_stored(
            connection, table, tuple(rows[0]), _stored(connection, _named(table, rows), rows), key=key
        )


def insert_missing_stored(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Stored], *, key: Sequence[str]
) -> None:
    """`insert_missing` of rows that are in their stored form already."""
    if rows:
        _insert_or(connection, table, names, rows, f"ON CONFLICT ({_key(connection, key)}) DO NOTHING")


def upsert(connection: Connection, table: Table, rows: Sequence[Row], *, key: Sequence[str]) -> None:
    """Add the rows, or write them over those with the same key. No key may come twice."""
    if rows:
        upsert_stored(connection, table, tuple(rows[0]), _stored(connection, _named(table, rows), rows), key=key)


def upsert_stored(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Stored], *, key: Sequence[str]
) -> None:
    """`upsert` of rows that are in their stored form already."""
    if not rows:
        return
    quoted = [_quoted(connection, name) for name in names if name not in key]
    assigned = ", ".join(f"{name} = excluded.{name}" for name in quoted)
    action = f"UPDATE SET {assigned}" if quoted else "NOTHING"
    _insert_or(connection, table, names, rows, f"ON CONFLICT ({_key(connection, key)}) DO {action}")


def update(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    by: Sequence[str] = ("id",),
    unless_changed: Mapping[str, str] | None = None,
) -> None:
    """Write over the rows with the same key; a row that is not there is passed over.

    by: the columns of the key.
    unless_changed: for columns that must still hold what they held, the names under which the rows tell it.
    """
    if not rows:
        return
    conditions = {name: name for name in by} | dict(unless_changed or {})
    assigned = [name for name in rows[0] if name not in conditions.values()]
    columns = {name: table.c[name] for name in assigned} | {
        name: table.c[column] for column, name in conditions.items()
    }
    _update(connection, table, assigned, conditions, _stored(connection, columns, rows))


def update_stored(
    connection: Connection, table: Table, assigned: Sequence[str], rows: Sequence[Stored], *, by: Sequence[str]
) -> None:
    """`update` of rows that are in their stored form already: first the values of `assigned`, then those of `by`."""
    if rows:
        _update(connection, table, assigned, {name: name for name in by}, rows)


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """The dialect's own INSERT, which knows ON CONFLICT: for the few rows of a statement that is not in bulk."""
    return postgresql.insert(table) if _is_postgres(connection) else sqlite.insert(table)


class _Many(TypeDecorator[Sequence[Any]]):
    """Any number of values in one parameter: an array on Postgres, a JSON array on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        self.item = item
        super().__init__()

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != POSTGRES:
            return dialect.type_descriptor(Text())
        item = self.item.dialect_impl(dialect)
        return dialect.type_descriptor(postgresql.ARRAY(Text() if isinstance(item, String) else item))

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == POSTGRES:
            return value
        stored = _converter(self.item, dialect)
        return to_json(list(value) if stored is None else [stored(entry) for entry in value])


class among(FunctionElement[bool]):  # noqa: N801 - reads as the SQL operator it stands for
    """Whether the column is one of the values, of which there may be any number: they are one parameter."""

    inherit_cache = True
    type = Boolean()
    # else SQLite gets `... IN (...) = 1`, which no index answers
    _is_implicitly_boolean = True

    def __init__(self, column: Column[Any], values: Iterable[Any]) -> None:
        super().__init__(column, literal(list(values), _Many(column.type)))


@compiles(among, POSTGRES)
def _among_on_postgres(element: among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(among, "sqlite")
def _among_on_sqlite(element: among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


def _update(
    connection: Connection,
    table: Table,
    assigned: Sequence[str],
    conditions: Mapping[str, str],
    rows: Sequence[Stored],
) -> None:
    """conditions: by column, under which name the rows tell what it must hold."""
    target = _table(connection, table)
    if _is_postgres(connection) and len(rows) > FEW:
        held = {name: name for name in assigned} | {name: column for column, name in conditions.items()}
        incoming = _copy_aside(connection, table, held, rows)
        connection.exec_driver_sql(
            f"UPDATE {target} SET "
            + ", ".join(f"{q} = {incoming}.{q}" for q in (_quoted(connection, name) for name in assigned))
            + f" FROM {incoming} WHERE "
            + " AND ".join(
                f"{target}.{_quoted(connection, column)} = {incoming}.{_quoted(connection, name)}"
                for column, name in conditions.items()
            )
        )
        return
    mark = _mark(connection)
    connection.exec_driver_sql(
        f"UPDATE {target} SET "
        + ", ".join(f"{_quoted(connection, name)} = {mark}" for name in assigned)
        + " WHERE "
        + " AND ".join(f"{_quoted(connection, column)} = {mark}" for column in conditions),
        list(rows),
    )


def _insert_or(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Stored], on_conflict: str
) -> None:
    if _is_postgres(connection) and len(rows) > FEW:
        incoming = _copy_aside(connection, table, {name: name for name in names}, rows)
        quoted, target = _names(connection, names), _table(connection, table)
        connection.exec_driver_sql(f"INSERT INTO {target} ({quoted}) SELECT {quoted} FROM {incoming} {on_conflict}")
    else:
        connection.exec_driver_sql(f"{_insert_statement(connection, table, names)} {on_conflict}", list(rows))


def _insert_statement(connection: Connection, table: Table, names: Sequence[str]) -> str:
    marks = ", ".join([_mark(connection)] * len(names))
    return f"INSERT INTO {_table(connection, table)} ({_names(connection, names)}) VALUES ({marks})"


def _copy_aside(connection: Connection, table: Table, columns: Mapping[str, str], rows: Sequence[Stored]) -> str:
    """The name of a temporary table, gone with the transaction, that holds the rows; columns: their names there, and
    the columns of `table` that they are made like.

    Each has a name of its own, because psycopg forgets all prepared statements when it sees a DROP.
    """
    incoming = f"incoming_{next(_numbers)}"
    selected = ", ".join(f"{_quoted(connection, column)} AS {_quoted(connection, n)}" for n, column in columns.items())
    source = _table(connection, table)
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE {incoming} ON COMMIT DROP AS SELECT {selected} FROM {source} WITH NO DATA"
    )
    _copy(connection, incoming, rows)
    return incoming


def _copy(connection: Connection, target: str, rows: Sequence[Stored]) -> None:
    driver: Any = connection.connection.driver_connection
    try:
        with sql_errors(), driver.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
            for first in range(0, len(rows), _LINES):
                copy.write("".join(map(copy_line, rows[first : first + _LINES])))
    except Exception:
        # past SQLAlchemy, which would have noted it
        mark_failed(connection)
        raise


_LINES = 500
"""Written at once, because each call costs as much as a line."""

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


def copy_line(row: Stored) -> str:
    """A row in the text format of COPY; the driver's own `write_row` takes three times as long.

    https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"
    """
    line = "\t".join([value if type(value) is str else _copied(value) for value in row])
    # nearly always nothing is to be escaped: the only backslashes are those of NULL, the only tabs those between
    if line.count("\\") != row.count(None) or line.count("\t") >= len(row) or "\n" in line or "\r" in line:
        line = "\t".join([v.translate(_ESCAPES) if isinstance(v, str) else _copied(v) for v in row])
    return f"{line}\n"


def _copied(value: Any) -> str:
    """TypeError for a type of which it is not known here how the server reads it."""
    if value is None:
        return _NULL
    if isinstance(value, str | int | float | Decimal | datetime | UUID):
        return str(value)
    if isinstance(value, Binary | bytes):
        return f"\\\\x{bytes(value.obj if isinstance(value, Binary) else value).hex()}"
    raise TypeError(f"{type(value).__name__} is not copied")


def _stored(connection: Connection, columns: Mapping[str, Column[Any]], rows: Sequence[Row]) -> list[Stored]:
    """The rows as the driver takes them, column by column."""
    by_column: list[Iterable[Any]] = []
    for name, column in columns.items():
        values = [row[name] for row in rows]
        convert = _converter(column.type, connection.dialect)
        by_column.append(values if convert is None else map(convert, values))
    return list(zip(*by_column, strict=True))


def _converter(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _named(table: Table, rows: Sequence[Row]) -> dict[str, Column[Any]]:
    return {name: table.c[name] for name in rows[0]}


def _names(connection: Connection, names: Iterable[str]) -> str:
    return ", ".join(_quoted(connection, name) for name in names)


_key = _names


def _table(connection: Connection, table: Table) -> str:
    return connection.dialect.identifier_preparer.format_table(table)


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _mark(connection: Connection) -> str:
    return "%s" if _is_postgres(connection) else "?"


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == POSTGRES
