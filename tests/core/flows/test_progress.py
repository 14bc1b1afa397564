"""A run tells how far it is after each batch, whatever it is at, so that somebody who cancels it is heard."""

import pytest

from ordersync_core.flows.handlers import running
from ordersync_core.flows.model import Guard
from ordersync_core.jobs.handlers import RunCancelled
from ordersync_core.jobs.model import Progress
from tests.core.flows.supplier import Site, Supplier, raw

RECORDS = 6
BATCH = 2
NO_GUARD = Guard(floor=100)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BATCH", BATCH)


class Heard(Site):
    """cancelled_at: the number of the report, from 1, that finds the run cancelled; 0: none does."""

    def __init__(self) -> None:
        self.reports: list[Progress] = []
        self.cancelled_at = 0
        supplier = Supplier()
        for number in range(RECORDS):
            supplier.put(f"K{number}", raw(f"C{number}"))
        super().__init__(supplier, guard=NO_GUARD)
        self.sync()
        self.reports.clear()

    def tell(self, progress: Progress) -> None:
        self.reports.append(progress)
        if len(self.reports) == self.cancelled_at:
            raise RunCancelled("cancelled by a person")


def test_of_what_was_left_over() -> None:
    site = Heard()
    site.set_up(aspects=("name",), guard=NO_GUARD)
    site.sync()
    assert [progress.done for progress in site.reports] == [2, 4, 6]


def test_cancelled_at_what_was_left_over_it_stops_there() -> None:
    site = Heard()
    site.set_up(aspects=("name",), guard=NO_GUARD)
    site.cancelled_at = 1
    with pytest.raises(RunCancelled):
        site.sync()
    assert len(site.reports) == 1
    assert site.sync().counts.unchanged == RECORDS - BATCH


def test_of_deletions() -> None:
    site = Heard()
    for number in range(1, RECORDS):
        site.supplier.remove(f"K{number}")
    site.sync()
    deleted = [progress for progress in site.reports if progress.text == "items deleted"]
    assert [progress.done for progress in deleted] == [2, 4, 5]


def test_cancelled_at_deletions_it_stops_there_and_the_next_run_goes_on() -> None:
    site = Heard()
    for number in range(1, RECORDS):
        site.supplier.remove(f"K{number}")
    site.cancelled_at = 2  # after that of what was read
    with pytest.raises(RunCancelled):
        site.sync()
    assert len(site.state.items) == RECORDS - BATCH
    site.sync()
    assert list(site.state.items) == ["C0"]
