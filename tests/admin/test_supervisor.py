"""The supervisor with small real programs: merged output, restarts, a clean stop, and nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ordersync_admin.supervisor import Program, Supervisor

WITHIN = 30.0

TALKS = "print('one'); print('two')"
SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"
IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
ENDS_IN_ORDER = """
import signal, sys, time
def stop(*_):
    print("tidied up", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""
STARTS_ANOTHER = """
import subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"started {other.pid}", flush=True)
time.sleep(600)
"""


class Log:
    """What the supervisor told, and its programs; safe for its threads."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._others = children_of(os.getpid())

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for owner, line in self.lines if owner == name]

    def children(self) -> list[int]:
        """Processes that this one has started since."""
        return [child for child in children_of(os.getpid()) if child not in self._others]


def program(code: str, name: str = "p", *arguments: str) -> Program:
    return Program(name=name, arguments=(sys.executable, "-c", code, *arguments), environment=dict(os.environ))


@contextmanager
def supervised(
    programs: Sequence[Program], *, first_pause: float = 0.01, longest_pause: float = 0.05
) -> Iterator[tuple[Supervisor, Log]]:
    log = Log()
    supervisor = Supervisor(programs, log, first_pause=first_pause, longest_pause=longest_pause)
    supervisor.start()
    try:
        yield supervisor, log
    finally:
        supervisor.kill()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether the process is there, and not just waiting to be noticed as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile
            children += map(int, (task / "children").read_text().split())
    return children


def test_lines_of_several_programs_come_with_their_names() -> None:
    with supervised([program(TALKS, "a"), program(TALKS, "b")], first_pause=600) as (_, log):
        until(lambda: len(log.lines) == 6)
    for name in ("a", "b"):
        assert log.of(name) == ["one", "two", "ended with 0; starts again in 600 s"]


def test_errors_and_broken_text_are_told_too() -> None:
    code = "import sys; sys.stderr.buffer.write(b'caf\\xe9\\n'); sys.exit(3)"
    with supervised([program(code)], first_pause=600) as (_, log):
        until(lambda: len(log.lines) == 2)
    assert log.of("p") == ["caf\ufffd", "ended with 3; starts again in 600 s"]


def test_a_line_without_end_neither_stops_the_program_nor_the_log() -> None:
    code = "import sys; sys.stdout.write('x' * 1_000_000); print(); print('after')"
    with supervised([program(code)], first_pause=600) as (_, log):
        until(lambda: "after" in log.of("p"))
    assert sum(len(line) for line in log.of("p") if set(line) == {"x"}) == 1_000_000


def test_a_log_that_nobody_reads_any_more_does_not_stop_the_programs() -> None:
    asked: list[str] = []

    def broken(_: str, line: str) -> None:
        asked.append(line)
        raise BrokenPipeError

    supervisor = Supervisor([program("print('up')")], broken, first_pause=0.01)
    supervisor.start()
    try:
        until(lambda: asked.count("up") >= 3)
    finally:
        supervisor.kill()


def test_what_dies_starts_again_after_pauses_that_grow() -> None:
    with supervised([program("print('up')")], first_pause=0.01, longest_pause=0.03) as (_, log):
        until(lambda: log.of("p").count("up") >= 4)
    said = [line for line in log.of("p") if line != "up"]
    assert said[:3] == [
        "ended with 0; starts again in 0.01 s",
        "ended with 0; starts again in 0.02 s",
        "ended with 0; starts again in 0.03 s",
    ]


def test_what_is_killed_starts_again() -> None:
    with supervised([program(SLEEPS)]) as (_, log):
        until(lambda: log.of("p") == ["ready"])
        [child] = log.children()
        os.kill(child, signal.SIGKILL)
        until(lambda: log.of("p").count("ready") == 2)
    assert log.of("p")[1] == "ended with -9; starts again in 0.01 s"


def test_a_program_that_cannot_start_is_tried_again() -> None:
    broken = Program(name="p", arguments=("/nowhere/at/all",), environment=dict(os.environ))
    with supervised([broken]) as (_, log):
        until(lambda: len([line for line in log.of("p") if "starts again" in line]) >= 2)
    assert any("/nowhere/at/all" in line or "No such file" in line for line in log.of("p"))


def test_stopping_asks_every_program_to_end_and_waits_for_it() -> None:
    with supervised([program(ENDS_IN_ORDER, "a"), program(ENDS_IN_ORDER, "b")]) as (supervisor, log):
        until(lambda: len(log.lines) == 2)
        children = log.children()
        assert len(children) == 2
        supervisor.stop()
        assert log.of("a") == log.of("b") == ["ready", "tidied up"]
        assert not any(lives(child) for child in children)


def test_who_does_not_end_in_time_is_ended() -> None:
    with supervised([program(IGNORES)]) as (supervisor, log):
        until(lambda: log.of("p") == ["ready"])
        [child] = log.children()
        supervisor.stop(within=0.1)
        assert not lives(child)
    assert log.of("p") == ["ready"]


def test_stopping_during_a_pause_starts_nothing_again() -> None:
    with supervised([program(TALKS)], first_pause=600) as (supervisor, log):
        until(lambda: len(log.lines) == 3)
        supervisor.stop()
        assert log.children() == []
    assert len(log.lines) == 3


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_program_started_ends_with_it(killed: bool) -> None:
    """Also where it dies without a chance to end it."""
    with supervised([program(STARTS_ANOTHER)], first_pause=600) as (supervisor, log):
        until(lambda: log.of("p"))
        grandchild = int(log.of("p")[0].split()[1])
        [child] = log.children()
        if killed:
            os.kill(child, signal.SIGKILL)
            until(lambda: not lives(grandchild))
            until(lambda: "ended with -9; starts again in 600 s" in log.of("p"))
        supervisor.stop(within=5)
        assert not lives(child)
        until(lambda: not lives(grandchild))


def test_a_program_sees_nothing_but_its_environment() -> None:
    code = "import os; print(sorted(name for name in os.environ if name.startswith('ORDERSYNC')))"
    given = {"ORDERSYNC_STATE": "x", "PATH": os.environ["PATH"]}
    with supervised(
        [Program(name="p", arguments=(sys.executable, "-c", code), environment=given)], first_pause=600
    ) as (_, log):
        until(lambda: len(log.lines) == 2)
    assert log.of("p")[0] == "['ORDERSYNC_STATE']"


SUPERVISES = """
import os, sys, time
from ordersync_admin.supervisor import Program, running
sleeps = (sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)")
ignores = (*sleeps[:2], "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleeps[2])
kinds = {"sleeps": sleeps, "ignores": ignores}
programs = [Program(name=str(n), arguments=kinds[kind], environment=dict(os.environ))
    for n, kind in enumerate(sys.argv[1:])]
with running(programs, lambda name, line: print(name, line, flush=True)):
    time.sleep(600)
"""


@contextmanager
def another_supervisor(*kinds: str) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A process that supervises programs, and their process ids once all are ready."""
    process = subprocess.Popen([sys.executable, "-c", SUPERVISES, *kinds], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children: list[int] = []
    try:
        for _ in kinds:
            assert process.stdout.readline().endswith("ready\n")
        children = children_of(process.pid)
        assert len(children) == len(kinds)
        yield process, children
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        for child in children:
            if lives(child):
                os.kill(child, signal.SIGKILL)


def test_no_program_outlives_a_supervisor_that_is_killed() -> None:
    with another_supervisor("sleeps", "sleeps") as (process, children):
        process.kill()
        process.wait()
        until(lambda: not any(lives(child) for child in children))


def test_ctrl_c_ends_all_programs() -> None:
    with another_supervisor("sleeps", "sleeps") as (process, children):
        process.send_signal(signal.SIGINT)
        process.wait(WITHIN)
        assert not any(lives(child) for child in children)


def test_ctrl_c_once_more_does_not_wait_for_those_that_will_not_end() -> None:
    with another_supervisor("ignores") as (process, children):
        process.send_signal(signal.SIGINT)
        stopping = threading.Event()
        assert not stopping.wait(0.5)
        assert process.poll() is None, "it waits"
        process.send_signal(signal.SIGINT)
        process.wait(WITHIN)
        assert not any(lives(child) for child in children)
