"""One platform under fire: its processes are kept alive while traps, signals and the databases take them away.

Time that would have to be waited for is let pass: what a dead process held ends at once, and what is owed later is owed
now as soon as nothing else moves. Locks and leases of the living are left alone.
"""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
from attrs import define, field
from sqlalchemy import Table, and_, case, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from ordersync_adapters.queues.sql_tables import dead_letters, messages
from ordersync_adapters.sql.tables.administrations import wake
from ordersync_adapters.sql.tables.jobs import job_definitions, job_runs
from ordersync_adapters.sql.tables.leases import admin_leases, tenant_leases
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.tables.webhooks import deliveries
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, WEBHOOKS
from ordersync_core.messaging.queue import LOCK
from tests.end_to_end.killed import Hit
from tests.end_to_end.platform import CODE, PYTHON, Platform

API, FUNCTIONS, JOBS, ADMIN, ONCE = "api", "functions", "jobs", "admin", "once"
KILLED = "tests.end_to_end.killed"

WITHIN = 120.0
"""Seconds without any progress that are too many."""

LOOK_AGAIN = 5.0
STANDSTILL = 1.5
"""Seconds without any message after which what is owed later is owed now."""

MOST_DEATHS = 1
"""What a message or a run may have suffered before the next kill: a third death gives it up."""

AWAY = (SQLAlchemyError, sqlite3.Error)
"""How it shows that a database does not answer, or that somebody else holds it."""

ENDED = ("Succeeded", "Failed", "Cancelled", "Merged")


class Broken(AssertionError):
    """A promise does not hold, or something did not happen in time."""


class Killed(Exception):
    """The process went into its trap."""


@define
class Program:
    name: str
    arguments: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    stopped: bool = False
    """A stopped one is not started again."""


