import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[1]


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection whose work is committed at the end."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        yield connection


def value(url: str, query: str) -> Any:
    with connected(url) as connection:
        return connection.execute(text(query)).scalar_one()


def is_running(pid: int) -> bool:
    """Whether the process does anything; one that has ended may stay listed until its parent asks."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_the_session_server_is_version_18_and_takes_many_connections(postgres: PostgresServer) -> None:
    assert int(value(postgres.url(), "SHOW server_version_num")) // 10_000 == 18
    assert value(postgres.url(), "SHOW max_connections") == "300"
    assert value(postgres.url(), "SHOW fsync") == "off"
    assert value(postgres.url(), "SHOW server_encoding") == "UTF8"


def test_it_is_reached_by_tcp_on_this_machine_only_and_by_socket(postgres: PostgresServer) -> None:
    assert value(postgres.url(), "SELECT host(inet_server_addr())") == "127.0.0.1"
    assert value(postgres.url(), "SHOW listen_addresses") == "127.0.0.1"

    host = str(postgres.socket_folder)
    with psycopg.connect(host=host, port=postgres.port, user="postgres", dbname="postgres") as connection:
        assert connection.execute("SELECT inet_server_addr()").fetchone() == (None,)


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_has_an_empty_database(postgres_database: str, turn: str) -> None:
    engine = create_engine(postgres_database, poolclass=NullPool)

    assert inspect(engine).get_table_names() == []

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item (code text PRIMARY KEY)"))


def test_text_is_ordered_by_code_point(postgres_database: str) -> None:
    ordered = "SELECT string_agg(code, ' ' ORDER BY code) FROM (VALUES ('é'), ('a'), ('B'), ('b')) AS item(code)"

    assert value(postgres_database, ordered) == "B a b é"
    assert value(postgres_database, "SELECT upper('é')") == "É"


def test_a_database_can_be_copied_from_a_template(postgres: PostgresServer) -> None:
    postgres.create_database("a-template")
    with connected(postgres.url("a-template")) as connection:
        connection.execute(text("CREATE TABLE item AS SELECT '85123A' AS code"))

    postgres.create_database("a-copy", template="a-template")

    assert value(postgres.url("a-copy"), "SELECT code FROM item") == "85123A"
    postgres.drop_database("a-copy")
    postgres.drop_database("a-template")


def test_dropping_a_database_ends_its_connections_and_may_be_repeated(postgres: PostgresServer) -> None:
    postgres.create_database("in_use")
    with create_engine(postgres.url("in_use"), poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT 1"))

        postgres.drop_database("in_use")
        postgres.drop_database("in_use")

        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1"))
    assert value(postgres.url(), "SELECT count(*) FROM pg_database WHERE datname = 'in_use'") == 0


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_committed_survives_a_kill_and_nothing_else(postgres: PostgresServer, durable: bool) -> None:
    with PostgresServer(durable=durable) as server:
        assert value(server.url(), "SHOW fsync") == ("on" if durable else "off")
        assert value(server.url(), "SHOW synchronous_commit") == "on"
        server.create_database("acme")
        url = server.url("acme")
        with connected(url) as connection:
            connection.execute(text("CREATE TABLE item (code text PRIMARY KEY)"))
            connection.execute(text("INSERT INTO item VALUES ('committed')"))

        with create_engine(url, poolclass=NullPool).connect() as unfinished:
            unfinished.execute(text("INSERT INTO item VALUES ('not committed')"))
            server.kill()
            with pytest.raises(OperationalError):
                unfinished.execute(text("SELECT 1"))
        with pytest.raises(OperationalError):
            value(url, "SELECT 1")

        server.restart()
        assert value(url, "SELECT string_agg(code, ' ') FROM item") == "committed"
        server.stop()
        server.stop()
        server.start()
        assert value(url, "SELECT string_agg(code, ' ') FROM item") == "committed"
        server.restart()
        assert value(url, "SELECT string_agg(code, ' ') FROM item") == "committed"


def test_a_kill_ends_a_server_that_is_busy(postgres: PostgresServer) -> None:
    busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT sum%'"
    with PostgresServer() as server:
        with closing(psycopg.connect(host="127.0.0.1", port=server.port, user="postgres")) as connection:
            backend = connection.info.backend_pid
            connection.pgconn.send_query(b"SELECT sum(n) FROM generate_series(1, 100000000000) AS n")
            while value(server.url(), busy) == 0:
                time.sleep(0.01)

            server.kill()

            assert not is_running(backend)
        server.restart()
        assert value(server.url(), "SELECT 1") == 1


def test_it_runs_where_user_namespaces_are_refused(postgres: PostgresServer) -> None:
    with PostgresServer(user_namespaces=False) as server:
        assert value(server.url(), "SELECT 1") == 1
        server.kill()
        server.restart()
        assert value(server.url(), "SELECT 1") == 1


def test_servers_stand_side_by_side_and_leave_nothing(postgres: PostgresServer) -> None:
    with PostgresServer() as server:
        pid, folder = server.process_id, server.folder
        assert server.port != postgres.port
        assert is_running(pid)
        assert folder.is_dir()
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()

    assert not is_running(pid)
    assert not folder.exists()
    assert value(postgres.url(), "SELECT 1") == 1


def test_it_dies_with_its_parent_and_the_next_server_removes_what_is_left(postgres: PostgresServer) -> None:
    script = """
import time
from tests.postgres import PostgresServer

with PostgresServer() as server:
    print(server.process_id, server.folder, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert is_running(int(pid))
        parent.send_signal(signal.SIGKILL)
    while is_running(int(pid)):
        time.sleep(0.01)

    with PostgresServer():
        assert not Path(folder).exists()
        assert postgres.folder.is_dir()


@pytest.mark.parametrize(("ci", "outcome"), [({}, "1 skipped"), ({"CI": "true"}, "1 error")])
def test_without_postgres_tests_are_skipped_but_fail_in_ci(tmp_path: Path, ci: dict[str, str], outcome: str) -> None:
    inherited = {name: text for name, text in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    test = f"{__file__}::{test_the_session_server_is_version_18_and_takes_many_connections.__name__}"

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**inherited, **ci, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome in ran.stdout
    assert "no Postgres: the program setpriv of util-linux is missing" in ran.stdout
