from collections.abc import Mapping
from typing import Any
from uuid import UUID

from attrs import field, frozen

from ordersync_api.calls import Answer, Call, whole_list
from ordersync_api.operations import Operations
from ordersync_api.shapes import ConnectionShown, ConnectorShown, ConsentAddress, ListOf
from ordersync_api.values import Name, Url
from ordersync_core.connections import handlers
from ordersync_core.connections.commands import BeginAuthorisation, CreateConnection, DeleteConnection
from ordersync_core.connections.model import shown
from ordersync_core.connections.ports import ConnectionQueries, ConnectorDescription, Connectors
from ordersync_core.kernel.errors import NotFound

operations = Operations("connection")


@frozen(kw_only=True)
class NewConnection:
    """`settings` and `secret_settings`: as the connector's schemas say; the secret ones are never returned."""

    connector: str
    name: Name
    settings: Mapping[str, Any] = field(factory=dict)
    secret_settings: Mapping[str, Any] = field(factory=dict, repr=False)


@frozen(kw_only=True)
class Authorising:
    """`redirect_uri`: OrderSync's own callback, where the external system sends the person back to."""

    redirect_uri: Url


@operations.get("/v1/connectors", answers={200: ListOf[ConnectorShown]})
def list_connectors(call: Call) -> Answer:
    """The connectors that connections can be made with."""
    return whole_list(call.run(_descriptions, None))


@operations.get("/v1/connections", answers={200: ListOf[ConnectionShown]})
def list_connections(call: Call) -> Answer:
    """Connections, without anything secret."""
    queries: ConnectionQueries = call.queries()
    return whole_list(shown(connection) for connection in queries.connections())


@operations.post("/v1/connections", answers={201: ConnectionShown})
def create_connection(call: Call, body: NewConnection) -> Answer:
    """Connect an external system; its credentials are kept encrypted."""
    command = CreateConnection(
        connector=body.connector, name=body.name, settings=body.settings, secret_settings=body.secret_settings
    )
    connection = call.run(handlers.create_connection, command)
    return call.created(shown(connection), connection.id)


@operations.get("/v1/connections/{id}", answers={200: ConnectionShown})
def get_connection(call: Call, id: UUID) -> Answer:
    """One connection."""
    queries: ConnectionQueries = call.queries()
    connection = queries.connection(id)
    if connection is None:
        raise NotFound(f"there is no connection {id}")
    return Answer(body=shown(connection))


@operations.delete("/v1/connections/{id}", answers={204: None})
def delete_connection(call: Call, id: UUID) -> Answer:
    """Delete a connection with its credentials."""
    call.run(handlers.delete_connection, DeleteConnection(id=id))
    return Answer(status=204)


@operations.post("/v1/connections/{id}:authorise", answers={200: ConsentAddress})
def authorise_connection(call: Call, id: UUID, body: Authorising) -> Answer:
    """Begin a person's consent: the address to which their browser goes."""
    command = BeginAuthorisation(connection_id=id, redirect_uri=body.redirect_uri)
    return Answer(body={"url": call.run(handlers.begin_authorisation, command)}, headers={"Cache-Control": "no-store"})


def _descriptions(_: None, *, connectors: Connectors) -> list[dict[str, Any]]:
    return [_shown(connectors[name].description) for name in connectors.names()]


def _shown(description: ConnectorDescription) -> dict[str, Any]:
    return {
        "name": description.name,
        "title": description.title,
        "settings_schema": dict(description.settings_schema),
        "secrets_schema": dict(description.secrets_schema),
        "entities": {entity: list(aspects) for entity, aspects in description.entities.items()},
    }
