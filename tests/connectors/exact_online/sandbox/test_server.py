"""The sandbox as a process, and as a thread."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from ordersync_connectors.exact_online.sandbox import SandboxServer, SandboxSettings
from tests.connectors.exact_online.sandbox.caller import ITEMS, Caller, running

PROGRAM = """
import sys
from pathlib import Path
from ordersync_connectors.exact_online.sandbox import SandboxSettings, run_sandbox
run_sandbox(SandboxSettings(items=Path(sys.argv[1])), ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_prints_nothing_itself(item_file: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(item_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, trust_env=False) as http:
            assert http.get("/_sandbox/state").json()["items"] == ITEMS
            http.get("/nothing")
            http.post("/_sandbox/faults", json={"match": "Me", "do": "hang", "seconds": 600})
            with pytest.raises(httpx.ReadTimeout):
                http.get("/api/v1/current/Me", timeout=0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("ended\n", "", 0)


def test_two_sandboxes_take_ports_of_their_own() -> None:
    with SandboxServer() as one, SandboxServer() as other:
        assert one.url != other.url
        assert one.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{other.url}/_sandbox/state", trust_env=False).json()["items"] == 0


def test_a_port_that_is_taken_is_told() -> None:
    with SandboxServer() as one:
        port = int(one.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), SandboxServer(SandboxSettings(port=port)):
            pytest.fail("it started")


def test_when_it_ends_the_address_is_free_again() -> None:
    with SandboxServer() as one:
        port = int(one.url.rpartition(":")[2])
        httpx.get(f"{one.url}/_sandbox/state", trust_env=False)
    with SandboxServer(SandboxSettings(port=port)) as again:
        assert again.url.endswith(f":{port}")


def test_what_is_not_exact_online_is_not_found(site: Caller) -> None:
    assert site.http.get("/").status_code == 404
    assert site.http.get("/docs").status_code == 404
    assert site.http.get("/_sandbox/nothing").status_code == 404


def test_addresses_in_answers_follow_the_host_the_caller_used(site: Caller) -> None:
    answer = site.get("system/Divisions", headers={"Host": "exact.example:8443"})
    assert answer.json()["d"]["results"][0]["__metadata"]["uri"].startswith("http://exact.example:8443/api/v1/1/")


def test_many_callers_at_once_each_read_all(item_file: Path) -> None:
    settings = SandboxSettings(items=item_file, minutely_limit=10_000)
    counts: list[int] = []
    with running(settings) as caller:

        def read() -> None:
            own = Caller(caller.url, settings)
            own.tokens = caller.tokens
            try:
                counts.append(len(list(own.walk("logistics/Items?$filter=Code ge 'A'&$select=Code"))))
            finally:
                own.close()

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == [ITEMS] * 8
