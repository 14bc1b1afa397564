"""When a row owes its next ticket. The row is the truth; a lost message costs a wait, never the work."""

from datetime import datetime, timedelta

FIRST_WAIT = timedelta(minutes=1)
LATER_WAITS = (timedelta(minutes=5), timedelta(minutes=30))
REPORTED_AFTER = 3


def next_ticket_at(*, sent_at: datetime, tickets: int) -> datetime:
    """When the row owes another ticket, should the one just sent bring no outcome.

    tickets: how many were sent for this piece of work, the latest included; at least 1. After the first the
    wait is 5 minutes, then 30 minutes for ever: nothing is given up for want of an answer. `watch_health` reports
    rows from the third on.
    """
    return sent_at + LATER_WAITS[min(tickets, len(LATER_WAITS)) - 1]


def sent_straight_away(at: datetime) -> datetime:
    """`ticket_at` of a row whose first ticket is sent right after its commit."""
    return at + FIRST_WAIT
