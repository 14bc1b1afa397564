"""Column types that mean the same on SQLite and on Postgres.

| type     | Postgres    | SQLite                                       |
| -------- | ----------- | -------------------------------------------- |
| `Moment` | timestamptz | INTEGER: microseconds since 1970-01-01 UTC   |
| `Uuid`   | uuid        | TEXT: 36 characters, so that ids sort alike  |

Statements that reach through to the driver see the stored form: `stored_moment`, `from_microseconds`, `to_json`; of an
id both drivers take its text.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, SafeUUID

import orjson
from sqlalchemy import BigInteger, Dialect, String, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement, literal
from sqlalchemy.types import TypeDecorator, TypeEngine

POSTGRES = "postgresql"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@lru_cache(maxsize=256)  # what one transaction writes or reads is mostly of a few moments
def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC; ValueError for a moment without a time zone."""
    return (_aware(moment) - _EPOCH) // _MICROSECOND


def stored_moment(moment: datetime, dialect: Dialect) -> datetime | int:
    """What the driver takes; ValueError for a moment without a time zone."""
    return _aware(moment) if dialect.name == POSTGRES else to_microseconds(moment)


@lru_cache(maxsize=256)
def from_microseconds(count: int) -> datetime:
    return _EPOCH + timedelta(microseconds=count)


def to_json(value: Any) -> str:
    """Compact JSON; TypeError for what JSON does not know, decimals and ids among them."""
    return orjson.dumps(value).decode()


_set, _unknown = object.__setattr__, SafeUUID.unknown


def to_uuid(text: str) -> UUID:
    """Of the 36 characters that we stored, twice as fast as `UUID(text)`, which looks for other spellings: ids are a
    large part of what reading many rows costs. psycopg builds those of Postgres the same way."""
    id = UUID.__new__(UUID)
    _set(id, "int", int(text.replace("-", ""), 16))
    _set(id, "is_safe", _unknown)
    return id


class Moment(TypeDecorator[datetime]):
    """A moment with a time zone, to the microsecond; comes back in UTC."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == POSTGRES:
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | int | None:
        return None if value is None else stored_moment(value, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == POSTGRES else from_microseconds(value)


class Uuid(TypeDecorator[UUID]):
    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == POSTGRES:
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> UUID | str | None:
        return value if value is None or dialect.name == POSTGRES else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        return value if value is None or dialect.name == POSTGRES else to_uuid(value)


class database_moment(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The present moment by the database's clock, `plus` later; usable wherever a column of type `Moment` is.

    update(leases).where(leases.c.until <= database_moment()).values(until=database_moment(plus=LEASE))
    """

    inherit_cache = True
    type = Moment()

    def __init__(self, plus: timedelta = timedelta()) -> None:
        super().__init__(literal(plus // _MICROSECOND, BigInteger()))


@compiles(database_moment, "postgresql")
def _on_postgres(element: database_moment, compiler: SQLCompiler, **options: Any) -> str:
    microseconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + {microseconds} * interval '1 microsecond')"


@compiles(database_moment, "sqlite")
def _on_sqlite(element: database_moment, compiler: SQLCompiler, **options: Any) -> str:
    microseconds = compiler.process(element.clauses, **options)
    return f"(now_in_microseconds() + {microseconds})"


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"the moment {moment} has no time zone")
    return moment
