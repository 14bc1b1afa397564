from ordersync_functions.claims import AT_ONCE
from ordersync_functions.events_consumer import LONG, QUICK, next_size


def test_batches_grow_while_they_are_quick() -> None:
    assert next_size(100, 100, seconds=QUICK / 2) == 200
    assert next_size(AT_ONCE, AT_ONCE, seconds=QUICK / 2) == AT_ONCE


def test_a_batch_that_was_not_full_says_nothing_of_a_larger_one() -> None:
    assert next_size(100, 99, seconds=QUICK / 2) == 100


def test_batches_keep_their_size_while_they_take_a_moment() -> None:
    assert next_size(100, 100, seconds=(QUICK + LONG) / 2) == 100


def test_batches_shrink_when_they_take_long() -> None:
    assert next_size(100, 100, seconds=LONG * 2) == 50
    assert next_size(AT_ONCE, 100, seconds=LONG * 2) == 50
    assert next_size(25, 25, seconds=LONG * 2) == 25
