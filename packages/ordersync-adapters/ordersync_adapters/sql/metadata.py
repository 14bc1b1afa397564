"""What all tables share: the two databases that they belong to, the names of their constraints, two types of column."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Dialect, MetaData, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from ordersync_adapters.sql.types import POSTGRES, to_json

NAMES: Mapping[str, str] = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

admin = MetaData(naming_convention=NAMES)
"""The tables of the one admin database."""

tenant = MetaData(naming_convention=NAMES)
"""The tables of each administration's own database."""

Key = Text().with_variant(postgresql.TEXT(collation="C"), POSTGRES)
"""A text that is sorted and compared by code point on both databases: codes, names of things, source keys."""


class JsonText(TypeDecorator[Any]):
    """A JSON value as text on both databases: cheaper than jsonb where SQL never looks inside.

    It keeps what jsonb changes or refuses: the order of fields, the spelling of numbers, null characters.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)
