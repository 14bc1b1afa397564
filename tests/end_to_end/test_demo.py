"""`ordersync demo` and `ordersync up` as a person starts them: real processes, real requests."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

pytestmark = pytest.mark.timeout(240)

ORDERSYNC = (sys.executable, "-m", "ordersync_admin")
RUN_FIGURES = {
    "type",
    "state",
    "read",
    "created",
    "updated",
    "deleted",
    "unchanged",
    "quarantined",
    "events",
    "seconds",
}
FIGURES = {
    "events",
    "delivered",
    "attempts",
    "dead_letters",
    "sequence_gaps",
    "position_gaps",
    "signature_failures",
    "lost",
}


def environment(**settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
    return {**plain, **settings}


@pytest.mark.e2e
def test_the_demo_ends_with_figures_that_held(tmp_path: Path) -> None:
    """Twice in a row on one state folder; the second time on items of one's own."""
    state = ("--state", str(tmp_path / "state"))
    items = tmp_path / "items.csv"
    items.write_text("Code,Description\n" + "".join(f"I{n},Item {n}\n" for n in range(150)))
    for extra, count in (((), 3_947), (("--items", str(items)), 150)):
        done = subprocess.run(
            [*ORDERSYNC, "demo", "--once", "--json", *state, *extra],
            # any free ones: another platform may be started on this machine at the same moment
            env=environment(ORDERSYNC_API_PORT="0", ORDERSYNC_FUNCTIONS_PORT="0"),
            capture_output=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        figures = orjson.loads(done.stdout.splitlines()[-1])
        assert set(figures) >= FIGURES
        assert [run["read"] for run in figures["runs"]] == [count, 0, count, -(-count // 100)]
        assert all(set(run) >= RUN_FIGURES for run in figures["runs"])
        assert figures["events"] == count + -(-count // 100)


@pytest.mark.e2e
def test_a_demo_whose_receiver_takes_nothing_fails(tmp_path: Path) -> None:
    """Nobody listens at the caller's own address: what was not delivered is named, and the exit code says it."""
    items = tmp_path / "items.csv"
    items.write_text("Code,Description\nI1,Item\n")
    own = ("--items", str(items), "--webhook", "http://127.0.0.1:9/nobody", "--patience", "3")
    done = subprocess.run(
        [*ORDERSYNC, "demo", "--once", "--json", "--state", str(tmp_path / "state"), *own],
        env=environment(),
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr.decode()
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert any(failure.startswith("lost:") for failure in figures["failures"])


def test_up_ends_its_start_with_a_curl_line_that_works_and_restarts_what_dies(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        up = subprocess.Popen(
            [*ORDERSYNC, "up"],
            env=environment(
                ORDERSYNC_STATE=str(tmp_path / "state"), ORDERSYNC_API_PORT="18080", ORDERSYNC_FUNCTIONS_PORT="17071"
            ),
            stderr=file,
        )
    try:
        _until(lambda: "Ctrl-C stops everything" in log.read_text(), log)
        [curl] = re.findall(r"^curl .*$", log.read_text(), re.MULTILINE)
        answer = subprocess.run(shlex.split(curl), capture_output=True, timeout=30, check=True).stdout
        assert orjson.loads(answer) == {"data": [], "next": None}
        jobs = [child for child in _children(up.pid) if b"ordersync_jobs" in _command(child)]
        os.kill(jobs[0], signal.SIGKILL)
        _until(lambda: "ended with -9; starts again" in log.read_text(), log)
        _until(lambda: [c for c in _children(up.pid) if b"ordersync_jobs" in _command(c)] not in ([], jobs), log)
        children = _children(up.pid)
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, log.read_text()
        assert not [child for child in children if Path(f"/proc/{child}").exists()]
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()


def _until(holds: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
