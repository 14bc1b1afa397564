"""The platform as real processes on one database, for tests: started, killed, and asked what became of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
from sqlalchemy import Connection, func, select, update
from sqlalchemy import text as sql_text

from ordersync_adapters.queues.sql_tables import messages
from ordersync_adapters.sql.engines import reading_engine, writing_engine
from ordersync_adapters.sql.tables.administrations import wake
from ordersync_adapters.sql.tables.jobs import job_runs
from ordersync_adapters.sql.tables.leases import admin_leases, tenant_leases
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.tables.webhooks import deliveries
from ordersync_admin.demo.evidence import lines_of
from tests.end_to_end.killed import TRAPS, Traps
from tests.postgres import PostgresServer

CODE = "acme"
WITHIN = 90.0
PYTHON = sys.executable


class Platform:
    """One administration, `acme`, and whatever processes a test starts for it."""

    def __init__(self, folder: Path, databases: Mapping[str, str]) -> None:
        self.folder = folder
        self.functions_port = _free_port()
        self.api_port = _free_port()
        self.traps = Traps(folder / "traps")
        self.traps.folder.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")},
            "ORDERSYNC_STATE": str(folder / "state"),
            "ORDERSYNC_FUNCTIONS_PORT": str(self.functions_port),
            "ORDERSYNC_API_PORT": str(self.api_port),
            "ORDERSYNC_ALLOW_PRIVATE_TARGETS": "true",
            "ORDERSYNC_SWEEP": "3s",
            "ORDERSYNC_RETRY_DELAYS": ",".join(["1s"] * 15),
            "PYTHONUNBUFFERED": "1",
            TRAPS: str(self.traps.folder),
            **databases,
        }
        self._urls = {
            "admin": databases.get("ORDERSYNC_ADMIN_DATABASE", f"sqlite:///{folder}/state/admin.db"),
            "tenant": databases.get(
                "ORDERSYNC_TENANT_DATABASES", f"sqlite:///{folder}/state/tenants/{{code}}.db"
            ).replace("{code}", CODE),
            "queues": databases.get("ORDERSYNC_QUEUES", f"sqlite:///{folder}/state/queues.db"),
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    # processes

    def start(self, *arguments: str, log: str | None = None) -> subprocess.Popen[bytes]:
        """`python -m` these arguments; the output is added to the file of that name beside the state folder."""
        name = log or f"{arguments[-1].replace('/', '_')}-{len(self._processes)}"
        output = (self.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [PYTHON, "-m", *arguments],
            env=self.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
        )
        output.close()
        self._processes.append(process)
        return process

    def killed(self, point: str, module: str) -> None:
        """Start a shell that is killed at `point`, and wait until it is."""
        self.traps.set(module, only=[point])
        process = self.start("tests.end_to_end.killed", module, module)
        assert process.wait(WITHIN) == -signal.SIGKILL, self.logs()

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(30)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def cli(self, *arguments: str) -> Any:
        """What `ordersync ... --json` prints; fails with its error line."""
        done = subprocess.run(
            [PYTHON, "-m", "ordersync_admin", *arguments, "--json"],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return orjson.loads(done.stdout) if done.stdout.strip() else None

    def logs(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    # what is there

    def receivers(self, module: str = "ordersync_admin.demo.receivers", *names: str) -> int:
        """Start receivers, the demo's two unless others are named; answers their port."""
        port = _free_port()
        self.start(module, str(self.folder / "received.ndjson"), str(port), *names, log="receivers")
        self.until(lambda: not _is_free(port), "the receivers listen")
        return port

    def sandbox(self, *options: str) -> dict[str, Any]:
        """Start a sandbox; answers its address, division and client id."""
        self.start("ordersync_admin", "sandbox", "exact-online", "--port", "0", *options, "--json", log="sandbox")
        said = self.folder / "sandbox.log"
        self.until(lambda: said.read_bytes().startswith(b"{"), "the sandbox is up")
        told: dict[str, Any] = orjson.loads(said.read_bytes().splitlines()[0])
        return told

    def received(self) -> list[dict[str, Any]]:
        return [line for line in lines_of(self.folder / "received.ndjson") if line["status"] == 204]

    def subscribe(self, port: int, name: str, *events: str) -> dict[str, Any]:
        chosen = [word for event in events for word in ("--event", event)]
        webhook: dict[str, Any] = self.cli("webhooks", "create", f"http://127.0.0.1:{port}/{name}", "-a", CODE, *chosen)
        wishes = {"secrets": [webhook["secret"]]}
        httpx.put(f"http://127.0.0.1:{port}/{name}/settings", json=wishes, trust_env=False).raise_for_status()
        return webhook

    def count(self, statement: str) -> int:
        with self.reading("tenant") as connection:
            return int(connection.execute(sql_text(statement)).scalar_one())

    def unsettled(self) -> int:
        return self.count(
            "SELECT (SELECT count(*) FROM outbox WHERE handled_at IS NULL AND absorbed_by IS NULL)"
            " + (SELECT count(*) FROM deliveries WHERE state = 'Waiting')"
        )

    def numbers(self) -> list[int]:
        with self.reading("tenant") as connection:
            query = select(outbox.c.number).where(outbox.c.number.is_not(None)).order_by(outbox.c.number)
            return list(connection.execute(query).scalars())

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WITHIN
        while not holds():
            assert time.monotonic() < deadline, f"not within {WITHIN:g} s: {what}\n{self.logs()}"
            time.sleep(0.1)

    # what a test does to it

    def let_pass(self, span: timedelta) -> None:
        """Let `span` go by for everything that waits or is held: leases, locks, tickets and wake-ups."""
        moments: tuple[tuple[str, Any, Any], ...] = (
            ("queues", messages, messages.c.locked_until),
            ("tenant", tenant_leases, tenant_leases.c.until),
            ("tenant", outbox, outbox.c.ticket_at),
            ("tenant", deliveries, deliveries.c.ticket_at),
            ("admin", admin_leases, admin_leases.c.until),
            ("admin", job_runs, job_runs.c.ticket_at),
            ("admin", wake, wake.c.due_at),
        )
        for database, table, moment in moments:
            with self.writing(database) as connection:
                for (value,) in connection.execute(select(moment).where(moment.is_not(None)).distinct()).all():
                    connection.execute(update(table).where(moment == value).values({moment.name: value - span}))

    def empty_queues(self) -> int:
        """Take every message off all three queues, held or not; answers how many there were."""
        with self.writing("queues") as connection:
            count = connection.execute(select(func.count()).select_from(messages)).scalar_one()
            connection.execute(messages.delete())
            return int(count)

    @contextmanager
    def reading(self, database: str) -> Iterator[Connection]:
        """database: "admin", "tenant" or "queues"."""
        engine = reading_engine(self._urls[database])
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    @contextmanager
    def writing(self, database: str) -> Iterator[Connection]:
        """One transaction."""
        engine = writing_engine(self._urls[database])
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()


@contextmanager
def sqlite_platform(folder: Path) -> Iterator[Platform]:
    yield from _prepared(Platform(folder, {}))


@contextmanager
def postgres_platform(folder: Path, server: PostgresServer) -> Iterator[Platform]:
    mark = uuid4().hex[:8]
    names = {"admin": f"admin_{mark}", "queues": f"queues_{mark}"}
    for name in names.values():
        server.create_database(name)
    databases = {
        "ORDERSYNC_ADMIN_DATABASE": server.url(names["admin"]),
        "ORDERSYNC_TENANT_DATABASES": server.url(f"tenant_{mark}_CODE").replace("CODE", "{code}"),
        "ORDERSYNC_QUEUES": server.url(names["queues"]),
    }
    try:
        yield from _prepared(Platform(folder, databases))
    finally:
        for name in (*names.values(), f"tenant_{mark}_{CODE}"):
            server.drop_database(name)


def _prepared(platform: Platform) -> Iterator[Platform]:
    try:
        platform.cli("administrations", "create", CODE)
        yield platform
    finally:
        platform.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
