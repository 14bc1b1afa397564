"""Runs the shells as separate processes: merges their output, starts again what dies, stops them all cleanly."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from attrs import define, field, frozen

LEASH = Path(__file__).with_name("leash.py")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_AFTER = 60.0
"""Seconds that a process must have lived for its next death to count as the first."""

STOP_WITHIN = 15.0
LAST_LINES_WITHIN = 2.0
LONGEST_LINE = 64 * 1024


def polite_requests() -> list[signal.Signals]:
    """How this process may be asked to end besides Ctrl-C: SIGTERM, and a closed terminal unless `nohup` is there."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGHUP] if hangs_up else [signal.SIGTERM]


@frozen(kw_only=True)
class Program:
    """A process to keep alive. `name` stands before each line of its output; `environment` is all that it gets.

    arguments: the first one is the path of an executable file.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


def python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


@define
class Supervisor:
    """log: gets (program's name, line) for each line that a program writes, and for each unwanted end of it.

    Each program has a process group of its own, so that Ctrl-C is ours to hand on and what a program started ends
    with it, and a leash, so that it does not outlive this process. `first_pause` and `longest_pause` are seconds.
    """

    programs: Sequence[Program]
    log: Callable[[str, str], None]
    first_pause: float = FIRST_PAUSE
    longest_pause: float = LONGEST_PAUSE
    _stopping: threading.Event = field(factory=threading.Event, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _processes: dict[str, "subprocess.Popen[bytes]"] = field(factory=dict, init=False)
    _threads: list[threading.Thread] = field(factory=list, init=False)

    def start(self) -> None:
        """Start all programs, in order, and keep each alive from now on."""
        for program in self.programs:
            thread = threading.Thread(target=self._keep_alive, args=(program,), name=program.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, within: float = STOP_WITHIN) -> None:
        """Ask all programs to end, and end those that do not within so many seconds."""
        self._stopping.set()
        self._signal_all(signal.SIGTERM)
        self._wait(within)
        self.kill()

    def kill(self) -> None:
        """End all programs that are still there, at once."""
        self._stopping.set()
        self._signal_all(signal.SIGKILL)
        self._wait(LAST_LINES_WITHIN)

    def _keep_alive(self, program: Program) -> None:
        pause = self.first_pause
        while (process := self._start(program)) is not None:
            began = time.monotonic()
            code = self._follow(program, process)
            if time.monotonic() - began > STEADY_AFTER:
                pause = self.first_pause
            if self._stopping.is_set():
                return
            self._tell(program.name, f"ended with {code}; starts again in {pause:g} s")
            if self._stopping.wait(pause):
                return
            pause = min(pause * 2, self.longest_pause)

    def _start(self, program: Program) -> "subprocess.Popen[bytes] | None":
        """None when all are to stop."""
        with self._lock:
            if self._stopping.is_set():
                return None
            process = subprocess.Popen(
                # without `site`: the leash imports nothing that is installed
                (sys.executable, "-S", str(LEASH), str(os.getpid()), *program.arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**program.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            self._processes[program.name] = process
            return process

    def _follow(self, program: Program, process: "subprocess.Popen[bytes]") -> int:
        """Tell its lines until it has ended; answers its exit code."""
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(program.name, process.stdout), daemon=True)
        reader.start()
        code = process.wait()
        _signal_group(process.pid, signal.SIGTERM)  # what it has started and left behind
        reader.join(LAST_LINES_WITHIN)
        return code

    def _read(self, name: str, output: IO[bytes]) -> None:
        with output:
            while line := output.readline(LONGEST_LINE):
                self._tell(name, line.decode(errors="replace").rstrip())

    def _tell(self, name: str, line: str) -> None:
        with suppress(OSError):  # nobody reads the log any more; the programs go on, and their output is still taken
            self.log(name, line)

    def _signal_all(self, number: signal.Signals) -> None:
        with self._lock:
            processes = list(self._processes.values())
        for process in processes:
            if number is signal.SIGKILL:
                _signal_group(process.pid, number)
            elif process.poll() is None:
                # to it alone: it ends in order what it has started
                process.send_signal(number)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
        os.killpg(group, number)


@contextmanager
def running(programs: Sequence[Program], log: Callable[[str, str], None]) -> Iterator[Supervisor]:
    """The programs alive for the length of the block. Ctrl-C while they end makes an end of it at once."""
    supervisor = Supervisor(programs, log)
    try:
        supervisor.start()
        yield supervisor
    finally:
        try:
            supervisor.stop()
        except KeyboardInterrupt:
            supervisor.kill()
            raise
