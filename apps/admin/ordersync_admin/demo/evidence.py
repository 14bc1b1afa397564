"""Where the demo's figures come from: the sandbox's request log, rows in SQL, the receivers' file, the events feed.

The rows are read with plain SQL from the files of the demo's state folder, and not through the code that wrote them.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from attrs import frozen

ITEMS = "sync/logistics/items"
COUNTS = ("read", "created", "updated", "deleted", "unchanged", "quarantined")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none while it is not there."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def rows_served(log: Sequence[Mapping[str, Any]]) -> int:
    """Rows of items that the sandbox handed out, by its request log."""
    return sum(line["rows"] for line in log if str(line["resource"]).lower() == ITEMS)


@frozen
class Rows:
    """The demo's databases, read only."""

    state: Path
    administration: str

    def run(self, run_id: str) -> dict[str, Any]:
        """Type and state of a job run."""
        [(type, state)] = self._admin("SELECT type, state FROM job_runs WHERE id = ?", run_id)
        return {"type": type, "state": state}

    def execution(self, run_id: str) -> dict[str, int]:
        columns = ", ".join(COUNTS)
        rows = self._tenant(f"SELECT {columns} FROM execution_log WHERE run_id = ?", run_id)
        return dict(zip(COUNTS, rows[0] if rows else [0] * len(COUNTS), strict=True))

    def items_written(self, since: datetime) -> int:
        return self._one("SELECT count(*) FROM items WHERE updated_at >= ?", int(since.timestamp() * 1_000_000))

    def items(self) -> int:
        return self._one("SELECT count(*) FROM items")

    def in_quarantine(self) -> int:
        return self._one("SELECT count(*) FROM quarantine")

    def events_of(self, run_id: str) -> int:
        return self._one("SELECT count(*) FROM outbox WHERE correlation_id = ? AND number IS NOT NULL", run_id)

    def attempts(self) -> int:
        return self._one("SELECT count(*) FROM attempts")

    def unsettled(self) -> int:
        """Facts and deliveries that are still on their way."""
        waiting = "SELECT count(*) FROM deliveries WHERE state = 'Waiting'"
        unhandled = "SELECT count(*) FROM outbox WHERE handled_at IS NULL AND absorbed_by IS NULL"
        return self._one(waiting) + self._one(unhandled)

    def delivered(self) -> list[tuple[str, int, str]]:
        """Webhook, position and event of each delivery that was made."""
        return self._tenant("SELECT webhook_id, position, event_id FROM deliveries WHERE state = 'Delivered'")

    def dead_letters(self) -> int:
        with _reading(self.state / "queues.db") as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM queue_dead_letters")
        return int(count)

    def _one(self, statement: str, *parameters: Any) -> int:
        [(value,)] = self._tenant(statement, *parameters)
        return int(value)

    def _tenant(self, statement: str, *parameters: Any) -> list[Any]:
        with _reading(self.state / "tenants" / f"{self.administration}.db") as connection:
            return connection.execute(statement, parameters).fetchall()

    def _admin(self, statement: str, *parameters: Any) -> list[Any]:
        with _reading(self.state / "admin.db") as connection:
            return connection.execute(statement, parameters).fetchall()


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        yield connection
