"""Runs the shells as separate processes: merges their output, starts again what dies, stops them all cleanly."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from attrs import define, field, frozen

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_AFTER = 60.0
"""Seconds that a process must have lived for its next death to count as the first."""

STOP_WITHIN = 15.0


@frozen(kw_only=True)
class Program:
    """A process to keep alive. `name` stands before each line of its output; `environment` is all that it gets."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


def python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


@define
class Supervisor:
    """log: gets (program's name, line) for each line that a program writes, and for each start and end of it."""

    programs: Sequence[Program]
    log: Callable[[str, str], None]
    _stopping: asyncio.Event = field(factory=asyncio.Event, init=False)
    _processes: dict[str, asyncio.subprocess.Process] = field(factory=dict, init=False)

    async def run(self) -> None:
        """Keep the programs alive until `stop` is called, then end them."""
        tasks = [asyncio.create_task(self._keep_alive(program)) for program in self.programs]
        await self._stopping.wait()
        await self._end_all()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        self._stopping.set()

    async def _keep_alive(self, program: Program) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            code = await self._run_once(program)
            if self._stopping.is_set():
                return
            if asyncio.get_running_loop().time() - began > STEADY_AFTER:
                pause = FIRST_PAUSE
            self.log(program.name, f"ended with {code}; starts again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run_once(self, program: Program) -> int:
        process = await asyncio.create_subprocess_exec(
            *program.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**program.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C is ours to hand on, so that they end in order
            limit=2**20,
        )
        self._processes[program.name] = process
        assert process.stdout is not None
        with suppress(ValueError):  # a line longer than the limit ends the log, not the program
            async for line in process.stdout:
                self.log(program.name, line.decode(errors="replace").rstrip())
        return await process.wait()

    async def _end_all(self) -> None:
        living = [process for process in self._processes.values() if process.returncode is None]
        for process in living:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        waits = [asyncio.create_task(process.wait()) for process in living]
        if waits:
            await asyncio.wait(waits, timeout=STOP_WITHIN)
        for process in living:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def running(programs: Sequence[Program], log: Callable[[str, str], None]) -> Iterator[None]:
    """The programs alive for the length of the block, in a thread of their own."""
    started: list[tuple[Supervisor, asyncio.AbstractEventLoop]] = []
    ready = threading.Event()

    async def supervise() -> None:
        supervisor = Supervisor(programs=programs, log=log)
        started.append((supervisor, asyncio.get_running_loop()))
        ready.set()
        await supervisor.run()

    thread = threading.Thread(target=lambda: asyncio.run(supervise()), name="supervisor")
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        [(supervisor, loop)] = started
        loop.call_soon_threadsafe(supervisor.stop)
        thread.join()
