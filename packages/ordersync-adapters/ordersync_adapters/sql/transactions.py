"""Connections for one transaction, and the errors that they raise."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.types import POSTGRES
from ordersync_core.kernel.errors import ChangedMeanwhile

_FAILED = "ordersync.failed"


def raise_core_errors(engine: Engine) -> None:
    """Make every statement of this engine raise the core's errors, where they have a meaning to it."""

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        if context.connection is not None:
            mark_failed(context.connection)
        with sql_errors():
            raise context.sqlalchemy_exception or context.original_exception


LONG = 0.05
PAUSE = 0.005
"""Seconds: a transaction of over 50 ms on SQLite leaves the file to others for 5 ms, so that bulk work lets them in."""


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction that is undone at the end, unless it was committed with `commit`."""
    with sql_errors():
        connection = engine.connect()
    try:
        connection.info.pop(_FAILED, None)
        with sql_errors():
            connection.begin()
        began = time.monotonic()
        yield connection
    finally:
        connection.close()
    if engine.dialect.name != POSTGRES and time.monotonic() - began > LONG:
        time.sleep(PAUSE)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection for one statement that reads."""
    with sql_errors():
        connection = engine.connect()
    try:
        yield connection
    finally:
        connection.close()


def commit(connection: Connection) -> None:
    """ChangedMeanwhile when anything failed in the transaction before: Postgres would undo it in silence."""
    if connection.info.get(_FAILED):
        raise ChangedMeanwhile("the transaction has failed before: nothing of it can be kept")
    with sql_errors():
        connection.commit()


def mark_failed(connection: Connection) -> None:
    """From now on nothing of the transaction may be kept."""
    connection.info[_FAILED] = True
