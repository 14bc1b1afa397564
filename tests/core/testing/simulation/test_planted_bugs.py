"""Each planted bug is found within 200 seeds by the checks that run for every seed, which name the broken promise; and
what finds it is the bug: the same seed is green without."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from ordersync_core.testing.simulation.runs import Outcome, run_seed
from tests.core.testing.simulation import planted

SEEDS = range(200)

BUGS: dict[Callable[[], AbstractContextManager[None]], set[str]] = {
    planted.mark_before_send: {"P1"},
    planted.no_inbox: {"P1"},
    planted.cursor_ahead_of_rows: {"P1"},
    planted.lock_not_renewed: {"P8"},
    planted.retry_counted_twice: {"P6"},
    planted.number_given_at_write: {"P4"},
    planted.collapse_repeated_after_a_crash: {"P1", "P4"},
    planted.collapse_across_a_delete: {"P1"},
    planted.lease_taken_without_its_term: {"P8"},
    planted.raw_rows_saved_never_applied: {"P1"},
    planted.two_claimers_of_one_row: {"P7"},
    planted.resubmit_swallowed: {"P1", "P7"},
    planted.held_back_is_sent: {"P6"},
    planted.everybody_probes: {"P6"},
    planted.takes_over_at_once: {"P6"},
    planted.all_let_in_at_once: {"P6"},
    planted.retries_pulled_forward: {"P6"},
    planted.nothing_given_back: {"P12"},
}
"""The promises that may be named for each."""


def found(bug: Callable[[], AbstractContextManager[None]]) -> Outcome:
    with bug():
        for seed in SEEDS:
            outcome = run_seed(seed)
            if outcome.promise is not None:
                return outcome
    pytest.fail(f"{bug.__name__} was not found in {len(SEEDS)} seeds")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_is_found_and_named(bug: Callable[[], AbstractContextManager[None]]) -> None:
    outcome = found(bug)
    assert outcome.promise in BUGS[bug], outcome.what
    assert run_seed(outcome.seed).promise is None
