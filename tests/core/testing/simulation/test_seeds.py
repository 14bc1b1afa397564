"""Every promise holds, whatever goes wrong: 240 seeds; `make simulate SEEDS=2000` runs more."""

import pytest

from ordersync_core.testing.simulation.runs import run_seed

SEEDS_IN_ONE = 10


@pytest.mark.parametrize("first", range(0, 240, SEEDS_IN_ONE))
def test_every_promise_holds(first: int) -> None:
    for seed in range(first, first + SEEDS_IN_ONE):
        outcome = run_seed(seed)
        assert outcome.promise is None, (
            f"seed {seed}: {outcome.what}; again: python -m ordersync_core.testing.simulation --seed {seed}"
        )
