"""Which connection a flow reads over, and when that may change."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from ordersync_core.connections.commands import CreateConnection, DeleteConnection
from ordersync_core.connections.handlers import create_connection, delete_connection
from ordersync_core.flows.commands import SetUpFlow
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import Flow, FlowKind
from ordersync_core.jobs.model import RunState
from ordersync_core.kernel.errors import Conflict
from ordersync_core.testing.contracts.examples import CONNECTOR
from tests.core.embedded import sqlite_databases
from tests.core.shelf import Site


class TwoConnections(Site):
    def connect(self, name: str) -> UUID:
        return self.run(create_connection, CreateConnection(connector=CONNECTOR, name=name, settings={})).id

    def read_over(self, connection: UUID, *aspects: str) -> Flow:
        command = SetUpFlow(kind=FlowKind.ITEM, connection_id=connection, aspects=aspects or None)
        return self.run(set_up_flow, command)

    def sync(self, **parameters: bool) -> RunState:
        return self.worked(self.start("ItemSync", **parameters)).state


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoConnections]:
    if request.param == "memory":
        yield TwoConnections()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield TwoConnections(databases)


def test_another_connection_may_take_over_and_finds_the_items_of_the_first(site: TwoConnections) -> None:
    one, other = site.connect("One"), site.connect("Other")
    site.read_over(one)
    site.sync()
    names = site.names()
    assert site.read_over(other).source.connection_id == other
    assert site.sync() is RunState.SUCCEEDED
    assert site.names() == names


def test_a_connection_is_deleted_when_no_flow_reads_over_it(site: TwoConnections) -> None:
    one, other = site.connect("One"), site.connect("Other")
    site.read_over(one)
    with pytest.raises(Conflict, match="the item flow reads over 'One'"):
        site.run(delete_connection, DeleteConnection(id=one))
    assert {connection.id for connection in site.queries().connections()} == {one, other}

    site.read_over(other)
    site.run(delete_connection, DeleteConnection(id=one))
    assert [connection.id for connection in site.queries().connections()] == [other]
    assert site.sync() is RunState.SUCCEEDED
