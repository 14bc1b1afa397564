from collections.abc import Sequence
from typing import Any
from uuid import UUID

from attrs import evolve

from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.memory.transaction import Table, Transaction


def note_tickets(transaction: Transaction, table: Table[UUID, Any], tickets: Sequence[Ticketed]) -> None:
    """Write that the tickets went out, where `ticket_at` is still what it was when the row was read."""
    for ticket in sorted(tickets, key=lambda ticket: ticket.id):
        kept = transaction.find(table, ticket.id)
        if kept is not None and kept.ticket_at == ticket.was:
            transaction.replace(table, ticket.id, evolve(kept, tickets=ticket.tickets, ticket_at=ticket.ticket_at))
