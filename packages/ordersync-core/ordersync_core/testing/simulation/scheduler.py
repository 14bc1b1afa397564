"""Who goes on next. One actor at a time holds the baton; a seed decides who gets it, and time passes by itself."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from attrs import define, field
from greenlet import getcurrent, greenlet

BEGINNING: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
STEP: Final = 0.001
"""Seconds that pass on average while an actor has the baton."""

LOOK_EVERY: Final = timedelta(seconds=2)
"""How long a condition that has come about may stay unseen while nobody has anything to do."""

Condition = Callable[[], bool]


class Crashed(BaseException):
    """The process is gone. It passes through everything, as signal 9 does."""


@define(eq=False)
class Actor:
    """A strand of work with a stack of its own.

    until: it is not looked at before this moment, unless `condition` holds earlier.
    frozen_until: its process stands still, whatever happens.
    """

    name: str
    strand: greenlet
    until: datetime
    condition: Condition | None = None
    frozen_until: datetime = BEGINNING

    def can_go(self, now: datetime) -> bool:
        if self.frozen_until > now:
            return False
        return self.until <= now or (self.condition is not None and self.condition())

    def next_moment(self) -> datetime:
        return max(self.until, self.frozen_until)


@define(eq=False)
class Scheduler:
    """The order is a function of the seed and of what the actors do, and of nothing else."""

    seed: int
    now: datetime = BEGINNING
    steps: int = 0
    trace: int = 0
    """A number that two runs share when they gave the baton to the same actors in the same order."""

    _random: Random = field(init=False)
    _actors: list[Actor] = field(factory=list)
    _current: Actor | None = None
    _main: greenlet = field(factory=getcurrent)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"schedule:{self.seed}")

    @property
    def current(self) -> Actor | None:
        """None outside of `run`: whoever sets the world up goes on undisturbed."""
        return self._current

    def start(self, name: str, work: Callable[[], None]) -> Actor:
        actor = Actor(name, greenlet(lambda: _until_crashed(work), self._main), self.now)
        self._actors.append(actor)
        return actor

    def stop(self, actor: Actor) -> None:
        """It ends where it stands, as if its process were gone; what it had open is undone."""
        if actor in self._actors:
            self._actors.remove(actor)
        if actor.strand and actor is not self._current:
            actor.strand.parent = getcurrent()
            actor.strand.throw(Crashed)

    def end(self) -> None:
        """Everybody ends where they stand. A strand that is left suspended keeps all it has seen in memory for ever."""
        for actor in list(self._actors):
            self.stop(actor)

    def give_way(self) -> None:
        """Let the others have a turn."""
        if self._current is not None:
            self._wait(self._current, self.now, None)

    def sleep(self, duration: timedelta) -> None:
        self.wait(None, duration)

    def wait(self, condition: Condition | None, at_most: timedelta) -> bool:
        """Until the condition holds, or the time is over; answers whether it holds."""
        if self._current is not None:
            self._wait(self._current, self.now + at_most, condition)
        return condition is not None and condition()

    def freeze(self, actors: list[Actor], duration: timedelta) -> None:
        for actor in actors:
            actor.frozen_until = max(actor.frozen_until, self.now + duration)

    def run(self, over: Condition, *, most_steps: int) -> bool:
        """Until `over` holds; False when that took too many steps, or nobody has anything to do any more."""
        for _ in range(most_steps):
            if over():
                return True
            actor = self._next()
            if actor is None:
                return over()
            self._go(actor)
        return False

    def _wait(self, actor: Actor, until: datetime, condition: Condition | None) -> None:
        actor.until, actor.condition = until, condition
        self._main.switch()

    def _next(self) -> Actor | None:
        if not self._actors:
            return None
        ready = self._ready()
        while not ready:
            self._let_time_pass()
            ready = self._ready()
        chosen = int(self._random.random() * len(ready))
        self.trace = (self.trace * 31 + chosen + len(ready)) % (1 << 61)
        return ready[chosen]

    def _ready(self) -> list[Actor]:
        return [actor for actor in self._actors if actor.can_go(self.now)]

    def _let_time_pass(self) -> None:
        """Until somebody's moment comes, in steps: what a condition waits for may come about by time alone."""
        moment = min(actor.next_moment() for actor in self._actors)
        self.now = min(moment, self.now + LOOK_EVERY) if moment > self.now else self.now + LOOK_EVERY

    def _go(self, actor: Actor) -> None:
        self.steps += 1
        self.now += timedelta(seconds=self._random.random() * 2 * STEP)
        actor.until, actor.condition = self.now, None
        self._current = actor
        try:
            actor.strand.parent = self._main
            actor.strand.switch()
        finally:
            self._current = None
        if actor.strand.dead and actor in self._actors:
            self._actors.remove(actor)


def _until_crashed(work: Callable[[], None]) -> None:
    with suppress(Crashed):
        work()
