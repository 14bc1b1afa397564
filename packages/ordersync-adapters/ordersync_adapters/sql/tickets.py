"""The columns and statements of every row that owes tickets."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table, select

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import among
from ordersync_core.messaging.tickets import Ticketed


def note_tickets(connection: Connection, table: Table, tickets: Sequence[Ticketed]) -> None:
    """Write that the tickets went out, where `ticket_at` is still what it was when the row was read."""
    if not tickets:
        return
    ids = select(table.c.id).where(among(table.c.id, [ticket.id for ticket in tickets]))
    # in one order, so that no two transactions wait for each other
    connection.execute(ids.order_by(table.c.id).with_for_update())
    rows = [
        {"id": ticket.id, "was": ticket.was, "tickets": ticket.tickets, "ticket_at": ticket.ticket_at}
        for ticket in tickets
    ]
    bulk.update(connection, table, rows, by=("id",), unless_changed={"ticket_at": "was"})
