import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import ProgrammingError

from ordersync_adapters.sql.engines import (
    create_sqlite_file,
    database_url,
    now_in_microseconds,
    reading_engine,
    writing_engine,
)
from ordersync_adapters.sql.errors import sql_errors
from ordersync_adapters.sql.transactions import raise_core_errors
from ordersync_adapters.sql.types import database_moment, from_microseconds
from ordersync_core.kernel.errors import ChangedMeanwhile, InvalidInput, TemporaryFailure
from tests.postgres import PostgresServer


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    create_sqlite_file(tmp_path / "acme.db")
    return f"sqlite:///{tmp_path}/acme.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_database")
    return name


def run(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def run_each(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(text(statement))


def value(engine: Engine, statement: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(statement)).scalar_one()


def wait_until_ended(url: str) -> None:
    """Until nobody else has a session in the database."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while value(writing_engine(url), others) != 0:
        pass


# addresses


@pytest.mark.parametrize("written", ["postgresql://h/db", "postgres://h/db", "postgresql+psycopg://h/db"])
def test_every_spelling_of_postgres_means_psycopg_with_a_bounded_connect(written: str) -> None:
    url = database_url(written)

    assert url.drivername == "postgresql+psycopg"
    assert url.query["connect_timeout"] == "10"
    assert url.query["application_name"] == "ordersync"


def test_what_the_address_says_outdoes_the_defaults() -> None:
    url = database_url("postgresql://h/db?connect_timeout=2&application_name=report")

    assert url.query["connect_timeout"] == "2"
    assert url.query["application_name"] == "report"


@pytest.mark.parametrize(
    "written", ["", "acme.db", "sqlite://", "sqlite:///:memory:", "mysql://h/db", "postgresql+asyncpg://h/db"]
)
def test_another_address_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        database_url(written)

    assert "\n" not in str(refused.value)


# SQLite


def test_a_sqlite_connection_is_durable_and_checks_foreign_keys(sqlite_url: str) -> None:
    engine = writing_engine(sqlite_url)

    assert value(engine, "PRAGMA journal_mode") == "wal"
    assert value(engine, "PRAGMA synchronous") == 2  # FULL
    assert value(engine, "PRAGMA foreign_keys") == 1
    assert value(engine, "PRAGMA busy_timeout") == 10_000


def test_a_missing_sqlite_file_is_no_new_database(tmp_path: Path) -> None:
    with pytest.raises(TemporaryFailure, match=r"missing\.db"), sql_errors():
        value(writing_engine(f"sqlite:///{tmp_path}/missing.db"), "SELECT 1")

    assert not (tmp_path / "missing.db").exists()


def test_a_file_name_may_hold_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b%3F#é?.db"
    create_sqlite_file(path)
    create_sqlite_file(path)

    assert [child.name for child in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes()[:16] == b"SQLite format 3\0"


def test_a_file_made_by_another_program_is_switched_to_wal_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "restored.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE item AS SELECT '85123A' AS code")
    other.commit()
    other.close()

    create_sqlite_file(path)

    engine = writing_engine(f"sqlite:///{path}")
    assert value(engine, "PRAGMA journal_mode") == "wal"
    assert value(engine, "SELECT code FROM item") == "85123A"


def test_many_processes_may_create_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tenants" / "acme.db"
    script = """
import sys
from pathlib import Path
from sqlalchemy import text
from ordersync_adapters.sql.engines import create_sqlite_file, writing_engine

path = Path(sys.argv[1])
sys.stdin.readline()
create_sqlite_file(path)
with writing_engine(f"sqlite:///{path}").begin() as connection:
    connection.execute(text("CREATE TABLE IF NOT EXISTS start (at INTEGER)"))
    connection.execute(text("INSERT INTO start VALUES (now_in_microseconds())"))
"""
    command = [sys.executable, "-c", script, str(path)]
    starting = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        for process in starting:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate()[1] for process in starting] == [""] * 4
    finally:
        for process in starting:
            process.kill()
            process.wait()

    assert value(reading_engine(f"sqlite:///{path}"), "SELECT count(*) FROM start") == 4
    assert [child.name for child in path.parent.iterdir() if child.name.startswith(".")] == []


def test_no_update_of_simultaneous_writers_is_lost(url: str) -> None:
    engine = writing_engine(url, keep=2)
    run(engine, "CREATE TABLE counter (n INTEGER)")
    run(engine, "INSERT INTO counter VALUES (0)")
    lock = "" if url.startswith("sqlite") else " FOR UPDATE"

    def count(_: int) -> None:
        with engine.begin() as connection:
            n = connection.execute(text(f"SELECT n FROM counter{lock}")).scalar_one()
            connection.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(200)))

    assert value(engine, "SELECT n FROM counter") == 200
    engine.dispose()


def test_a_migration_that_fails_half_way_leaves_nothing(url: str) -> None:
    engine = writing_engine(url)

    with pytest.raises(Exception, match="no_such_table"), engine.begin() as connection:
        run_each(connection, "CREATE TABLE item (code TEXT)", "INSERT INTO no_such_table VALUES (1)")

    run(engine, "CREATE TABLE item (code TEXT)")


def test_a_reader_on_sqlite_sees_one_moment_while_others_write(sqlite_url: str) -> None:
    writing, reading = writing_engine(sqlite_url), reading_engine(sqlite_url)
    run(writing, "CREATE TABLE item (code TEXT)")

    with reading.connect() as connection:
        before = connection.execute(text("SELECT count(*) FROM item")).scalar_one()
        run(writing, "INSERT INTO item VALUES ('85123A')")
        assert connection.execute(text("SELECT count(*) FROM item")).scalar_one() == before == 0
    assert value(reading, "SELECT count(*) FROM item") == 1


def test_a_reader_in_autocommit_sees_each_moment(url: str) -> None:
    writing = writing_engine(url)
    run(writing, "CREATE TABLE item (code TEXT)")

    with reading_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.execute(text("SELECT count(*) FROM item")).scalar_one() == 0
        run(writing, "INSERT INTO item VALUES ('85123A')")
        assert connection.execute(text("SELECT count(*) FROM item")).scalar_one() == 1


def test_a_reading_engine_refuses_to_write(url: str) -> None:
    run(writing_engine(url), "CREATE TABLE item (code TEXT)")

    with pytest.raises(TemporaryFailure, match=r"read-?only"), sql_errors():
        run(reading_engine(url), "INSERT INTO item VALUES ('85123A')")


# what both promise


def test_an_idle_database_holds_no_connection(postgres: PostgresServer, postgres_database: str) -> None:
    engine, keeping = writing_engine(postgres_database), writing_engine(postgres_database, keep=1)
    watching = writing_engine(postgres.url())
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{postgres_database.rpartition('/')[2]}'"

    def connections(at_most: int) -> object:
        """The server takes a moment to see that a client has gone."""
        while (found := value(watching, count)) != at_most:
            pass
        return found

    run(engine, "SELECT 1")
    assert connections(0) == 0
    run(keeping, "SELECT 1")
    assert connections(1) == 1
    keeping.dispose()
    assert connections(0) == 0


def test_the_isolation_is_read_committed_whatever_the_server_prefers(postgres_database: str) -> None:
    name = postgres_database.rpartition("/")[2]
    run(writing_engine(postgres_database), f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")

    for engine in (writing_engine(postgres_database), reading_engine(postgres_database)):
        assert value(engine, "SHOW transaction_isolation") == "read committed"


def test_the_database_tells_the_time_and_it_goes_on_within_a_transaction(url: str) -> None:
    before = from_microseconds(now_in_microseconds())

    with writing_engine(url).begin() as connection:
        first, second = (connection.execute(select(database_moment())).scalar_one() for _ in range(2))

    # the servers of these tests are on this machine
    assert before <= first < second <= from_microseconds(now_in_microseconds())


# errors


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(TemporaryFailure, match=r"refused") as failure, sql_errors():
        value(writing_engine("postgresql://postgres@127.0.0.1:1/acme"), "SELECT 1")

    assert "\n" not in str(failure.value)


def test_a_database_that_is_not_there_is_told_in_one_line(postgres: PostgresServer) -> None:
    with pytest.raises(TemporaryFailure, match=r'"missing" does not exist') as failure, sql_errors():
        value(writing_engine(postgres.url("missing")), "SELECT 1")

    assert "\n" not in str(failure.value)


def test_a_session_that_the_server_ends_is_a_temporary_failure_and_the_pool_recovers(postgres_database: str) -> None:
    engine = writing_engine(postgres_database, keep=1)
    end_it = "SELECT pg_terminate_backend(pg_backend_pid())"

    with pytest.raises(TemporaryFailure), sql_errors():
        value(engine, end_it)
    pid = value(engine, "SELECT pg_backend_pid()")
    run(writing_engine(postgres_database), f"SELECT pg_terminate_backend({pid})")

    assert value(engine, "SELECT 1") == 1
    engine.dispose()


@pytest.mark.parametrize(
    "bound", ["idle_in_transaction_session_timeout", "transaction_timeout", "idle_session_timeout"]
)
def test_a_session_that_was_idle_for_too_long_is_a_temporary_failure(postgres_database: str, bound: str) -> None:
    engine = writing_engine(postgres_database)
    raise_core_errors(engine)
    with engine.connect() as connection:
        run_each(connection, f"SET {bound} = '10ms'")
        connection.commit()
        if bound != "idle_session_timeout":
            connection.begin()
            run_each(connection, "SELECT 1")
        wait_until_ended(postgres_database)
        with pytest.raises(TemporaryFailure):
            run_each(connection, "SELECT 1")


def test_a_server_that_takes_no_writes_for_now_is_left_for_another_connection(postgres_database: str) -> None:
    """A failover: the address leads to the standby for a while, and connections to it outlive that."""
    engine = writing_engine(postgres_database, keep=1)
    run(engine, "CREATE TABLE item (code TEXT)")
    engine.dispose()
    server, _, name = postgres_database.rpartition("/")
    operator = writing_engine(f"{server}/postgres")

    run(operator, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(TemporaryFailure, match="takes no writes for now"), sql_errors():
        run(engine, "INSERT INTO item VALUES ('85123A')")
    run(operator, f"ALTER DATABASE {name} RESET default_transaction_read_only")

    run(engine, "INSERT INTO item VALUES ('85123A')")
    engine.dispose()


def test_a_database_that_others_are_making_or_dropping_is_a_temporary_failure(postgres_database: str) -> None:
    server, _, name = postgres_database.rpartition("/")
    operator = writing_engine(f"{server}/postgres").execution_options(isolation_level="AUTOCOMMIT")

    with writing_engine(postgres_database).connect() as connection:
        run_each(connection, "SELECT 1")
        with pytest.raises(TemporaryFailure, match="being accessed by other users"), sql_errors():
            value(operator, f"DROP DATABASE {name}")


def test_a_statement_after_one_that_failed_is_a_change_meanwhile(postgres_database: str) -> None:
    engine = writing_engine(postgres_database)

    with engine.connect() as connection:
        with pytest.raises(ProgrammingError, match="no_such_table"):
            run_each(connection, "SELECT * FROM no_such_table")
        with pytest.raises(ChangedMeanwhile, match="has failed before"), sql_errors():
            run_each(connection, "SELECT 1")


def test_an_exhausted_pool_is_a_temporary_failure(sqlite_url: str) -> None:
    engine = reading_engine(sqlite_url, keep=1)
    engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    held = [engine.connect() for _ in range(21)]

    with pytest.raises(TemporaryFailure, match="in use"), sql_errors():
        engine.connect()

    for connection in held:
        connection.close()
    engine.dispose()


def test_a_key_that_is_taken_is_a_change_meanwhile(url: str) -> None:
    engine = writing_engine(url)
    run(engine, "CREATE TABLE item (code TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    run(engine, "INSERT INTO item VALUES ('85123A', 'holder')")

    for twin in ("('85123A', 'lantern')", "('71053', 'holder')"):
        with pytest.raises(ChangedMeanwhile), sql_errors():
            run(engine, f"INSERT INTO item VALUES {twin}")


def test_other_mistakes_pass_as_they_are(url: str) -> None:
    engine = writing_engine(url)
    run(engine, "CREATE TABLE item (code TEXT NOT NULL)")

    for mistake in ("INSERT INTO item VALUES (NULL)", "SELECT no_such_column FROM item", "no SQL at all"):
        with pytest.raises(Exception, match=r"item|syntax") as passed, sql_errors():
            run(engine, mistake)
        assert type(passed.value).__module__ == "sqlalchemy.exc"


def test_a_file_that_stays_locked_is_a_change_meanwhile(sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0)

    with writing_engine(sqlite_url).begin(), pytest.raises(ChangedMeanwhile, match="locked"), sql_errors():
        other.execute("BEGIN IMMEDIATE")

    other.close()


def test_a_deadlock_is_a_change_meanwhile_for_one_of_two(postgres_database: str) -> None:
    engine = writing_engine(postgres_database)
    run(engine, "CREATE TABLE item (code TEXT PRIMARY KEY, stock INTEGER)")
    run(engine, "INSERT INTO item VALUES ('a', 0), ('b', 0)")
    both_hold_one = threading.Barrier(2)

    def take(first: str, second: str) -> str:
        try:
            with sql_errors(), engine.begin() as connection:
                connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
                connection.execute(text("UPDATE item SET stock = 1 WHERE code = :code"), {"code": first})
                both_hold_one.wait()
                connection.execute(text("UPDATE item SET stock = 1 WHERE code = :code"), {"code": second})
        except ChangedMeanwhile:
            return "changed meanwhile"
        return "kept"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(take, ("a", "b"), ("b", "a")))

    assert sorted(outcomes) == ["changed meanwhile", "kept"]


def test_a_full_disk_is_a_temporary_failure(sqlite_url: str) -> None:
    engine = writing_engine(sqlite_url)

    too_much = "INSERT INTO item VALUES (zeroblob(100000))"

    with pytest.raises(TemporaryFailure, match="full") as failure, sql_errors(), engine.begin() as connection:
        run_each(connection, "PRAGMA max_page_count = 3", "CREATE TABLE item (code TEXT)", too_much)

    assert "\n" not in str(failure.value)
