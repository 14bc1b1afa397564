"""A catalogue synchronisation on its real path, in a process of its own:

    python -m bench.real_path FOLDER TENANTS PAGES

FOLDER holds the admin database, TENANTS is the URL of the tenant databases with `{code}` in it, PAGES a folder of
`bench.pages`. Only the network is left out: the connector's source gets its pages from these files. Prints one JSON
object: the seconds of the run, what it counted, and the process's peak memory.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

from attrs import frozen

from bench.pages import read_pages
from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.secrets.fernet import FernetSecrets, make_key_file
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds, ThreadHeartbeat
from ordersync_connectors.exact_online.adapter import NAME, ExactOnline, ItemSource
from ordersync_connectors.exact_online.client import ExactClient
from ordersync_connectors.exact_online.mapping import item as build_item
from ordersync_connectors.wiring import ConnectorsByName, MappingsByConnector
from ordersync_core.connections.commands import CreateConnection
from ordersync_core.connections.handlers import create_connection
from ordersync_core.connections.ports import Connectors, OpenConnection, Source
from ordersync_core.flows.commands import RunFlow, SetUpFlow
from ordersync_core.flows.handlers.running import run_flow
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import Execution, FlowKind
from ordersync_core.flows.ports import Mappings
from ordersync_core.jobs.model import Progress
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Heartbeat
from ordersync_core.kernel.secrets import Secrets

CODE = "real"
SETTINGS = {
    "division": 124132,
    "client_id": "00000000-0000-0000-0000-000000000001",
    "vat_tariffs": {"1": "Low1", "2": "Normal", "4": "NoVat"},
}


@frozen
class PageFiles:
    """What the connector's client gives its source, without the network."""

    folder: Path

    def pages(self, resource: str, parameters: Mapping[str, str]) -> Iterator[Any]:
        return read_pages(self.folder) if resource == "sync/Logistics/Items" else iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class ExactOnlineFromFiles(ExactOnline):
    def __init__(self, folder: Path) -> None:
        super().__init__(SystemClock())
        self._folder = folder

    def source(self, entity: str, connection: OpenConnection) -> Source:
        return ItemSource(cast(ExactClient, PageFiles(self._folder)), SystemClock())


class NoProgress:
    def tell(self, progress: Progress) -> None: ...


def set_up_flow_from_exact(application: Application, context: Context) -> None:
    """A connection, and the item flow that reads it."""
    create = CreateConnection(
        connector=NAME, name="Exact", settings=SETTINGS, secret_settings={"client_secret": "unused"}
    )
    connection = application.run(create_connection, create, context)
    application.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id), context)


@frozen
class RealPath:
    application: Application
    context: Context

    def sync(self) -> Execution:
        """Read everything from the beginning."""
        run = RunFlow(kind=FlowKind.ITEM, run_id=SystemIds().new(), holder="bench", complete=True)
        return self.application.run(run_flow, run, self.context)


def make_databases(folder: Path, tenants: str, *codes: str) -> None:
    """An empty, migrated database for each code, with a connection and the item flow in it."""
    admin, databases = AdminDatabase(_admin(folder)), SqlTenantDatabases(tenants)
    if not (folder / "admin.db").exists():
        admin.create()
        admin.migrate()
    for code in codes:
        databases.create(code)
        databases.migrate(code)
        databases.initialise(code, SystemIds().new())
        path = real_path(folder, tenants, folder, code=code)
        set_up_flow_from_exact(path.application, path.context)


def real_path(folder: Path, tenants: str, pages: Path, *, code: str = CODE) -> RealPath:
    """pages: the folder that the source reads."""
    clock, ids, connector = SystemClock(), SystemIds(), ExactOnlineFromFiles(pages)
    databases = SqlDatabases(AdminDatabase(_admin(folder)), SqlTenantDatabases(tenants), clock=clock, ids=ids)
    ports: dict[Any, Any] = {
        Clock: clock,
        Ids: ids,
        Heartbeat: ThreadHeartbeat(),
        Secrets: FernetSecrets([make_key_file(folder / "secrets.key")]),
        Connectors: ConnectorsByName({NAME: connector}),
        Mappings: MappingsByConnector({NAME: build_item}),
        RunProgress: NoProgress(),
    }
    context = Context(administration=code, triggered_by="bench", correlation_id="bench")
    return RealPath(Application(ports.__getitem__, databases), context)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _admin(folder: Path) -> str:
    return f"sqlite:///{folder}/admin.db"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tenants")
    parser.add_argument("pages", type=Path)
    arguments = parser.parse_args()
    path = real_path(arguments.folder, arguments.tenants, arguments.pages)
    collect_rarely()  # as the Jobs shell does
    began, cpu = time.perf_counter(), time.process_time()
    execution = path.sync()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    counts = execution.result()
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "counts": counts, "peak_megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main()
