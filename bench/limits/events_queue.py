"""The least code that takes committed outbox rows and acknowledges them durably, 100 at a time. It imports nothing of
the project.

    python -m bench.limits.events_queue DATABASE

DATABASE is a SQLite file or a Postgres address that the project's migrations made, with outbox rows that nobody has
numbered. Until none is left: claim up to 100 (their number, and when they are due again; commit), look at each,
acknowledge them (commit). Prints one JSON object: the seconds, and how many were seen and are left by SQL.
"""

import argparse
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Protocol

import psycopg

BATCH = 100
READY = 'SELECT "order" FROM outbox WHERE number IS NULL AND absorbed_by IS NULL ORDER BY "order" LIMIT'
LEFT = "SELECT count(*) FROM outbox WHERE handled_at IS NULL"

Row = tuple[int, str, str, str]
"""Its place, the event's type, the entity's key, the entity after the change."""


class Outbox(Protocol):
    connection: Any

    def claim(self) -> Sequence[Row]: ...

    def acknowledge(self, places: Sequence[int]) -> None: ...


class Sqlite:
    def __init__(self, file: str) -> None:
        self.connection = sqlite3.connect(file, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")

    def claim(self) -> Sequence[Row]:
        self.connection.execute("BEGIN IMMEDIATE")
        claimed = self.connection.execute(
            f'UPDATE outbox SET number = "order", ticket_at = ?, tickets = tickets + 1 WHERE "order" IN ({READY} ?)'
            ' RETURNING "order", event_type, key, after',
            (_microseconds() + 60_000_000, BATCH),
        ).fetchall()
        self.connection.execute("COMMIT")
        return claimed

    def acknowledge(self, places: Sequence[int]) -> None:
        now = _microseconds()
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            'UPDATE outbox SET handled_at = ?, ticket_at = NULL WHERE "order" = ?', [(now, place) for place in places]
        )
        self.connection.execute("COMMIT")


class Postgres:
    def __init__(self, address: str) -> None:
        self.connection = psycopg.connect(address, autocommit=True)
        # the planner has no statistics of a table that was just filled
        self.connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")

    def claim(self) -> Sequence[Row]:
        claimed: Any = self.connection.execute(
            f"WITH ready AS ({READY} %s FOR UPDATE SKIP LOCKED)"
            " UPDATE outbox AS row SET number = row.\"order\", ticket_at = now() + interval '60 s',"
            ' tickets = tickets + 1 FROM ready WHERE row."order" = ready."order"'
            ' RETURNING row."order", event_type, key, after',
            (BATCH,),
            binary=True,
        ).fetchall()
        return claimed  # type: ignore[no-any-return]

    def acknowledge(self, places: Sequence[int]) -> None:
        statement = 'UPDATE outbox SET handled_at = now(), ticket_at = NULL WHERE "order" = ANY(%s)'
        self.connection.execute(statement, (places,))


def work(outbox: Outbox) -> tuple[float, int]:
    """The seconds it took, and how many rows were seen."""
    seen = 0
    began = time.perf_counter()
    while claimed := outbox.claim():
        seen += sum(1 for _, event_type, key, after in claimed if event_type and key and after)
        outbox.acknowledge([place for place, *_ in claimed])
    return time.perf_counter() - began, seen


def _microseconds() -> int:
    return time.time_ns() // 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    address = parser.parse_args().database
    outbox: Outbox = Postgres(address) if address.startswith("postgres") else Sqlite(address)
    with closing(outbox.connection):
        seconds, seen = work(outbox)
        left = outbox.connection.execute(LEFT).fetchone()[0]
    print(json.dumps({"seconds": seconds, "seen": seen, "left": left}))


if __name__ == "__main__":
    main()
