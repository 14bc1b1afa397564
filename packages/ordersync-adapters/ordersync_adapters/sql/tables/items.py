from sqlalchemy import Column, Index, Table, Text

from ordersync_adapters.sql.metadata import JsonText, Key, tenant
from ordersync_adapters.sql.types import Moment

items = Table(
    "items",
    tenant,
    Column("code", Key, primary_key=True),
    Column("name", JsonText, nullable=False),
    Column("family_code", Text),
    Column("unit", Text),
    Column("units", JsonText, nullable=False),
    Column("vat_tariff", Text),
    Column("attributes", JsonText, nullable=False),
    Column("images", JsonText, nullable=False),
    Column("attachments", JsonText, nullable=False),
    Column("stocks", JsonText, nullable=False),
    Column("restock_orders", JsonText, nullable=False),
    # what `search` looks in: the code and all names, without regard to letter case
    Column("searchable", Text, nullable=False),
    Column("updated_at", Moment, nullable=False),
    # a synchronisation writes most rows again: room for the new version on the old one's page
    postgresql_with={"fillfactor": 50},
)
Index("ix_items_updated_at", items.c.updated_at, items.c.code)
