"""One process of the platform: its actors, its clock, and whether it lives."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from attrs import define, field

from ordersync_core.kernel.application import Application
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import OrderSyncError, Stopping
from ordersync_core.kernel.lease import Heartbeat
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.testing.points import watched
from ordersync_core.testing.simulation.scheduler import Actor, Condition, Crashed, Scheduler

Reach = Callable[["Process", str], None]


@define(eq=False)
class Process:
    """It shares databases, queues and the world outside with the others, and nothing else.

    reach: told each point before the process goes on from there.
    skew: how far its clock is ahead.
    touched: how many faults it has met; to be asked to end is none.
    stopping: it was asked to end. What it does about that is its strands' own affair.
    interruptible: its first strand is told by `Stopping`, once, wherever it stands: by a signal handler that raises.
    """

    name: str
    scheduler: Scheduler
    databases: Databases
    ports: Mapping[Any, Any]
    reach: Reach
    skew: timedelta = timedelta(0)
    lives: bool = True
    touched: int = 0
    stopping: bool = False
    interruptible: bool = False
    actors: list[Actor] = field(factory=list)
    clock: Clock = field(init=False)
    application: Application = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock = _ProcessClock(self)
        own: dict[Any, Any] = {Clock: self.clock, Heartbeat: _ProcessHeartbeat(self)}
        bare = Application(resolve=({**self.ports, **own}).__getitem__, databases=self.databases)
        self.application = watched(bare, self._at, reading=self._reading)

    def start(self, name: str, work: Callable[[], None]) -> Actor:
        """An error that the work does not deal with ends the process, as it ends a program; `Stopping` ends the strand
        in good order."""

        def until_it_ends() -> None:
            try:
                with suppress(Stopping):
                    work()
            except OrderSyncError:
                self.end()
            finally:
                if actor in self.actors:
                    self.actors.remove(actor)

        actor = self.scheduler.start(f"{self.name} {name}", until_it_ends)
        self.actors.append(actor)
        return actor

    def end(self) -> None:
        """All of it is gone at once; open transactions are undone."""
        self.lives = False
        actors, self.actors = self.actors, []
        for actor in actors:
            self.scheduler.stop(actor)

    def stop(self, actor: Actor) -> None:
        """Only this strand is gone."""
        if actor in self.actors:
            self.actors.remove(actor)
        self.scheduler.stop(actor)

    def wait(self, condition: Condition, at_most: timedelta) -> None:
        """Until the condition holds, the time is over, or the process is asked to end."""
        self.scheduler.wait(lambda: self.stopping or condition(), at_most)

    def rest(self, duration: timedelta) -> None:
        """For that long, or until it is asked to end."""
        self.wait(lambda: False, duration)

    def crash(self) -> None:
        self.end()
        raise Crashed

    def pause(self, duration: timedelta) -> None:
        self.scheduler.freeze(self.actors, duration)
        self.scheduler.give_way()

    def _at(self, point: str) -> None:
        self._reading(point)
        if self.scheduler.current is not None:
            self.reach(self, point)
            self._must_live()
            if self.stopping and self.interruptible and self.scheduler.current is self.actors[0]:
                self.interruptible = False
                self.touched += _is_call_of_a_queue(point)  # in the middle of it nobody knows what is claimed
                raise Stopping

    def _reading(self, _: str) -> None:
        self._must_live()
        self.scheduler.give_way()
        self._must_live()

    def _must_live(self) -> None:
        if not self.lives:
            raise Crashed


@define(eq=False)
class _ProcessClock:
    process: Process

    def now(self) -> datetime:
        return self.process.scheduler.now + self.process.skew


@define(eq=False)
class _ProcessHeartbeat:
    process: Process

    @contextmanager
    def every(self, interval: timedelta, beat: Callable[[], None]) -> Iterator[None]:
        scheduler = self.process.scheduler
        busy = False

        def beating() -> None:
            nonlocal busy
            while True:
                scheduler.sleep(interval)
                busy = True
                with suppress(Exception):
                    beat()
                busy = False

        actor = self.process.start("heartbeat", beating)
        try:
            yield
        finally:
            if self.process.lives:
                scheduler.wait(lambda: not busy, timedelta(minutes=1))
                self.process.stop(actor)


def _is_call_of_a_queue(point: str) -> bool:
    return point.partition(" ")[2].partition(".")[0] in QUEUES
