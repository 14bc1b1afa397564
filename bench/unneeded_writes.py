"""What a second import writes: `python -m bench.unneeded_writes [--database sqlite|postgres] [--items 20000]`.

Triggers count every row that is written while an unchanged catalogue is read again, and then one of which 1 % changed.
Prints one JSON object. Exit code 1: a write or an event too many, or one too few.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection

from bench.catalogue_sync import CATALOGUE, CONTENT, ONE_PERCENT, Databases, place, real
from bench.pages import write_pages
from bench.real_path import CODE

WATCHED = (*CONTENT, "quarantine")

ON_POSTGRES = """
    CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO bench_writes VALUES (TG_ARGV[0]); RETURN NULL; END $$
"""


@contextmanager
def writing(databases: Databases) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(databases.template.replace("{code}", CODE))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def watch(databases: Databases) -> None:
    """From now on each row that is added, changed or removed leaves the name of its table in `bench_writes`."""
    records = "exact_online.records" if databases.on_postgres else "exact_online_records"
    with writing(databases) as connection:
        connection.exec_driver_sql("CREATE TABLE bench_writes (name TEXT)")
        if databases.on_postgres:
            connection.exec_driver_sql(ON_POSTGRES)
        for name in WATCHED:
            table = records if name == "records" else name
            for event in ("INSERT", "UPDATE", "DELETE"):
                action = (
                    f"FOR EACH ROW EXECUTE FUNCTION count_write('{name}')"
                    if databases.on_postgres
                    else f"BEGIN INSERT INTO bench_writes VALUES ('{name}'); END"
                )
                connection.exec_driver_sql(f"CREATE TRIGGER watch_{name}_{event} AFTER {event} ON {table} {action}")


def written(databases: Databases) -> dict[str, int]:
    """Since the last call, by table."""
    with writing(databases) as connection:
        rows = connection.exec_driver_sql("SELECT name, count(*) FROM bench_writes GROUP BY name").all()
        connection.exec_driver_sql("DELETE FROM bench_writes")
    return dict.fromkeys(WATCHED, 0) | dict(tuple(row) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--items", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, place(arguments.database, Path(name)) as made:
        catalogue, one_percent = Path(name) / CATALOGUE, Path(name) / ONE_PERCENT
        write_pages(catalogue, items=arguments.items)
        write_pages(one_percent, items=arguments.items, revision=lambda number: number % 100 == 0)
        databases = made(0)
        databases.make(CODE)
        real(databases, catalogue)
        watch(databases)
        found = {}
        for phase, pages in (("unchanged", catalogue), ("one_percent", one_percent)):
            real(databases, pages)
            found[phase] = written(databases)
    expected = {
        "unchanged": dict.fromkeys(WATCHED, 0),
        "one_percent": dict.fromkeys(WATCHED, -(-arguments.items // 100)) | {"quarantine": 0},
    }
    print(
        json.dumps(
            {
                "bench": "unneeded_writes",
                "database": arguments.database,
                "items": arguments.items,
                "written": found,
                "as_expected": found == expected,
            }
        )
    )
    return 0 if found == expected else 1


if __name__ == "__main__":
    sys.exit(main())
