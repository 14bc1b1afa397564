"""A catalogue synchronisation on its real path (raw record, item, audit entry, outbox row) against its limit, the least
code that does the same work durably, in one interleaved run:

    python -m bench.catalogue_sync [--database sqlite|postgres] [--items 50000] [--rounds 3] [--peers]

Both read the same files of JSON pages, each in a process of its own, on databases that the project's migrations made:
the same tables, indexes, constraints and durability. Each round has four phases: everything is new, nothing changed,
1 % changed, everything changed. The limit (`bench/limits/catalogue_sync.py`) says which rows it wrote. The rows of
both sides are then counted and compared by SQL: where they differ the result is void.

Whether the limit itself is fast enough shows beside a peer, SQLAlchemy Core, in the same run: both write items and
outbox rows alone. Where their ratio is not that of other people's limits, within 30 %, the result is void too.

--peers: dlt and Django too, which write the items alone, into tables of their own (`make bench-peers`).

Prints one JSON object. Exit code 1: void, or writes that nothing called for.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy
from attrs import frozen

from bench.pages import write_pages
from bench.real_path import CODE, make_databases
from tests.postgres import PostgresServer

LIMIT = "limit"
LIMIT_ALONE, CORE = "limit-items", "core-items"
PEERS = ("django", "dlt")
PEER_GOALS = {"django": 2.0, "dlt": 1.5}

CATALOGUE, ONE_PERCENT, ALL_CHANGED = "catalogue", "one_percent", "all_changed"
PHASES = {"new": CATALOGUE, "unchanged": CATALOGUE, "one_percent": ONE_PERCENT, "all_changed": ALL_CHANGED}

LIMIT_TO_CORE = {"sqlite": 2.7, "postgres": 5.0}
WITHIN = 0.30
GOALS = {
    "sqlite": {"new": 0.6, "unchanged": 0.7, "one_percent": 0.7, "all_changed": 0.6},
    "postgres": {"new": 0.5, "unchanged": 0.6, "one_percent": 0.6, "all_changed": 0.5},
}

ITEM = """
    code, name, family_code, unit, units, vat_tariff, attributes, images, attachments, stocks, restock_orders,
    searchable
"""
BY_CHANGE = 'ORDER BY key, effect, "after"'
CONTENT = {
    "records": "SELECT key, entity, raw, source_version, code, quarantined, dropped FROM {records} ORDER BY key",
    "items": f"SELECT {ITEM} FROM items ORDER BY code",
    "audit_entries": f'SELECT entity_type, key, effect, "before", "after" FROM audit_entries {BY_CHANGE}',
    "outbox": f'SELECT event_type, version, effect, entity_type, key, "before", "after" FROM outbox {BY_CHANGE}',
}
"""What both sides must have written alike: all but ids, moments and hashes."""


class Void(Exception):
    """The two sides did not do the same."""


@frozen
class Databases:
    """folder: holds the admin database; template: the URL of the tenant databases."""

    folder: Path
    template: str

    @property
    def on_postgres(self) -> bool:
        return self.template.startswith("postgresql")

    def make(self, *codes: str) -> None:
        make_databases(self.folder, self.template, *codes)

    def address(self, code: str) -> str:
        """As the limit takes it."""
        url = self.template.replace("{code}", code)
        return url.replace("+psycopg", "") if self.on_postgres else url.removeprefix("sqlite:///")

    def read(self, code: str, statement: str) -> Iterator[Sequence[Any]]:
        records = "exact_online.records" if self.on_postgres else "exact_online_records"
        engine = sqlalchemy.create_engine(self.template.replace("{code}", code))
        try:
            with engine.connect().execution_options(stream_results=True) as connection:
                yield from connection.exec_driver_sql(statement.replace("{records}", records))
        finally:
            engine.dispose()

    def counts(self, code: str) -> dict[str, int]:
        return {
            table: next(iter(self.read(code, f"SELECT count(*) FROM {name}")))[0]
            for table, name in (("records", "{records}"), *((table, table) for table in list(CONTENT)[1:]))
        }


def real(databases: Databases, pages: Path) -> dict[str, Any]:
    return answer([sys.executable, "-m", "bench.real_path", str(databases.folder), databases.template, str(pages)])


def limit(databases: Databases, pages: Path, *, code: str = LIMIT, tables: str = "all") -> dict[str, Any]:
    script = "bench/limits/catalogue_sync.py"
    return answer([sys.executable, script, databases.address(code), str(pages), "--tables", tables])


def core(databases: Databases, pages: Path) -> dict[str, Any]:
    return answer([sys.executable, "-m", "bench.peers.core", databases.address(CORE), str(pages)])


def peer(name: str, databases: Databases, pages: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", f"bench.peers.{name}_items", databases.address(name), str(pages)]
    return answer([*command, str(databases.folder / "pipelines")] if name == "dlt" else command)


def answer(command: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def round_of(databases: Databases, pages: Path, *, real_first: bool, peers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By phase: what real path, limit and peers answered. Raises Void when they did not write the same."""
    databases.make(CODE, LIMIT, LIMIT_ALONE, CORE, *peers)
    phases = {}
    before = dict.fromkeys(CONTENT, 0)
    for phase, name in PHASES.items():
        sides: dict[str, Callable[[], dict[str, Any]]] = {
            "real": lambda name=name: real(databases, pages / name),  # type: ignore[misc]
            "limit": lambda name=name: limit(databases, pages / name),  # type: ignore[misc]
        }
        order = ("real", "limit") if real_first else ("limit", "real")
        found = {side: sides[side]() for side in order}
        if phase in ("new", "all_changed"):
            found |= {side: peer(side, databases, pages / name) for side in peers}
        after = databases.counts(CODE)
        if after != databases.counts(LIMIT):
            raise Void(f"{phase}: the real path has {after}, the limit {databases.counts(LIMIT)}")
        check_written(phase, found, {table: after[table] - before[table] for table in after})
        phases[phase], before = found, after
    for table, statement in CONTENT.items():
        both = zip(databases.read(CODE, statement), databases.read(LIMIT, statement), strict=True)
        for ours, theirs in both:
            if [parsed(value) for value in ours] != [parsed(value) for value in theirs]:
                raise Void(f"{table}: {tuple(ours)} on the real path is {tuple(theirs)} in the limit")
    phases["items_and_outbox"] = {
        "limit": limit(databases, pages / CATALOGUE, code=LIMIT_ALONE, tables="items"),
        "core": core(databases, pages / CATALOGUE),
    }
    return phases


