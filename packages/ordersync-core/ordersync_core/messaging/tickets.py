"""When a row owes its next ticket. The row is the truth; a lost message costs a wait, never the work."""

from datetime import datetime, timedelta
from uuid import UUID

from attrs import frozen

FIRST_WAIT = timedelta(minutes=1)
LATER_WAITS = (timedelta(minutes=5), timedelta(minutes=30))
REPORTED_AFTER = 3
OWED_WITHIN = max(LATER_WAITS) + timedelta(minutes=5)
"""A row whose ticket went out owes the next one within this, so asking that far ahead finds it."""


@frozen(kw_only=True)
class Ticketed:
    """Note that a row's ticket went out, unless the row has moved on meanwhile.

    was: the row's `ticket_at` when it was read; another value means that somebody has decided anew.
    tickets: how many were sent for this piece of work, the latest included.
    ticket_at: when it owes another one, should this one bring no outcome.
    """

    id: UUID
    was: datetime
    tickets: int
    ticket_at: datetime


def ticketed(id: UUID, *, was: datetime, tickets_before: int, at: datetime) -> Ticketed:
    """The wait is 5 minutes, and from the third ticket on 30 minutes for ever: nothing is given up for want of an
    answer. `watch_health` reports rows from the third ticket on."""
    tickets = tickets_before + 1
    soon, later = LATER_WAITS
    return Ticketed(id=id, was=was, tickets=tickets, ticket_at=at + (soon if tickets < REPORTED_AFTER else later))


@frozen(kw_only=True)
class Stuck:
    """A row that had its third ticket, or a later one, and still has no outcome."""

    administration: str
    what: str
    tickets: int

    def __str__(self) -> str:
        return f"{self.administration}: {self.what} has had {self.tickets} tickets and no outcome"


def is_stuck(tickets: int) -> bool:
    return tickets >= REPORTED_AFTER


def sent_straight_away(at: datetime) -> datetime:
    """`ticket_at` of a row whose first ticket is sent right after its commit."""
    return at + FIRST_WAIT
