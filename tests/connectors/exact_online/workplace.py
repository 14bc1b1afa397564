"""One administration on SQLite that is connected to a running sandbox, put together as a shell would, and the sandbox's
controls beside it."""

import csv
import itertools
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import httpx
from attrs import define, field, frozen
from cryptography.fernet import Fernet
from sqlalchemy import select, text

from ordersync_adapters.secrets.fernet import FernetSecrets
from ordersync_adapters.sql.tables.connections import cursors
from ordersync_adapters.sql.tables.flows import quarantine
from ordersync_adapters.sql.tables.items import items
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.tables.raw import raw_records
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.transactions import commit
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemIds
from ordersync_connectors.exact_online.adapter import NAME, ExactOnline
from ordersync_connectors.exact_online.mapping import item as exact_online_item
from ordersync_connectors.exact_online.sandbox import SandboxServer, SandboxSettings
from ordersync_connectors.wiring import ConnectorsByName, MappingsByConnector
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.connections.commands import (
    BeginAuthorisation,
    CompleteAuthorisation,
    CreateConnection,
    GetAccessToken,
    RenewConnections,
)
from ordersync_core.connections.handlers import (
    begin_authorisation,
    create_connection,
    get_access_token,
    renew_connections,
    store_authorisation,
    take_authorisation_state,
)
from ordersync_core.connections.model import Connection
from ordersync_core.connections.ports import ConnectionQueries, Connectors
from ordersync_core.dispatch import run_job, start_command
from ordersync_core.flows.commands import SetUpFlow
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.flows.ports import Mappings
from ordersync_core.jobs.commands import ResubmitRun, SendOwedRuns
from ordersync_core.jobs.handlers import resubmit_run, send_owed_runs, start_run
from ordersync_core.jobs.model import JobRun, RunState
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Heartbeat
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.messaging.queue import Queues
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.memory.heartbeat import NoHeartbeat
from ordersync_core.testing.memory_queue import MemoryQueues

CODE = "acme"
CONTEXT = Context(administration=CODE, triggered_by="test", correlation_id="test")
REDIRECT_URI = "http://127.0.0.1:9/callback"
FIRST_DAY = datetime(2024, 3, 4, 10, 0, tzinfo=UTC)
"""Long ago, so that no reset of the sandbox can be taken for one by the real clock in the header Date."""

TIMEOUT = httpx.Timeout(0.75)
_KEYS = (Fernet.generate_key().decode(),)
_numbers = itertools.count(1)


