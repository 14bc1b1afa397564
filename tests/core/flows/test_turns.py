"""Whose turn it is: the run holds the flow's lease, not its process."""

import pytest

from ordersync_core.flows.commands import RunFlow
from ordersync_core.flows.handlers.running import FlowBusy, run_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.testing.contracts.examples import new_id
from tests.core.flows.supplier import Killed, Site, Supplier


def test_who_takes_a_run_over_does_not_wait_for_the_lease_of_its_dead_process() -> None:
    site = Site(Supplier())
    run_id = new_id()
    with pytest.raises(Killed):
        site.sync_until(2, run_id=run_id)
    died_at = site.clock.now()
    site.sync(run_id=run_id)
    assert site.clock.now() == died_at


def test_another_run_keeps_out_while_that_lease_runs() -> None:
    site = Site(Supplier())
    with pytest.raises(Killed):
        site.sync_until(2)
    with pytest.raises(FlowBusy):
        site.run(run_flow, RunFlow(kind=FlowKind.ITEM, run_id=new_id(), holder="another process"))


def test_a_connector_that_does_not_open_leaves_the_flow_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Supplier:
        raise InvalidInput("a setting is missing")

    site = Site(Supplier())
    with monkeypatch.context() as broken:
        broken.setattr(site, "source", refuse)
        with pytest.raises(InvalidInput):
            site.sync()
    site.sync()
