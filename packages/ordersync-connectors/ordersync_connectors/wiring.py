"""Registers every connector. Only wiring and composition modules know the container."""

from collections.abc import Mapping, Sequence

from punq import Container

from ordersync_connectors.exact_online import adapter as exact_online
from ordersync_connectors.exact_online.mapping import item as exact_online_item
from ordersync_core.connections.ports import Connector, Connectors
from ordersync_core.flows.ports import ItemMapping, Mappings
from ordersync_core.kernel.clock import Clock


class ConnectorsByName:
    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self._connectors = connectors

    def __getitem__(self, name: str) -> Connector:
        return self._connectors[name]

    def names(self) -> Sequence[str]:
        return sorted(self._connectors)


class MappingsByConnector:
    def __init__(self, items: Mapping[str, ItemMapping]) -> None:
        self._items = items

    def item(self, connector: str) -> ItemMapping:
        return self._items[connector]


def register_connectors(container: Container, *, allow_private_targets: bool) -> None:
    """allow_private_targets: connectors may call hosts other than their system's own, such as a sandbox."""
    clock: Clock = container.resolve(Clock)
    connectors = {exact_online.NAME: exact_online.ExactOnline(clock, allow_other_hosts=allow_private_targets)}
    container.register(Connectors, instance=ConnectorsByName(connectors))
    container.register(Mappings, instance=MappingsByConnector({exact_online.NAME: exact_online_item}))
