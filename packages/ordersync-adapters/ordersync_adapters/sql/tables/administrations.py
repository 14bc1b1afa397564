from sqlalchemy import Column, ForeignKey, Index, Table, Text

from ordersync_adapters.sql.metadata import Key, admin
from ordersync_adapters.sql.types import Moment

administrations = Table(
    "administrations",
    admin,
    Column("code", Key, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("server", Text, nullable=False),
)

memberships = Table(
    "memberships",
    admin,
    Column("identity", Key, primary_key=True),
    Column("administration", Key, ForeignKey(administrations.c.code), primary_key=True),
    Column("role", Text, nullable=False),
)
Index("ix_memberships_administration", memberships.c.administration)

# Which administrations have work, and when.
wake = Table(
    "wake",
    admin,
    Column("administration", Key, primary_key=True),
    Column("due_at", Moment, nullable=False),
)
Index("ix_wake_due_at", wake.c.due_at)
