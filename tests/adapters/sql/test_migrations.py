"""What the scripts make is what the tables say, and what breaks off leaves nothing."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.engine import URL

from ordersync_adapters.sql import migrations, unit_of_work
from ordersync_adapters.sql.creation import create_database
from ordersync_adapters.sql.engines import database_url, reading_engine, writing_engine
from ordersync_adapters.sql.metadata import admin, tenant
from ordersync_adapters.sql.tables.raw import RAW
from ordersync_core.kernel.errors import Conflict
from tests.adapters.sql.places import Place, postgres_place, sqlite_place

BOTH = pytest.mark.parametrize("folder", [migrations.ADMIN, migrations.TENANT], ids=lambda folder: folder.name)
REGISTERED = unit_of_work
"""Importing it enters every table into the metadata."""

BROKEN = """
from alembic import op

revision = "broken"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE first (id integer)")
    op.execute("CREATE TABLE first (id integer)")
"""
MENDED = BROKEN.replace("CREATE TABLE first", "CREATE TABLE second", 1)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield sqlite_place(tmp_path)
    else:
        with postgres_place(request.getfixturevalue("postgres"), "migrated", "created") as place:
            yield place


@pytest.fixture
def database(place: Place) -> URL:
    url = place.tenant("migrated")
    create_database(url)
    return url


@BOTH
def test_the_scripts_make_what_the_tables_say(place: Place, database: URL, folder: Path) -> None:
    migrations.upgrade(database, folder)
    expected = MetaData()
    for metadata in tables_of(place, folder):
        for table in metadata.sorted_tables:
            table.to_metadata(expected)

    def include(_: object, name: str | None, *__: object) -> bool:
        # SQLite has no identity columns, so Alembic takes its own counter for a missing default
        return place.is_postgres or name != "order"

    with writing_engine(database).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_schemas": True, "compare_server_default": True, "include_object": include}
        )
        assert compare_metadata(context, expected) == []


@BOTH
def test_the_scripts_make_the_very_same_schema(place: Place, database: URL, folder: Path) -> None:
    """Also what Alembic does not compare: conditions of indexes, collations, storage."""
    migrations.upgrade(database, folder)
    created = place.tenant("created")
    create_database(created)
    with writing_engine(created).begin() as connection:
        for metadata in tables_of(place, folder):
            metadata.create_all(connection)

    assert schema_of(database) == schema_of(created)


@BOTH
def test_a_database_at_its_newest_revision_is_left_alone(database: URL, folder: Path) -> None:
    assert not migrations.is_current(database, folder)
    migrations.upgrade(database, folder)
    before = schema_of(database)
    migrations.upgrade(database, folder)

    assert migrations.is_current(database, folder)
    assert schema_of(database) == before


def test_twins_migrate_once(database: URL) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: migrations.upgrade(database, migrations.TENANT), range(4)))

    assert migrations.is_current(database, migrations.TENANT)


def test_what_breaks_off_leaves_nothing_and_can_be_taken_up_again(database: URL, tmp_path: Path) -> None:
    broken, mended = scripts(tmp_path / "broken", BROKEN), scripts(tmp_path / "mended", MENDED)
    for _ in range(2):
        with pytest.raises(Exception, match="already exists"):
            migrations.upgrade(database, broken)
        assert tables_in(database) == set()

    migrations.upgrade(database, mended)
    assert tables_in(database) == {"first", "second", "alembic_version"}


def test_a_database_of_a_later_release_is_refused(database: URL) -> None:
    migrations.upgrade(database, migrations.TENANT)
    with writing_engine(database).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'tenant_9999'"))

    with pytest.raises(Conflict, match="tenant_9999"):
        migrations.upgrade(database, migrations.TENANT)


def tables_of(place: Place, folder: Path) -> Sequence[MetaData]:
    return [admin] if folder == migrations.ADMIN else [tenant, RAW[place.dialect]]


def scripts(folder: Path, script: str) -> Path:
    versions = folder / "versions"
    versions.mkdir(parents=True)
    (versions / "broken.py").write_text(script, encoding="utf-8")
    return folder


def tables_in(url: URL) -> set[str]:
    return set(inspect(reading_engine(url)).get_table_names())


def schema_of(url: URL) -> list[tuple[Any, ...]]:
    """Everything that a database says of itself, but for Alembic's own table."""
    engine = reading_engine(database_url(url))
    rows = _postgres_schema(engine) if url.get_backend_name() == "postgresql" else _sqlite_schema(engine)
    return sorted(row for row in rows if "alembic_version" not in str(row))


def _sqlite_schema(engine: Engine) -> list[tuple[Any, ...]]:
    """The constraints of a table are compared in any order."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return [(name, *sorted(line.strip(" \t,)") for line in sql.splitlines())) for name, sql in rows]


def _postgres_schema(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(map(str, row)) for query in _POSTGRES_CATALOG for row in connection.exec_driver_sql(query)]


_POSTGRES_CATALOG = (
    """SELECT table_schema, table_name, column_name, ordinal_position, data_type, collation_name, is_nullable,
              column_default, is_identity, identity_generation, generation_expression
       FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')""",
    "SELECT schemaname, indexname, indexdef FROM pg_indexes WHERE schemaname <> 'pg_catalog'",
    """SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)""",
    "SELECT oid::regclass, reloptions FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r'",
)
