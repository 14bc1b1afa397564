"""`python -m ordersync_core.testing.simulation`: many seeds, or one again.

A seed that breaks a promise is shrunk, and the command is printed that repeats it.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module

from ordersync_core.testing.points import points
from ordersync_core.testing.simulation.runs import Outcome, Scenario, run_seed, shrink
from ordersync_core.testing.simulation.whole import whole_system

MODULE = "ordersync_core.testing.simulation"
SHOWN_EVERY = 1.0
MOST_SHRUNK = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when every promise held, 1 when one did not."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="the first one (0)")
    parser.add_argument("--processes", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--faults", help="with --seed: the places of the faults that are to happen, as 0,3 (all)")
    parser.add_argument("--scenario", default="", help="module:function of your own; the whole system unless given")
    asked = parser.parse_args(arguments)
    scenario = _scenario(asked.scenario)
    if asked.seed is not None:
        kept = None if asked.faults is None else [int(place) for place in asked.faults.split(",") if place]
        return _report_one(run_seed(asked.seed, scenario=scenario, kept=kept), asked.scenario)
    return _run_all(range(asked.first, asked.first + asked.seeds), scenario, asked.scenario, asked.processes)


def _run_all(seeds: range, scenario: Scenario, name: str, processes: int) -> int:
    began = time.perf_counter()
    broken: list[Outcome] = []
    visited: set[str] = set()
    died_at: set[str] = set()
    stopped = 0
    for outcome in _shown(_outcomes(seeds, name, processes), len(seeds)):
        visited |= outcome.visited
        died_at |= outcome.died_at
        stopped += outcome.stopped
        if outcome.promise is not None:
            broken.append(outcome)
            print(f"seed {outcome.seed}: {outcome.what}")
    for outcome in broken[:MOST_SHRUNK]:
        _report_one(shrink(outcome, scenario=scenario), name)
    rate = len(seeds) / (time.perf_counter() - began)
    known = points()
    print(
        f"{len(seeds)} seeds, {len(broken)} broken, {rate:.1f} seeds/s; "
        f"{len(visited & known)} of {len(known)} points visited, a process died at {len(died_at & known)}, "
        f"{stopped} ended in good order when asked to"
    )
    return 1 if broken else 0


def _outcomes(seeds: range, name: str, processes: int) -> Iterator[Outcome]:
    run = partial(_run_named, name)
    if processes == 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, seeds, chunksize=4)


def _run_named(name: str, seed: int) -> Outcome:
    return run_seed(seed, scenario=_scenario(name))


def _scenario(name: str) -> Scenario:
    if not name:
        return whole_system
    module, _, function = name.partition(":")
    found: Scenario = getattr(import_module(module), function)
    return found


def _shown(outcomes: Iterable[Outcome], count: int) -> Iterator[Outcome]:
    """The same ones, with a line on the terminal that says how far it is."""
    shown_at = 0.0
    for done, outcome in enumerate(outcomes, start=1):
        if sys.stderr.isatty() and time.perf_counter() - shown_at > SHOWN_EVERY:
            shown_at = time.perf_counter()
            print(f"\r{done} of {count} seeds", end="", file=sys.stderr, flush=True)
        yield outcome
    if sys.stderr.isatty():
        print(end="\r", file=sys.stderr)


def _report_one(outcome: Outcome, scenario: str) -> int:
    print(f"seed {outcome.seed}: {outcome.what or 'every promise holds'}")
    for line in (
        *(f"  planned: {fault}" for fault in outcome.faults),
        *(f"  happened: {line}" for line in outcome.met),
    ):
        print(line)
    if outcome.promise is None:
        return 0
    kept = ",".join(map(str, outcome.kept))
    own = f" --scenario {scenario}" if scenario else ""
    print(f'  again: python -m {MODULE} --seed {outcome.seed} --faults "{kept}"{own}')
    return 1


if __name__ == "__main__":
    sys.exit(main())
