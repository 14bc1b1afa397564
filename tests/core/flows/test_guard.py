"""A guard that would hold nothing, or everything, is none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.flows.model import Guard
from ordersync_core.kernel.errors import InvalidInput


@pytest.mark.parametrize("ratio", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.01", "1.01", "10"])
def test_the_ratio_is_a_share(ratio: str) -> None:
    with pytest.raises(InvalidInput, match="ratio must be a share from 0 to 1") as refused:
        Guard(ratio=Decimal(ratio))
    assert [violation.pointer for violation in refused.value.violations] == ["/ratio"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        Guard(floor=-1, ratio=Decimal(2))
    assert [violation.pointer for violation in refused.value.violations] == ["/floor", "/ratio"]


@given(
    floor=st.integers(0, 1_000),
    ratio=st.decimals(0, 1, places=4),
    deletions=st.integers(0, 10_000),
    known=st.integers(0, 10_000),
)
def test_it_allows_the_floor_or_the_share_whichever_is_more(
    floor: int, ratio: Decimal, deletions: int, known: int
) -> None:
    allowed = Guard(floor=floor, ratio=ratio).allows(deletions, known=known)
    assert allowed == (deletions <= floor or deletions <= ratio * known)
