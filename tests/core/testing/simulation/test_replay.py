"""A seed is the whole truth about a run: it comes out the same again, in another process, and with fewer faults."""

import os
import subprocess
import sys

import pytest

from ordersync_core.testing.simulation.__main__ import main
from ordersync_core.testing.simulation.faults import Kind, draw
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.runs import run_seed, shrink
from ordersync_core.testing.simulation.whole import whole_system
from ordersync_core.testing.simulation.world import World
from tests.core.testing.simulation import planted

OWN = f"{__name__}:two_crashes"


def two_crashes(world: World) -> None:
    """A scenario of an embedder's own, which breaks when two certain faults happen."""
    if sum(fault.kind is Kind.CRASH for fault in world.plan) >= 2:
        raise Broken("P12", "two crashes were planned")


def a_seed_with_crashes() -> int:
    return next(seed for seed in range(100) if sum(fault.kind is Kind.CRASH for fault in draw(seed)) > 3)


@pytest.mark.parametrize("seed", [3, 11, 42])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first == second
    assert first.steps > 100


def test_another_process_with_another_hash_seed_gives_the_same_run() -> None:
    script = "from ordersync_core.testing.simulation.runs import run_seed; print([run_seed(s).trace for s in (1, 2)])"
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(traces) == 1


def test_seeds_differ() -> None:
    assert len({run_seed(seed).trace for seed in range(6)}) == 6


def test_a_broken_seed_is_shrunk_to_the_faults_that_matter() -> None:
    outcome = run_seed(a_seed_with_crashes(), scenario=two_crashes)
    least = shrink(outcome, scenario=two_crashes)
    assert [fault.kind for fault in least.faults] == [Kind.CRASH, Kind.CRASH]
    assert run_seed(least.seed, scenario=two_crashes, kept=least.kept) == least


def test_a_planted_bug_is_shrunk_to_fewer_faults() -> None:
    with planted.resubmit_swallowed():
        outcome = next(found for seed in range(200) if (found := run_seed(seed)).promise is not None)
        least = shrink(outcome)
        assert least.promise == outcome.promise
        assert len(least.faults) < len(outcome.faults)


def test_the_command_that_is_printed_repeats_the_failure(capsys: pytest.CaptureFixture[str]) -> None:
    seed = a_seed_with_crashes()
    assert main(["--seed", str(seed), "--scenario", OWN]) == 1
    command = capsys.readouterr().out.splitlines()[-1].partition("simulation ")[2]
    arguments = [part.strip('"') for part in command.split()]
    assert main(arguments) == 1
    assert "P12: two crashes were planned" in capsys.readouterr().out


def test_many_seeds_end_with_one_line_and_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--processes", "1"]) == 0
    summary = capsys.readouterr().out
    assert summary.startswith("3 seeds, 0 broken, ")
    stopped = sum(run_seed(seed).stopped for seed in range(3))
    assert summary.endswith(f", {stopped} ended in good order when asked to\n")
    assert main(["--seeds", "40", "--processes", "1", "--scenario", OWN]) == 1
    assert "again: python -m ordersync_core.testing.simulation --seed " in capsys.readouterr().out


def test_an_unforeseen_error_is_no_promise_but_a_failure_too() -> None:
    def stumbles(world: World) -> None:
        raise ZeroDivisionError("by accident")

    assert run_seed(1, scenario=stumbles).promise == "ZeroDivisionError"


def test_without_faults_nothing_is_touched() -> None:
    outcome = run_seed(5, scenario=whole_system, kept=[])
    assert (outcome.promise, outcome.met) == (None, ())