@define
class World:
    platform: Platform
    say: Callable[[str], None]
    programs: dict[str, Program] = field(factory=dict, init=False)
    armed: set[str] = field(factory=set, init=False)
    """Processes that are to die at any point that none of their name has died at."""

    peace_at: float | None = field(default=None, init=False)
    """From when on nobody is to die any more, by the monotonic clock."""

    always: dict[str, Sequence[str]] = field(factory=dict, init=False)
    """Where each process of a name is to die: at the first point however often, at the others once."""

    _http: httpx.Client = field(factory=httpx.Client, init=False)
    _seen_hits: int = field(default=0, init=False)
    _dead_jobs: list[tuple[datetime, list[int]]] = field(factory=list, init=False)
    """When each died, and which others were at work then."""

    _idle_since: float | None = field(default=None, init=False)
    _next_look: float = field(default=0.0, init=False)

    # processes

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start a program that is started again whenever it has died."""
        self.programs[name] = Program(name, (KILLED, name, module, *arguments))
        self._start(self.programs[name])

    def start_all(self) -> None:
        self.start(API, "ordersync_api")
        self.start(FUNCTIONS, "ordersync_functions")
        self.start(JOBS, "ordersync_jobs", "--launch")

    def stop(self, name: str) -> None:
        """Ask it to end, and leave it so."""
        program = self.programs[name]
        program.stopped = True
        if program.process is not None and program.process.poll() is None:
            self.platform.stop(program.process)

    def kill(self, name: str) -> None:
        """By signal 9; `step` brings it back."""
        process = self.programs[name].process
        assert process is not None
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all programs; a launcher ends what it has started, and one that was killed has left it to us."""
        self._http.close()
        self.armed.clear()
        for name in self.programs:
            with suppress(subprocess.TimeoutExpired):
                self.stop(name)
        with suppress(*AWAY):
            for pid in self.jobs_at_work():
                os.kill(pid, signal.SIGKILL)

    def pid(self, name: str) -> int:
        process = self.programs[name].process
        assert process is not None
        return process.pid

    def jobs_at_work(self) -> list[int]:
        """The processes that hold the lease of a run."""
        with self.platform.reading("admin") as connection:
            holders = connection.execute(
                select(admin_leases.c.holder).where(
                    admin_leases.c.name.like("run:%"), admin_leases.c.until > datetime.now(UTC)
                )
            ).scalars()
            return [pid for holder in holders if _is_alive(pid := int(holder.rpartition(":")[2]))]

    def _start(self, program: Program) -> None:
        program.process = self.platform.start(*program.arguments, log=program.name)

    # one step of time

    def step(self) -> None:
        """Bring back who died, end what the dead held, and set the traps that are due."""
        for hit in self.new_hits():
            self.say(f"  {hit.name} was killed {hit.point}")
            _wait_for_the_end_of(hit.pid)
            if hit.name == JOBS:
                self.bury(JOBS)
            self.platform.traps.done_with(hit.name)
        for program in self.programs.values():
            if not program.stopped and program.process is not None and program.process.poll() is not None:
                self.bury(program.name)
                self._start(program)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 0.25
            self._end_locks_of_dead_jobs()
            self._set_traps()
            self._let_time_pass_at_a_standstill()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Raises Broken when it does not hold and nothing has moved any more for a while."""
        deadline, seen = time.monotonic() + WITHIN, ""
        while not self._holds(holds):
            self.step()
            time.sleep(0.05)
            if time.monotonic() > deadline - WITHIN + LOOK_AGAIN and (now := self.situation()) != seen:
                deadline, seen = time.monotonic() + WITHIN, now
            if time.monotonic() > deadline:
                raise Broken(f"nothing moved for {WITHIN:g} s, and still not: {what}\n{seen}\n{self.platform.logs()}")

    def _holds(self, holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except AWAY:
            return False  # the database is away for a while

    def new_hits(self) -> list[Hit]:
        hits = self.platform.traps.hits()[self._seen_hits :]
        self._seen_hits += len(hits)
        return hits

    def bury(self, name: str) -> None:
        """What a dead process held ends now, as it would by itself within a minute."""
        try:
            if name == JOBS:
                self._dead_jobs.append((datetime.now(UTC), self.jobs_at_work()))
            if name == FUNCTIONS:
                self._end_locks((EVENTS, WEBHOOKS), held_at=datetime.now(UTC))
            self._end_leases(functions=name == FUNCTIONS)
        except AWAY as error:
            self.say(f"  (what {name} held ends by itself: {type(error).__name__})")

    def presume_dead(self, name: str, pid: int) -> None:
        """As if its locks and leases had run out, though it lives: it only stands still."""
        queues = (EVENTS, WEBHOOKS) if name == FUNCTIONS else (QUEUED_JOBS,)
        self._end_locks(queues, held_at=datetime.now(UTC))
        now = datetime.now(UTC)
        for database, table in (("admin", admin_leases), ("tenant", tenant_leases)):
            with self.platform.writing(database) as connection:
                ours = update(table).where(table.c.holder.like(f"%:{pid}%"), table.c.until > now)
                connection.execute(ours.values(until=now - timedelta(seconds=1)))

    def _end_locks_of_dead_jobs(self) -> None:
        """As soon as nobody who was at work beside the dead one can hold a message any more."""
        for death in list(self._dead_jobs):
            moment, others = death
            if not any(map(_is_alive, others)):
                with suppress(*AWAY):
                    self._end_locks((QUEUED_JOBS,), held_at=moment)
                    self._dead_jobs.remove(death)

    def _end_locks(self, queues: Sequence[str], *, held_at: datetime) -> None:
        now = datetime.now(UTC)
        held = and_(messages.c.locked_until > now, messages.c.locked_until <= held_at + LOCK)
        with self.platform.writing("queues") as connection:
            connection.execute(update(messages).where(messages.c.queue.in_(queues), held).values(locked_until=now))

    def _end_leases(self, *, functions: bool) -> None:
        now = datetime.now(UTC)
        for database, table in (("admin", admin_leases), ("tenant", tenant_leases)):
            with self.platform.reading(database) as connection:
                held = connection.execute(select(table.c.name, table.c.holder).where(table.c.until > now)).all()
            dead = [name for name, holder in held if _is_of_the_dead(holder, functions=functions)]
            if dead:
                with self.platform.writing(database) as connection:
                    ended = update(table).where(table.c.name.in_(dead)).values(until=now - timedelta(seconds=1))
                    connection.execute(ended)

    def _let_time_pass_at_a_standstill(self) -> None:
        """With no message anywhere, whatever is unfinished waits for a moment: let it come."""
        try:
            if self.messages():
                self._idle_since = None
                return
            if self._idle_since is None:
                self._idle_since = time.monotonic()
            if time.monotonic() - self._idle_since > STANDSTILL and (self.platform.unsettled() or self.active_runs()):
                self.let_time_pass()
                self._idle_since = None
        except AWAY:
            self._idle_since = None

    def let_time_pass(self) -> None:
        """Whatever owes a ticket later owes it now, and the leases of those who ended without giving them up end."""
        now = datetime.now(UTC)
        self._end_leases(functions=False)
        for database, table in (("tenant", outbox), ("tenant", deliveries), ("admin", job_runs)):
            with self.platform.writing(database) as connection:
                connection.execute(update(table).where(table.c.ticket_at > now).values(ticket_at=now))
        with self.platform.writing("admin") as connection:
            connection.execute(update(wake).values(due_at=now))
            if connection.execute(select(func.count()).select_from(wake)).scalar_one() == 0:
                connection.execute(wake.insert().values(administration=CODE, due_at=now))
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_notify("ordersync_wake", "")))

    # traps

    def _set_traps(self) -> None:
        try:
            for name in (FUNCTIONS, JOBS, API):
                traps = self.platform.traps
                if name not in self.always and (name not in self.armed or not self.may_die(name)):
                    traps.take_away(name)
                elif not traps.is_set(name):
                    self.set_trap(name)
        except AWAY:
            return

    def set_trap(self, name: str) -> None:
        if name in self.always:
            first, *others = self.always[name]
            hit = self.points_hit(name)
            self.platform.traps.set(name, only=[first, *(point for point in others if point not in hit)])
        else:
            self.platform.traps.set(name, but=self.points_hit(name))

    def points_hit(self, name: str) -> list[str]:
        """API and command line call the same handlers: who died in one of them has died in both."""
        names = (API, ADMIN) if name in (API, ADMIN) else (name,)
        return [hit.point for hit in self.platform.traps.hits() if hit.name in names]

    def places_of_death(self) -> set[tuple[str, str]]:
        return {(hit.name, hit.point) for hit in self.platform.traps.hits()}

    def may_die(self, name: str) -> bool:
        """Whether one more death gives no message and no run up, and there is no peace yet."""
        if self.peace_at is not None and time.monotonic() > self.peace_at:
            return False
        if name == API:
            return True
        queues = (EVENTS, WEBHOOKS) if name == FUNCTIONS else (QUEUED_JOBS,)
        return self.deaths(queues) <= MOST_DEATHS and (name != JOBS or self._deaths_of_runs() <= MOST_DEATHS)

    def deaths(self, queues: Sequence[str]) -> int:
        """The most that one message has suffered, with that of a holder who is dead and not yet found out."""
        lost = and_(messages.c.token.is_not(None), messages.c.locked_until <= datetime.now(UTC))
        with self.platform.reading("queues") as connection:
            most = select(func.max(messages.c.deaths + case((lost, 1), else_=0))).where(messages.c.queue.in_(queues))
            return int(connection.execute(most).scalar_one() or 0)

    def _deaths_of_runs(self) -> int:
        with self.platform.reading("admin") as connection:
            rows = connection.execute(
                select(job_runs.c.id, job_runs.c.deaths, job_runs.c.state).where(job_runs.c.state.not_in(ENDED))
            ).all()
            leases = connection.execute(select(admin_leases.c.name, admin_leases.c.holder)).all()
        holders = {lease.name: lease.holder for lease in leases}
        return max(
            (
                row.deaths + (row.state == "Running" and not _is_alive(_pid(holders.get(f"run:{row.id}", ""))))
                for row in rows
            ),
            default=0,
        )

    # what is there

    def messages(self) -> int:
        return self._count("queues", messages)

    def dead_letters(self) -> int:
        return self._count("queues", dead_letters)

    def active_runs(self) -> int:
        return self._count("admin", job_runs, job_runs.c.state.not_in(ENDED))

    def runs_of(self, definition: str) -> int:
        return self._count("admin", job_runs, job_runs.c.definition_id == UUID(definition))

    def make_due(self, definition: str, at: datetime) -> None:
        """Let the moment of a scheduled job come."""
        due = update(job_definitions).where(job_definitions.c.id == UUID(definition)).values(next_due=at)
        with self.platform.writing("admin") as connection:
            connection.execute(due)
        self.let_time_pass()

    def _count(self, database: str, table: Table, *conditions: Any) -> int:
        with self.platform.reading(database) as connection:
            query = select(func.count()).select_from(table).where(*conditions)
            return int(connection.execute(query).scalar_one())

    def settled(self) -> bool:
        return not (self.active_runs() or self.platform.unsettled() or self.messages())

    def settle(self) -> None:
        """Raises Broken also when something was given up."""
        self.until(self.settled, "all runs have ended, and everything is delivered")
        if self.dead_letters():
            raise Broken(f"something was given up: {self.situation()}")

    def situation(self) -> str:
        try:
            return (
                f"runs {self.active_runs()}, unsettled {self.platform.unsettled()}, messages {self.messages()}, "
                f"deaths {self.deaths((EVENTS, WEBHOOKS, QUEUED_JOBS))}, dead letters {self._given_up()}"
            )
        except AWAY as error:
            return f"the database does not answer: {type(error).__name__}"

    def _given_up(self) -> list[str]:
        with self.platform.reading("queues") as connection:
            letters = connection.execute(
                select(dead_letters.c.queue, dead_letters.c.reason, dead_letters.c.description)
            )
            return [f"{letter.queue}: {letter.reason}: {letter.description}" for letter in letters]

    # as a caller of the API, and as a person at the command line

    def connect(self, token: str) -> None:
        self._http.close()
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.platform.api_port}",
            headers={"Authorization": f"Bearer {token}", "X-Administration": CODE},
            timeout=60,
            trust_env=False,
        )

    def call(self, method: str, path: str, body: Any = None, *, fine: Sequence[int] = ()) -> Any:
        """Asked until it is answered, as a good client does; the JSON of the answer, None when it has none.

        fine: statuses besides 2xx that are an answer, such as 404 to the repetition of a DELETE.
        """
        deadline = time.monotonic() + WITHIN
        while True:
            self.step()
            try:
                response = self._http.request(method, path, json=body)
            except httpx.TransportError:
                response = None
            if response is not None and (response.is_success or response.status_code in fine):
                return response.json() if response.content and response.is_success else None
            if response is not None and response.status_code < 500:
                raise Broken(f"{method} {path}: {response.status_code} {response.text}")
            if time.monotonic() > deadline:
                raise Broken(f"{method} {path} was not answered within {WITHIN:g} s\n{self.platform.logs()}")
            time.sleep(0.1)

    def upload(self, path: str, lines: Sequence[Any]) -> None:
        """NDJSON, asked until every row was taken."""
        deadline = time.monotonic() + WITHIN
        while not self.is_taken(path, lines):
            if time.monotonic() > deadline:
                raise Broken(f"POST {path} was not answered within {WITHIN:g} s\n{self.platform.logs()}")
            self.step()
            time.sleep(0.1)

    def is_taken(self, path: str, lines: Sequence[Any]) -> bool:
        """Asked once: whether the answer came, and every row was taken."""
        content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        try:
            answer = self._http.post(path, content=content, headers={"Content-Type": "application/x-ndjson"})
            results = [orjson.loads(line) for line in answer.content.splitlines()]
        except (httpx.TransportError, orjson.JSONDecodeError):
            return False
        return len(results) == len(lines) and all(result.get("status") in (200, 201) for result in results)

    def items(self) -> dict[str, dict[str, Any]]:
        """All items as the API exports them, by code, without the moment of their change."""
        with self._http.stream("GET", "/v1/items", headers={"Accept": "application/x-ndjson"}) as response:
            response.raise_for_status()
            rows = [orjson.loads(line) for line in response.iter_lines() if line]
        return {row["code"]: {name: value for name, value in row.items() if name != "updated_at"} for row in rows}

    def cli(self, *arguments: str) -> Any:
        """The command again and again until it was not killed; what it prints."""
        while True:
            try:
                return self.cli_once(*arguments)
            except Killed:
                self.step()

    def cli_once(self, *arguments: str) -> Any:
        """Raises Killed when the command's process went into its trap."""
        return self._run_once(ADMIN, "ordersync_admin", *arguments, "--json")

    def once(self, timer: str) -> None:
        """Run a timer now, until it was not killed."""
        while True:
            try:
                self._run_once(ONCE, "tests.soak.once", timer)
            except Killed:
                self.step()
            else:
                return

    def _run_once(self, name: str, *arguments: str) -> Any:
        if name in self.armed:
            self.set_trap(name)
        done = subprocess.run(
            [PYTHON, "-m", KILLED, name, *arguments],
            env=self.platform.environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            timeout=2 * WITHIN,
            check=False,
        )
        self.platform.traps.take_away(name)
        if done.returncode == -signal.SIGKILL:
            raise Killed(name)
        if done.returncode != 0:
            raise Broken(f"{' '.join(arguments)}: {done.stderr.decode()[-2000:]}")
        return orjson.loads(done.stdout) if done.stdout.strip() else None

    @contextmanager
    def arming(self, *names: str, seconds: float | None = None) -> Iterator[None]:
        """Within the block, processes of these names die at points where none of their name has died.

        seconds: None for as long as the block lasts.
        """
        self.armed |= set(names)
        self.peace_at = None if seconds is None else time.monotonic() + seconds
        try:
            yield
        finally:
            self.armed -= set(names)
            for name in names:
                self.platform.traps.take_away(name)


def _pid(holder: str) -> int:
    """0 for a holder that is no process."""
    number = holder.partition("/")[0].rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def _is_of_the_dead(holder: str, *, functions: bool) -> bool:
    return holder.startswith("renew_connections") and functions if not _pid(holder) else not _is_alive(_pid(holder))


def _wait_for_the_end_of(pid: int) -> None:
    """It has sent itself the signal, or is about to."""
    while _is_alive(pid):
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return pid > 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
