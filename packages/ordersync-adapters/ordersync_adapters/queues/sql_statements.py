"""What SQLite and Postgres say differently; a module for each fits this protocol."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from ordersync_adapters.queues.sql_rows import Key
from ordersync_core.messaging.queue import Claim, Message


class Statements(Protocol):
    """Each call is all that happens in its transaction. Locks run out by the database's clock."""

    def send(self, connection: Connection, queue: str, messages: Sequence[Message]) -> None: ...

    def claim(self, connection: Connection, queue: str, *, limit: int, lock: timedelta, token: int) -> list[Claim]:
        """As the port says: those that died once, or one that died more often, or ready ones.

        token: a random number for all of them.
        """
        ...

    def renew(self, connection: Connection, keys: Sequence[Key], lock: timedelta) -> dict[Key, datetime]:
        """The new end of each that is still ours."""
        ...

    def complete(self, connection: Connection, keys: Sequence[Key]) -> set[Key]:
        """Those that were still ours."""
        ...

    def abandon(self, connection: Connection, queue: str, keys: Sequence[Key]) -> None: ...

    def dead_letter(self, connection: Connection, key: Key, *, reason: str, description: str) -> bool: ...
