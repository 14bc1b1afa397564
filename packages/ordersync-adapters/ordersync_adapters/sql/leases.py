"""Leases as rows, by the database's clock."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Table, or_, update

from ordersync_adapters.sql.bulk import insert_into
from ordersync_adapters.sql.transactions import mark_failed
from ordersync_adapters.sql.types import database_moment
from ordersync_core.kernel.errors import LeaseLost
from ordersync_core.kernel.lease import LEASE, Lease

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class SqlLeases:
    """`table` is the one of the database that `connection` leads to."""

    def __init__(self, connection: Connection, table: Table) -> None:
        self._connection = connection
        self._table = table

    def take(self, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        leases = self._table.c
        statement = (
            insert_into(self._connection, self._table)
            .values(name=name, holder=holder, term=1, until=database_moment(duration))
            .on_conflict_do_update(
                index_elements=[leases.name],
                set_={"holder": holder, "term": leases.term + 1, "until": database_moment(duration)},
                where=or_(leases.until <= database_moment(), leases.holder == holder),
            )
            .returning(leases.term)
        )
        term = self._connection.execute(statement).scalar_one_or_none()
        return None if term is None else Lease(name=name, holder=holder, term=term)

    def hold(self, lease: Lease, duration: timedelta = LEASE) -> None:
        if not self._set_until(lease, database_moment(duration)):
            mark_failed(self._connection)
            raise LeaseLost(f"{lease.name} was taken over from {lease.holder}")

    def release(self, lease: Lease) -> None:
        self._set_until(lease, _LONG_AGO)

    def _set_until(self, lease: Lease, moment: datetime | database_moment) -> bool:
        """Whether the lease was still under its term."""
        statement = (
            update(self._table)
            .where(self._table.c.name == lease.name, self._table.c.term == lease.term)
            .values(until=moment)
        )
        return self._connection.execute(statement).rowcount > 0
