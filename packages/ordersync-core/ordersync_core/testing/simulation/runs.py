"""One seed and what came of it; and the least that has to go wrong for it to come out that way."""

from collections.abc import Callable, Sequence

from attrs import frozen

from ordersync_core.testing.simulation.faults import Fault, draw
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.whole import whole_system
from ordersync_core.testing.simulation.world import World

Scenario = Callable[[World], None]
"""Sets a world up, lets it run, and raises Broken when a promise does not hold."""


@frozen(kw_only=True)
class Outcome:
    """kept: which faults of the seed's plan were left in, by their places.
    promise: which one is broken, "P1" to "P12", or the kind of an error that nobody foresaw; None: all hold.
    stopped: how many processes were asked to end and did, in good order.
    trace: the same for the same order of events.
    """

    seed: int
    kept: tuple[int, ...]
    faults: tuple[Fault, ...]
    met: tuple[str, ...]
    promise: str | None
    what: str
    visited: frozenset[str]
    died_at: frozenset[str]
    stopped: int
    steps: int
    trace: int


def run_seed(seed: int, *, scenario: Scenario = whole_system, kept: Sequence[int] | None = None) -> Outcome:
    """The same arguments give the same outcome, in every process.

    kept: the places of the faults that are to happen; None: all.
    """
    plan = draw(seed)
    places = tuple(range(len(plan))) if kept is None else tuple(kept)
    world = World(seed, tuple(plan[place] for place in places))
    promise, what = None, ""
    try:
        scenario(world)
    except Broken as broken:
        promise, what = broken.promise, str(broken)
    except Exception as error:
        promise, what = type(error).__name__, f"{type(error).__name__}: {error}"
    finally:
        world.end()
    return Outcome(
        seed=seed,
        kept=places,
        faults=tuple(world.plan),
        met=tuple(f"{fault}: {process}, {point}" for fault, process, point in world.met),
        promise=promise,
        what=what,
        visited=frozenset(world.visits),
        died_at=frozenset(point for fault, _, point in world.met if fault.kind == "crash"),
        stopped=world.stopped,
        steps=world.scheduler.steps,
        trace=world.scheduler.trace,
    )


def shrink(outcome: Outcome, *, scenario: Scenario = whole_system) -> Outcome:
    """The same promise, broken by fewer faults: one after the other is left out while it stays broken."""
    least = outcome
    for place in outcome.kept:
        fewer = run_seed(outcome.seed, scenario=scenario, kept=[kept for kept in least.kept if kept != place])
        if fewer.promise == outcome.promise:
            least = fewer
    return least
