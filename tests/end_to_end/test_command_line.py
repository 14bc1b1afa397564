"""The command line with a running platform: what a person does from an empty folder on, and what `up` and `demo` do
when something comes between."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pytest
from rich.cells import cell_len

from tests.admin.terminal import ORDERSYNC, at_a_terminal, written
from tests.end_to_end.platform import CODE, Platform, sqlite_platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

A = ("-a", CODE)
WITHIN = 90.0
ITEMS = "Code,Description\nT-1,Teapot\n[red]x[/red],[/] Kettle\nT-3,漢字 🎁\n T-1,Taken\n"


# a person's first hour


def test_from_an_empty_folder_to_a_verified_delivery(tmp_path: Path) -> None:
    follow = ("events", "tail", *A, "--follow")
    with sqlite_platform(tmp_path) as platform, at_a_terminal(*follow, state=tmp_path / "state") as followed:
        followed.read_until("There are no events yet.")
        _connect(platform)
        terminal = _watched(platform, "jobs", "start", "ItemSync", *A, "--watch")
        assert "ItemSync Succeeded" in terminal
        assert "4 of 4" in terminal
        assert "To see why: ordersync flows quarantine list item -a acme" in terminal
        for key in ("T-1", "T-3", "[red]x[/red]"):
            followed.read_until(f"  {key}  by ")
        followed.press(b"\x03")
        assert followed.end() == 130

        [quarantined] = platform.cli("flows", "quarantine", "list", "item", *A)
        assert "T-1 is taken" in quarantined["reason"]
        assert platform.cli("flows", "quarantine", "retry", "item", quarantined["key"], *A) == {"records": 1}
        assert platform.cli("jobs", "start", "ItemSync", *A, "--watch")["result"]["quarantined"] == 1
        executions = platform.cli("flows", "executions", "item", *A)
        assert [(each["created"], each["quarantined"]) for each in executions] == [(0, 1), (3, 1)]
        assert "4 read, 3 created, 1 quarantined" in _said(platform, "flows", "executions", "item", *A)
        assert [item["code"] for item in platform.cli("items", "list", *A)] == ["T-1", "T-3", "[red]x[/red]"]

        port = _free_port()
        webhook = platform.cli("webhooks", "create", f"http://127.0.0.1:{port}/listen", *A)
        receiver = ("webhooks", "listen", "--port", str(port), "--secret", webhook["secret"], "--json")
        listening = platform.start("ordersync_admin", *receiver)
        log = _log_of(platform, "--json", listening)
        platform.until(lambda: "Listening on" in log.read_text(), "the receiver listens")
        assert platform.cli("webhooks", "replay", webhook["id"], *A, "--after", "0") == {"deliveries": 3}
        platform.until(lambda: log.read_text().count('"verified":true') == 3, "three verified requests")
        event = platform.cli("events", "tail", *A, "--last", "1")
        trace = platform.cli("trace", event["id"], *A)
        assert [delivery["state"] for delivery in trace["deliveries"]] == ["Delivered"]
        assert [attempt["status"] for attempt in trace["deliveries"][0]["attempts"]] == [204]


def test_watching_a_run_that_nobody_takes_says_so(tmp_path: Path) -> None:
    watch = ("jobs", "start", "ItemSync", *A, "--watch")
    with sqlite_platform(tmp_path), at_a_terminal(*watch, state=tmp_path / "state") as terminal:
        terminal.read_until("No Jobs process has taken the run yet: is 'ordersync up' running?")
        terminal.press(b"\x03")
        assert terminal.end() == 130
        assert "The run goes on: ordersync jobs watch" in terminal.text


# up


def test_up_at_a_terminal_and_ctrl_c(tmp_path: Path) -> None:
    with at_a_terminal("up", state=tmp_path / "state", settings=_ports()) as terminal:
        terminal.read_until("Ctrl-C stops everything.")
        assert "OrderSync is up." in terminal.text
        assert "functions  INFO" in terminal.text
        children = _processes(tmp_path)
        assert len(children) >= 3
        terminal.press(b"\x03")
        assert terminal.end() == 0
        assert terminal.text.rstrip().endswith("Stopped.")
    assert _processes(tmp_path) == []


def test_up_with_json_is_for_programs_and_takes_free_ports(tmp_path: Path) -> None:
    with _running("up", "--json", state=tmp_path / "state", settings=_ports()) as process:
        assert process.stdout is not None
        told = orjson.loads(process.stdout.readline())
        answer = subprocess.run(told["curl"], shell=True, capture_output=True, timeout=30, check=True).stdout
        assert orjson.loads(answer) == {"data": [], "next": None}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert _processes(tmp_path) == []


def test_up_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    with _running("up", "--json", state=tmp_path / "state", settings=_ports()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
        _until(lambda: _processes(tmp_path) == [])


# demo


@pytest.fixture
def few_items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("Code,Description\n" + "".join(f"I{n},Item {n}\n" for n in range(119)) + " I0,Taken\n")
    return path


def test_the_summary_fits_eighty_columns_and_taken_ports_do_not_matter(tmp_path: Path, few_items: Path) -> None:
    words = ("demo", "--once", "--items", str(few_items), "--state", str(tmp_path / "demo"))
    with _taken(8080), _taken(7071):
        terminal = written(*words, state=tmp_path)
    assert terminal.process.returncode == 0, terminal.text
    lines = terminal.text.splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    summary = [" ".join(line.split()) for line in lines]
    for line in (
        "run first no change full re-read 1 % changed",
        "state Succeeded Succeeded Succeeded Succeeded",
        "read 120 0 120 2",
        "created 119 0 0 0",
        "unchanged 0 0 119 0",
        "quarantined 1 0 1 0",
        "lost 0",
        "Every expectation held.",
    ):
        assert line in summary, terminal.text
    assert _processes(tmp_path) == []


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "mine"
    state.mkdir()
    (state / "precious").write_text("data")
    done = _demo(state)
    assert done.returncode == 1
    assert b"holds something else than an earlier demo" in done.stderr
    [line] = done.stdout.splitlines()
    failed = orjson.loads(line)
    assert failed["passed"] is False
    assert "holds something else" in failed["failures"][0]
    assert (state / "precious").read_text() == "data"


def test_a_demo_whose_platform_cannot_start_is_one_object_and_one_line(tmp_path: Path, few_items: Path) -> None:
    """The state folder is a file: nothing can be kept."""
    (tmp_path / "file").write_text("")
    done = _demo(tmp_path / "file" / "state", "--items", str(few_items))
    assert done.returncode == 1
    assert orjson.loads(done.stdout.splitlines()[-1])["passed"] is False
    assert done.stderr.decode().splitlines()[-1].startswith("ordersync: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("after", "number"),
    [
        ("nothing", signal.SIGINT),
        ("files", signal.SIGTERM),
        ("programs", signal.SIGHUP),
        ("runs", signal.SIGINT),
        ("runs", signal.SIGKILL),
    ],
)
def test_a_demo_that_is_interrupted_leaves_nothing_running(
    after: str, number: signal.Signals, tmp_path: Path, few_items: Path
) -> None:
    state = tmp_path / "demo"
    reached: Mapping[str, Callable[[], object]] = {
        "nothing": lambda: True,
        "files": (state / "admin.db").exists,
        "programs": lambda: len(_processes(tmp_path)) > 4,
        "runs": lambda: (state / "sandbox.log").exists() and "Items" in (state / "sandbox.log").read_text(),
    }
    with _running("demo", "--once", "--items", str(few_items), "--state", str(state), state=tmp_path) as process:
        _until(reached[after])
        process.send_signal(number)
        code = process.wait(WITHIN)
        _until(lambda: _processes(tmp_path) == [])
    if after != "nothing" and number is not signal.SIGKILL:
        assert code == 130


# what the tests above stand on


def _connect(platform: Platform) -> None:
    """As a person does it: a sandbox, a connection with the settings that it tells, consent, a flow."""
    path = platform.folder / "items.csv"
    path.write_text(ITEMS)
    sandbox = platform.start(
        "ordersync_admin", "sandbox", "exact-online", "--port", "0", "--items", str(path), "--json"
    )
    log = _log_of(platform, "--json", sandbox)
    platform.until(lambda: log.read_text().startswith("{"), "the sandbox is up")
    told = orjson.loads(log.read_text().splitlines()[0])
    settings = {"host": told["url"], "division": told["division"], "client_id": told["client_id"]}
    connection = platform.cli(
        "connections", "create", "exact_online", *A, "--settings", orjson.dumps(settings).decode(),
        "--secrets", '{"client_secret": "sandbox-secret"}',
    )["id"]  # fmt: skip
    platform.start("ordersync_functions")
    platform.start("ordersync_jobs", "--launch")
    platform.until(lambda: _is_taken(platform.functions_port), "Functions answers")
    assert platform.cli("connections", "authorise", connection, *A, "--follow")["state"] == "Connected"
    platform.cli("flows", "set", "item", *A, "--connection", connection)


def _log_of(platform: Platform, last_word: str, process: "subprocess.Popen[bytes]") -> Path:
    place = platform._processes.index(process)
    return platform.folder / f"{last_word}-{place}.log"


def _watched(platform: Platform, *words: str) -> str:
    settings = {name: value for name, value in platform.environment.items() if name.startswith("ORDERSYNC_")}
    terminal = written(*words, state=platform.folder / "state", settings=settings)
    assert terminal.process.returncode == 0, terminal.text
    return terminal.text


def _said(platform: Platform, *words: str) -> str:
    done = subprocess.run([*ORDERSYNC, *words], env=platform.environment, capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


def _demo(state: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*ORDERSYNC, "demo", "--once", "--json", "--state", str(state), *words],
        env=_environment(),
        capture_output=True,
        timeout=200,
        check=False,
    )


@contextmanager
def _running(
    *words: str, state: Path, settings: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [*ORDERSYNC, *words],
        env={**_environment(), "ORDERSYNC_STATE": str(state), **(settings or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}


def _ports() -> dict[str, str]:
    return {"ORDERSYNC_API_PORT": "0", "ORDERSYNC_FUNCTIONS_PORT": "0"}


def _processes(folder: Path) -> list[int]:
    """Living processes that work in the folder, by their environment, without those that only start there."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        with suppress(OSError):
            if f"={folder}".encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
    return found


def _until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _taken(port: int) -> Iterator[None]:
    """Somebody listens there: this process, or whoever does already."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listening.bind(("127.0.0.1", port))
            listening.listen()
        assert _is_taken(port)
        yield
