"""Which of 100,000 cron definitions are due in the fullest minute, and what moving them on costs, against croniter
asked about each: `python -m bench.scheduling [--definitions 100000] [--rounds 3]`. Prints one JSON object.

Both databases hold the project's admin tables. `due` is the query of `enqueue_due` with all it answers, `moved_on` is
the rest of what a schedule costs beside the runs: the next moment of each, written and committed. croniter is asked
about every tenth definition and its time taken ten times: each answer costs the same wherever it stands.
"""

import argparse
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]  # it publishes no types

from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.jobs import definition_row
from ordersync_adapters.sql.tables.jobs import job_definitions
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.transactions import commit
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds
from ordersync_core.jobs.model import JobDefinition, JobType, due_run
from ordersync_core.jobs.schedule import Schedule, due_moments, next_due
from ordersync_core.kernel.context import Context
from tests.postgres import PostgresServer

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PLATFORM = Context(administration=None, triggered_by="bench", correlation_id="bench")
GOALS = {"sqlite": 100, "postgres": 300}
"""Milliseconds for `due`."""

AGAINST_CRONITER = 50
SAMPLE = 10

ZONES = ("Europe/Amsterdam",) * 6 + ("Europe/London", "America/New_York", "America/Sao_Paulo", "Asia/Tokyo")
INTERVALS = ("*/5 * * * *", "*/15 * * * *", "*/15 * * * *", "*/30 * * * *", "0 * * * *", "0 * * * *")


def schedules(count: int) -> list[Schedule]:
    """As people write them: four in ten at the full hour and more often, the others spread over hour, day and week."""
    chance = random.Random(8)  # the same in every run

    def cron(kind: float) -> str:
        minute, hour = chance.randrange(60), chance.randrange(24)
        if kind < 0.41:
            return chance.choice(INTERVALS)
        if kind < 0.65:
            return f"{minute} * * * *"
        if kind < 0.90:
            return f"{minute} {hour} * * *"
        return f"{minute} {hour} * * 1-5" if kind < 0.96 else f"{minute} {hour} {chance.randrange(1, 29)} * *"

    return [Schedule(cron(chance.random()), chance.choice(ZONES)) for _ in range(count)]


def fullest_minute(chosen: Sequence[Schedule]) -> datetime:
    """Of a Monday."""
    due: Counter[datetime] = Counter()
    for schedule, count in Counter(chosen).items():
        moments = due_moments(schedule, after=MONDAY, until=MONDAY + timedelta(days=1))
        due.update(dict.fromkeys(moments, count))
    return due.most_common(1)[0][0]


def definitions(chosen: Sequence[Schedule], *, now: datetime) -> list[JobDefinition]:
    """A hundred of each administration; each waits for its first moment from `now` on."""
    first = {schedule: next_due(schedule, after=now - SECOND) for schedule in set(chosen)}
    return [
        JobDefinition(
            id=UUID(int=number),
            administration=f"tenant-{number // 100}",
            type=JobType.ITEM_SYNC,
            parameters={"complete": True} if number % 10 == 0 else {},
            schedule=schedule,
            next_due=first[schedule],
        )
        for number, schedule in enumerate(chosen)
    ]


class Scheduler:
    """An admin database that holds the definitions."""

    def __init__(self, url: str, kept: Sequence[JobDefinition], *, now: datetime) -> None:
        self._now = now
        self._admin = AdminDatabase(url)
        self._admin.create()
        self._admin.migrate()
        tenants = SqlTenantDatabases("sqlite:///{code}.db")  # none is opened
        self._databases = SqlDatabases(self._admin, tenants, clock=SystemClock(), ids=SystemIds())
        with self._admin.writing() as connection:
            bulk.insert(connection, job_definitions, [definition_row(definition) for definition in kept])
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("ANALYZE job_definitions")  # as Postgres does by itself now and then
            commit(connection)
        self._count = len(kept)

    def round(self) -> tuple[int, float, float]:
        """How many are due, and the seconds for finding them and for moving them on; afterwards all is as before."""
        with self._databases.admin_unit_of_work(PLATFORM) as uow:
            with timed() as finding:
                due = uow.definitions.due(self._now, self._count)
            with timed() as moving:
                runs = [due_run(d, now=self._now, ticket_at=self._now, correlation_id="") for d in due]
                uow.definitions.move_on([definition for _, definition in runs])
                uow.commit()
        with self._databases.admin_unit_of_work(PLATFORM) as uow:
            assert uow.definitions.due(self._now, 1) == []
            uow.definitions.move_on(due)
            uow.commit()
        return len(due), finding[0], moving[0]

    def close(self) -> None:
        self._databases.close()


def ask_croniter(kept: Sequence[JobDefinition], *, now: datetime) -> tuple[int, float]:
    """How many it finds due among all, reckoned from a sample, and the seconds for all."""
    asked = kept[::SAMPLE]
    zones = {zone: (now - SECOND).astimezone(ZoneInfo(zone)) for zone in ZONES}
    with timed() as seconds:
        due = sum(croniter(d.schedule.cron, zones[d.schedule.time_zone]).get_next(datetime) <= now for d in asked)
    return due * len(kept) // len(asked), seconds[0] * len(kept) / len(asked)


@contextmanager
def timed() -> Iterator[list[float]]:
    seconds: list[float] = []
    began = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--definitions", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    chosen = schedules(arguments.definitions)
    now = fullest_minute(chosen)
    kept = definitions(chosen, now=now)
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=True) as server:
        server.create_database("bench")
        urls = {"sqlite": f"sqlite:///{Path(folder)}/admin.db", "postgres": server.url("bench")}
        schedulers = {name: Scheduler(url, kept, now=now) for name, url in urls.items()}
        rounds: dict[str, list[tuple[int, float, float]]] = {name: [] for name in schedulers}
        croniter_rounds: list[tuple[int, float]] = []
        gc.collect()
        collect_rarely()  # as the Functions shell does
        for number in range(arguments.rounds):
            for name, scheduler in schedulers.items():
                rounds[name].append(scheduler.round())
            croniter_rounds.append(ask_croniter(kept, now=now))
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        for scheduler in schedulers.values():
            scheduler.close()
    peer = statistics.median(seconds for _, seconds in croniter_rounds)
    print(
        json.dumps(
            {
                "bench": "scheduling",
                "definitions": len(kept),
                "distinct_schedules": len(set(chosen)),
                "due_in_fullest_minute": rounds["sqlite"][0][0],
                "croniter": {"seconds": round(peer, 2), "due": croniter_rounds[0][0]},
                **{name: figures(name, found, peer) for name, found in rounds.items()},
            }
        )
    )


def figures(database: str, rounds: Sequence[tuple[int, float, float]], peer: float) -> dict[str, float | bool]:
    due = statistics.median(seconds for _, seconds, _ in rounds)
    moved_on = statistics.median(seconds for _, _, seconds in rounds)
    return {
        "due_milliseconds": round(due * 1000, 1),
        "moved_on_milliseconds": round(moved_on * 1000, 1),
        "times_as_fast_as_croniter": round(peer / due, 1),
        "times_as_fast_with_moving_on": round(peer / (due + moved_on), 1),
        "goal_is_reached": due * 1000 <= GOALS[database] and peer / due >= AGAINST_CRONITER,
    }


if __name__ == "__main__":
    main()
