from sqlalchemy import BigInteger, Column, MetaData, Table, Text

from ordersync_adapters.sql.metadata import Key, admin, tenant
from ordersync_adapters.sql.types import Moment


def _leases(metadata: MetaData) -> Table:
    """A lease lies beside what it protects, so both databases have them. A row stays for ever: its term only rises."""
    return Table(
        "leases",
        metadata,
        Column("name", Key, primary_key=True),
        Column("holder", Text, nullable=False),
        Column("term", BigInteger, nullable=False),
        Column("until", Moment, nullable=False),
    )


admin_leases = _leases(admin)
tenant_leases = _leases(tenant)