@define
class Site:
    """A running sandbox whose clock stands still, and ours beside it: both move by `advance` only.

    waited: the seconds that the connector has waited, one entry a wait.
    """

    url: str
    settings: SandboxSettings
    clock: ManualClock
    http: httpx.Client
    waited: list[float] = field(factory=list)

    def advance(self, span: timedelta) -> None:
        self.clock.advance(span)
        self.steer("POST", "clock", {"now": self.clock.now().isoformat()})

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.advance(timedelta(seconds=seconds))

    def put(self, code: str, **values: Any) -> None:
        self.steer("PUT", f"items/{quote(code)}", values)

    def remove(self, code: str) -> None:
        self.steer("DELETE", f"items/{quote(code)}")

    def change(self, count: int) -> list[str]:
        """Change the descriptions of so many items; answers their codes."""
        codes: list[str] = self.steer("POST", "change", {"count": count})["changed"]
        return codes

    def fault(self, **fault: Any) -> None:
        self.steer("POST", "faults", fault)

    def clear_faults(self) -> None:
        self.steer("DELETE", "faults")

    @property
    def calls(self) -> int:
        """How many calls the sandbox has had."""
        return int(self.steer("GET", "state")["requests"])

    def log(self, after: int = 0) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.steer("GET", f"log?after={after}")["entries"]
        return entries

    def paths(self, after: int = 0) -> list[str]:
        """What was called, call by call: resources, and `oauth2/token`."""
        company = f"/api/v1/{self.settings.division}/"
        return [entry["path"].removeprefix(company).removeprefix("/api/") for entry in self.log(after)]

    def steer(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, f"{self.url}/_sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def running(settings: SandboxSettings | None = None) -> Iterator[Site]:
    chosen = settings or SandboxSettings(clock=FIRST_DAY)
    with SandboxServer(chosen) as server, httpx.Client(trust_env=False, timeout=10) as http:
        clock = ManualClock(chosen.clock or FIRST_DAY)
        site = Site(server.url, chosen, clock, http)
        site.steer("POST", "clock", {"frozen": True, "now": clock.now().isoformat()})
        yield site


def item_file(path: Path, rows: Iterable[Mapping[str, Any]], *columns: str) -> Path:
    """An item file of the sandbox with `Code`, `Description` and these columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["Code", "Description", *columns], restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@frozen
class Tables:
    """What a run leaves, apart from moments and counters: rows of each table, in order of their keys."""

    items: Sequence[Any]
    records: Sequence[Any]
    quarantine: Sequence[Any]
    cursors: Sequence[Any]
    events: Sequence[Any]


class Workplace:
    """One administration and its connection, in a folder; `connect` sets it up."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder = folder
        self.site = site
        self.admin = AdminDatabase(f"sqlite:///{folder}/admin.db")
        self.tenants = SqlTenantDatabases(f"sqlite:///{folder}/{{code}}.db")
        self.databases = SqlDatabases(self.admin, self.tenants, clock=site.clock, ids=SystemIds())
        self.connector = ExactOnline(site.clock, allow_other_hosts=True, sleep=site.wait, timeout=TIMEOUT)
        self.application = self.made_of(self.databases, self.connector)

    def made_of(self, databases: Any, connector: ExactOnline) -> Application:
        ports: dict[Any, Any] = {
            Clock: self.site.clock,
            Ids: SystemIds(),
            Heartbeat: NoHeartbeat(),
            Secrets: FernetSecrets(_KEYS),
            Queues: MemoryQueues(self.site.clock),
            TenantDatabases: self.tenants,
            Connectors: ConnectorsByName({NAME: connector}),
            Mappings: MappingsByConnector({NAME: exact_online_item}),
        }
        return Application(resolve=ports.__getitem__, databases=databases)

    def close(self) -> None:
        self.databases.close()

    # setting up

    def create(self) -> None:
        self.admin.create()
        self.admin.migrate()
        self.application.run(create_administration, CreateAdministration(code=CODE, name="Acme"), CONTEXT)

    def connect(self, **settings: Any) -> None:
        """A connection to the sandbox, a person's consent, and the item flow."""
        connection = self.create_connection(**settings)
        self.consent()
        self.application.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id), CONTEXT)

    def create_connection(self, *, client_secret: str | None = None, **settings: Any) -> Connection:
        return self.application.run(
            create_connection,
            CreateConnection(
                connector=NAME,
                name="Exact",
                settings={
                    "host": self.site.url,
                    "division": self.site.settings.division,
                    "client_id": self.site.settings.client_id,
                    **settings,
                },
                secret_settings={"client_secret": client_secret or self.site.settings.client_secret},
            ),
            CONTEXT,
        )

    def consent(self) -> None:
        """A person follows the address and comes back with a code."""
        self.complete(*self.consented())

    def consented(self) -> tuple[UUID, str]:
        """What the redirect brings: state and code."""
        command = BeginAuthorisation(connection_id=self.connection.id, redirect_uri=REDIRECT_URI)
        url = self.application.run(begin_authorisation, command, CONTEXT)
        redirect = urlsplit(self.site.http.get(url).headers["location"])
        asked = parse_qs(redirect.query)
        return UUID(asked["state"][0]), asked["code"][0]

    def complete(self, state: UUID, code: str) -> None:
        platform = Context(administration=None, triggered_by="callback", correlation_id="callback")
        command = CompleteAuthorisation(state=state, code=code)
        row = self.application.run(take_authorisation_state, command, platform)
        self.application.run(store_authorisation, (row, code), platform.within(row.administration))

    # what happens

    def access_token(self, application: Application | None = None) -> str:
        command = GetAccessToken(connection_id=self.connection.id, holder="one process")
        return (application or self.application).run(get_access_token, command, CONTEXT)

    def renew(self) -> int:
        """The hourly round over the connections."""
        return self.application.run(renew_connections, RenewConnections(holder="renew_connections"), CONTEXT)

    def sync(self, **parameters: Any) -> JobRun:
        """An ItemSync from its start to its end."""
        return self.finish(self.start("ItemSync", **parameters))

    def sync_codes(self, *codes: str) -> JobRun:
        return self.finish(self.start("ItemSelectiveSync", codes=list(codes)))

    def start(self, type: str, **parameters: Any) -> UUID:
        return self.application.run(start_run, start_command(type, parameters), CONTEXT).id

    def work(self, run_id: UUID, application: Application | None = None) -> JobRun | None:
        """What one job process does for a message."""
        holder = f"process {next(_numbers)}"
        return run_job(application or self.application, run_id, holder=holder, heartbeat=NoHeartbeat(), context=CONTEXT)

    def finish(self, run_id: UUID) -> JobRun:
        """Work on the run, and again when the moment that it waits for has come, until it has ended."""
        run = self.work(run_id)
        while run is not None and not run.state.ended:
            self.wait_out(run)
            run = self.work(run_id)
        assert run is not None
        return run

    def wait_out(self, run: JobRun) -> None:
        """Let the moment come that it waits for, and its ticket be sent."""
        assert run.state is RunState.WAITING
        assert run.ticket_at is not None
        self.site.advance(run.ticket_at - self.site.clock.now())
        platform = Context(administration=None, triggered_by="schedule_jobs", correlation_id="schedule_jobs")
        assert self.application.run(send_owed_runs, SendOwedRuns(), platform) == 1

    def resubmit(self, run_id: UUID) -> JobRun:
        self.application.run(resubmit_run, ResubmitRun(id=run_id), CONTEXT)
        return self.finish(run_id)

    def dies_at_commit(self, number: int) -> Application:
        """The application of a process that dies in place of its n-th commit on the tenant's database."""
        return self.fails_at_commits(range(number, 1_000_000), Killed)

    def fails_at_commits(self, numbers: Container[int], error: type[BaseException]) -> Application:
        """An application whose n-th commits on the tenant's database, counted from 1, raise and keep nothing."""
        return self.made_of(_Failing(self.databases, numbers, error), self.connector)

    # what is there

    @property
    def connection(self) -> Connection:
        queries: ConnectionQueries = self.databases.queries(CONTEXT)
        [connection] = queries.connections()
        return connection

    def tables(self) -> Tables:
        records = raw_records(NAME, "sqlite")
        kept = {
            "items": select(*(column for column in items.c if column is not items.c.updated_at)).order_by(items.c.code),
            "records": select(*(c for c in records.c if c is not records.c.connection_id)).order_by(records.c.key),
            "quarantine": select(quarantine.c.key, quarantine.c.reason, quarantine.c.raw).order_by(quarantine.c.key),
            "cursors": select(cursors.c.entity, cursors.c.cursor),
            "events": select(outbox.c.event_type, outbox.c.key).order_by(outbox.c.event_type, outbox.c.key),
        }
        with self.tenants.reading(CODE) as connection:
            rows = {name: connection.execute(query).all() for name, query in kept.items()}
        places = [(entity, {k: v for k, v in cursor.items() if k != "read_on"}) for entity, cursor in rows["cursors"]]
        return Tables(**rows | {"cursors": places})

    def names(self) -> dict[str, str]:
        """The English names of all items, by code."""
        with self.tenants.reading(CODE) as connection:
            rows = connection.execute(select(items.c.code, items.c.name).order_by(items.c.code)).all()
        return {row.code: row.name["en"] for row in rows}

    def reasons(self) -> list[str]:
        """Why records are in quarantine."""
        with self.tenants.reading(CODE) as connection:
            return list(connection.execute(select(quarantine.c.reason).order_by(quarantine.c.reason)).scalars())

    def events(self) -> list[tuple[str, str]]:
        """All facts told so far, in order: event type without its entity, and item code."""
        with self.tenants.reading(CODE) as connection:
            rows = connection.execute(select(outbox.c.event_type, outbox.c.key).order_by(outbox.c.order)).all()
        return [(row.event_type.removeprefix("item."), row.key) for row in rows]

    def told(self, action: Callable[[], object]) -> list[tuple[str, str]]:
        """The facts that `action` adds."""
        before = len(self.events())
        action()
        return self.events()[before:]

    def cursor(self) -> Any:
        with self.tenants.reading(CODE) as connection:
            return connection.execute(select(cursors.c.cursor)).scalar_one_or_none()

    def let_leases_run_out(self) -> None:
        """Those of a process that was killed."""
        for database in (self.admin.writing(), self.tenants.writing(CODE)):
            with database as connection:
                connection.execute(text("UPDATE leases SET until = 0"))
                commit(connection)


class Killed(BaseException):
    """The process ends here: no handler of errors sees it, and nothing after it is written."""


class _Failing:
    def __init__(self, databases: SqlDatabases, numbers: Container[int], error: type[BaseException]) -> None:
        self._databases = databases
        self._numbers = numbers
        self._error = error
        self._commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._databases, name)

    def unit_of_work(self, context: Context) -> Any:
        uow = self._databases.unit_of_work(context)
        real_commit = uow.commit

        def failing_commit() -> None:
            self._commits += 1
            if self._commits in self._numbers:
                raise self._error
            real_commit()

        uow.commit = failing_commit  # type: ignore[method-assign]
        return uow


@contextmanager
def workplace(folder: Path, site: Site, template: Path | None = None) -> Iterator[Workplace]:
    """In a new folder, or in a copy of the folder of another one that was closed."""
    if template is not None:
        shutil.copytree(template, folder, dirs_exist_ok=True)
    folder.mkdir(exist_ok=True, parents=True)
    place = Workplace(folder, site)
    try:
        if template is None:
            place.create()
        yield place
    finally:
        with suppress(Exception):
            place.close()