def check_written(phase: str, found: Mapping[str, Any], grown: Mapping[str, int]) -> None:
    """Audit entries and outbox rows are only added, so what they grew by is what both sides must have written."""
    counts, written = found["real"]["counts"], found["limit"]["written"]
    changed = counts["created"] + counts["updated"]
    if {grown["audit_entries"], grown["outbox"], changed} != {changed} or set(written.values()) != {changed}:
        raise Void(f"{phase}: the real path counted {counts}, the limit {written}; the tables grew by {grown}")


def parsed(value: Any) -> Any:
    """JSON is compared by value."""
    return orjson.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def figures(rounds: Sequence[Mapping[str, Any]], items: int, database: str) -> dict[str, Any]:
    def each(phase: str, side: str, name: str) -> list[float]:
        return [found[phase][side][name] for found in rounds]

    def ratios(phase: str, over: str, under: str) -> list[float]:
        return [o / u for o, u in zip(each(phase, over, "seconds"), each(phase, under, "seconds"), strict=True)]

    phases = {}
    for phase in PHASES:
        ratio = statistics.median(ratios(phase, "limit", "real"))
        phases[phase] = {
            "ratio_to_limit": round(ratio, 3),
            "goal": GOALS[database][phase],
            "goal_is_reached": ratio >= GOALS[database][phase],
            "ratios": [round(r, 3) for r in ratios(phase, "limit", "real")],
            "processor_ratio": round(
                min(each(phase, "limit", "cpu_seconds")) / min(each(phase, "real", "cpu_seconds")), 3
            ),
            "rows_by_table": rounds[-1][phase]["limit"]["written"],
            "items_per_second": {
                side: round(items / statistics.median(each(phase, side, "seconds"))) for side in ("real", "limit")
            },
            "peak_megabytes": {side: round(max(each(phase, side, "peak_megabytes"))) for side in ("real", "limit")},
        }
        peers = [side for side in PEERS if side in rounds[0][phase]]
        if peers:
            phases[phase]["times_as_fast_as"] = {
                side: {"ratio": round(statistics.median(ratios(phase, side, "real")), 2), "goal": PEER_GOALS[side]}
                for side in peers
            }
    limit_to_core = statistics.median(ratios("items_and_outbox", "core", "limit"))
    return {"phases": phases, "limit_to_core": round(limit_to_core, 2)}


@contextmanager
def place(database: str, folder: Path) -> Iterator[Callable[[int], Databases]]:
    """Gives the databases of a round."""

    def on_sqlite() -> Databases:
        shutil.rmtree(folder / "sqlite", ignore_errors=True)
        (folder / "sqlite").mkdir()
        return Databases(folder / "sqlite", f"sqlite:///{folder}/sqlite/{{code}}.db")

    if database == "sqlite":
        yield lambda _: on_sqlite()
        return
    with PostgresServer(durable=True) as server:
        yield lambda number: Databases(
            on_sqlite().folder, server.url("x").removesuffix("x") + f"round{number}_" + "{code}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    void, rounds = None, []
    with tempfile.TemporaryDirectory() as name, place(arguments.database, Path(name)) as databases:
        pages = Path(name) / "pages"
        pages.mkdir()
        write_pages(pages / CATALOGUE, items=arguments.items)
        write_pages(pages / ONE_PERCENT, items=arguments.items, revision=lambda number: number % 100 == 0)
        write_pages(pages / ALL_CHANGED, items=arguments.items, revision=lambda number: 2)
        try:
            for number in range(arguments.rounds):
                peers = PEERS if arguments.peers else ()
                rounds.append(round_of(databases(number), pages, real_first=number % 2 == 0, peers=peers))
                print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        except Void as error:
            void = str(error)
    result: dict[str, Any] = {"bench": "catalogue_sync", "database": arguments.database, "items": arguments.items}
    if rounds:
        result |= figures(rounds, arguments.items, arguments.database)
        expected = LIMIT_TO_CORE[arguments.database]
        if void is None and abs(result["limit_to_core"] - expected) > WITHIN * expected:
            void = f"the limit is {result['limit_to_core']} times SQLAlchemy Core, not {expected} within 30 %"
    print(json.dumps(result | {"void": void}))
    return 0 if void is None else 1


if __name__ == "__main__":
    sys.exit(main())
