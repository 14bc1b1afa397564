"""A catalogue synchronisation on its real path (raw record, item, audit entry, outbox), against the least code that
writes the same rows: `python bench/catalogue_sync.py [--items 50000] [--rounds 3]`. Prints one JSON object.

Both sides run in turn on SQLite files with the project's tables and durability. The limit has its rows ready and only
writes them; the real path gets source records and does everything. A ratio of 1 would mean that all else is free.
"""

import argparse
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from ordersync_adapters.secrets.fernet import FernetSecrets, make_key_file
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds, ThreadHeartbeat
from ordersync_connectors.exact_online.mapping import item as build_item
from ordersync_connectors.exact_online.mapping import source_record
from ordersync_core.connections.commands import CreateConnection
from ordersync_core.connections.handlers import create_connection
from ordersync_core.connections.ports import ConnectorDescription, Connectors, SourcePage
from ordersync_core.flows.commands import RunFlow, SetUpFlow
from ordersync_core.flows.handlers import run_flow, set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.flows.ports import Mappings
from ordersync_core.jobs.model import Progress
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Heartbeat
from ordersync_core.kernel.secrets import Secrets

CODE = "bench"
PAGE = 1_000
BATCH = 5_000
TABLES = ("exact_online_records", "items", "audit_entries", "outbox")
CONTEXT = Context(administration=CODE, triggered_by="bench", correlation_id="bench")


def rows(count: int, *, version: int) -> list[dict[str, Any]]:
    return [
        {
            "ID": str(UUID(int=number)),
            "Timestamp": str(version * count + number + 2),
            "Code": f"ITEM-{number:07}",
            "Description": f"Item number {number} of version {version}",
            "ExtraDescription": "A description that goes on for a while, as descriptions do",
            "Barcode": f"{number:013}",
            "Unit": "pc      ",
            "ItemGroupCode": f"GROUP-{number % 40}",
            "SalesVatCode": "2  ",
            "IsSalesItem": True,
            "IsStockItem": True,
            "IsWebshopItem": 1,
            "NetWeight": 1.25,
            "GrossWeight": 1.5,
            "NetWeightUnit": "kg",
        }
        for number in range(count)
    ]


class ReadySource:
    """Records that are in memory already: the network is not what is measured."""

    def __init__(self, catalogue: Sequence[Mapping[str, Any]]) -> None:
        self._catalogue = catalogue

    def pages(self, cursor: Any) -> Iterator[SourcePage]:
        for first in range(0, len(self._catalogue), PAGE):
            records = [source_record(row) for row in self._catalogue[first : first + PAGE]]
            yield SourcePage(records=records, cursor={"items": first})

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        yield SourcePage()


class ReadyConnector:
    def __init__(self) -> None:
        self.catalogue: Sequence[Mapping[str, Any]] = ()
        aspects = ("name", "family_code", "unit", "vat_tariff", "attributes")
        self.description = ConnectorDescription(
            name="exact_online", title="", settings_schema={}, secrets_schema={}, entities={"item": aspects}
        )

    def check(self, *_: Any) -> None: ...

    def source(self, *_: Any) -> ReadySource:
        return ReadySource(self.catalogue)

    def item(self, _: str) -> Any:
        return build_item

    def __getitem__(self, _: str) -> "ReadyConnector":
        return self


class NoProgress:
    def tell(self, progress: Progress) -> None: ...


class RealPath:
    def __init__(self, folder: Path) -> None:
        self.connector = ReadyConnector()
        admin = AdminDatabase(f"sqlite:///{folder}/admin.db")
        admin.create()
        admin.migrate()
        tenants = SqlTenantDatabases(f"sqlite:///{folder}/{{code}}.db")
        clock, ids = SystemClock(), SystemIds()
        tenants.create(CODE)
        tenants.migrate(CODE)
        tenants.initialise(CODE, ids.new())
        ports: dict[Any, Any] = {
            Clock: clock,
            Ids: ids,
            Heartbeat: ThreadHeartbeat(),
            Secrets: FernetSecrets([make_key_file(folder / "secrets.key")]),
            Connectors: self.connector,
            Mappings: self.connector,
            RunProgress: NoProgress(),
        }
        self.application = Application(ports.__getitem__, SqlDatabases(admin, tenants, clock=clock, ids=ids))
        connection = self.application.run(
            create_connection, CreateConnection(connector="exact_online", name="", settings={}), CONTEXT
        )
        self.application.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id), CONTEXT)

    def sync(self, catalogue: Sequence[Mapping[str, Any]]) -> float:
        self.connector.catalogue = catalogue
        run = RunFlow(kind=FlowKind.ITEM, run_id=SystemIds().new(), holder="bench", complete=True)
        with timed() as seconds:
            self.application.run(run_flow, run, CONTEXT)
        return seconds()


def limit(folder: Path, filled: Path) -> float:
    """Write the very rows of the real path into empty tables: executemany, a commit for each batch."""
    path = folder / "limit.db"
    with closing(sqlite3.connect(filled)) as source:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        columns = {
            table: [row[1] for row in source.execute(f"PRAGMA table_info({table})") if row[1] != "stale"]
            for table in TABLES
        }
        ready = {table: source.execute(f"SELECT {_names(columns[table])} FROM {table}").fetchall() for table in TABLES}
        shutil.copy(filled, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        for table in TABLES:
            target.execute(f"DELETE FROM {table}")
        target.execute("VACUUM")
        target.execute("PRAGMA synchronous = FULL")
        with timed() as seconds:
            for first in range(0, len(ready["items"]), BATCH):
                target.execute("BEGIN IMMEDIATE")
                for table in TABLES:
                    marks = ", ".join("?" * len(columns[table]))
                    statement = f"INSERT INTO {table} ({_names(columns[table])}) VALUES ({marks})"
                    target.executemany(statement, ready[table][first : first + BATCH])
                target.execute("COMMIT")
        counts = {table: target.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    path.unlink()
    assert len(set(counts.values())) == 1, counts
    return seconds()


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    began, ended = time.perf_counter(), [0.0]
    try:
        yield lambda: ended[0] - began
    finally:
        ended[0] = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    catalogue, figures = rows(arguments.items, version=0), []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = RealPath(folder)
            first = path.sync(catalogue)
            bare = limit(folder, folder / f"{CODE}.db")
            unchanged = path.sync(catalogue)
            figures.append((first, bare, unchanged))
    rate = {
        name: round(arguments.items / statistics.median(column))
        for name, column in zip(("first", "limit", "unchanged"), zip(*figures, strict=True), strict=True)
    }
    ratios = [bare / first for first, bare, _ in figures]
    print(
        json.dumps(
            {
                "bench": "catalogue_sync",
                "database": "sqlite",
                "items": arguments.items,
                "rows_by_table": dict.fromkeys(TABLES, arguments.items),
                "items_per_second": rate,
                "ratio_to_limit": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
            }
        )
    )


if __name__ == "__main__":
    main()
