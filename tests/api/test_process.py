"""The API as a process of its own: it starts, serves and ends, or says in one line why not."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ordersync_adapters.settings import Settings
from ordersync_adapters.tokens.local_issuer import LocalIssuer
from ordersync_adapters.wiring import prepare_stores


def environment(state: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
    return {**kept, "ORDERSYNC_STATE": str(state), "ORDERSYNC_API_PORT": "0", **settings}


@contextmanager
def started(state: Path, *arguments: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "ordersync_api", *arguments],
        env=environment(state, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def running(state: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    with started(state) as process:
        assert process.stderr is not None
        found = re.search(r"listening on (http://\S+)", process.stderr.readline())
        assert found, process.stderr.read()
        yield process, found[1]


def test_it_serves_until_it_is_asked_to_end(tmp_path: Path) -> None:
    prepare_stores(Settings(state=tmp_path))
    with running(tmp_path) as (process, url), httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/health/ready").json()["status"] == "ready"
        token = LocalIssuer(tmp_path / "keys").issue("ada")
        answer = client.get(f"{url}/v1/administrations", headers={"Authorization": f"Bearer {token}"})
        assert answer.json() == {"data": [], "next": None}
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")


def one_line(state: Path, *arguments: str, **settings: str) -> str:
    """What it says before it ends because it cannot start."""
    with started(state, *arguments, **settings) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert errors.count("\n") == 1, errors
    return errors


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ORDERSYNC_API_PORT": "eighty"}, "ORDERSYNC_API_PORT"),
        ({"ORDERSYNC_API_PROT": "80"}, "ORDERSYNC_API_PROT"),
        ({"ORDERSYNC_AUTH_ISSUER": "https://issuer.example/"}, "set together"),
        ({"ORDERSYNC_SECRET_KEYS": "short"}, "ORDERSYNC_SECRET_KEYS"),
    ],
)
def test_settings_that_make_no_sense_stop_it_with_one_line(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    assert expected in one_line(tmp_path, **settings)


def test_a_taken_port_stops_it_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = one_line(tmp_path, ORDERSYNC_API_PORT=port)
    assert f"cannot listen on 127.0.0.1 port {port}" in line


def test_an_address_of_another_machine_stops_it_with_one_line(tmp_path: Path) -> None:
    assert "cannot listen on 192.0.2.1" in one_line(tmp_path, "--host", "192.0.2.1")
