from sqlalchemy import Column, LargeBinary, Table, Text

from ordersync_adapters.sql.metadata import JsonText, Key, admin, tenant
from ordersync_adapters.sql.types import Moment, Uuid

connections = Table(
    "connections",
    tenant,
    Column("id", Uuid, primary_key=True),
    Column("connector", Key, nullable=False),
    Column("name", Text, nullable=False),
    Column("settings", JsonText, nullable=False),
    Column("secret_settings", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("tokens", LargeBinary),
    Column("refreshing_since", Moment),
    Column("created_at", Moment, nullable=False),
)

# Where the reading of an entity goes on. No row: from the beginning.
cursors = Table(
    "cursors",
    tenant,
    Column("connection_id", Uuid, primary_key=True),
    Column("entity", Key, primary_key=True),
    Column("cursor", JsonText, nullable=False),
)

authorisation_states = Table(
    "authorisation_states",
    admin,
    Column("id", Uuid, primary_key=True),
    Column("administration", Key, nullable=False),
    Column("connection_id", Uuid, nullable=False),
    Column("identity", Text, nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)
