"""When a row owes its next ticket."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.messaging.queue import send_id
from ordersync_core.messaging.tickets import REPORTED_AFTER, Ticketed, sent_straight_away, ticketed
from ordersync_core.testing.contracts.examples import MINUTE, NOON, new_id
from ordersync_core.testing.strategies import moments


def waits(*, sent_at_once: bool) -> list[timedelta]:
    """The waits between the tickets of a row none of which brings an outcome."""
    at, tickets, found = NOON, 0, []
    if sent_at_once:
        at, tickets = sent_straight_away(NOON), 1
        found.append(at - NOON)
    while len(found) < 6:
        sent = ticketed(new_id(), was=at, tickets_before=tickets, at=at)
        found.append(sent.ticket_at - at)
        at, tickets = sent.ticket_at, sent.tickets
    return found


def test_a_ticket_that_was_sent_at_once_is_followed_after_1_5_and_30_minutes() -> None:
    assert waits(sent_at_once=True) == [n * MINUTE for n in (1, 5, 30, 30, 30, 30)]


def test_others_are_followed_after_5_minutes_until_the_row_is_reported_and_every_30_from_then_on() -> None:
    assert waits(sent_at_once=False) == [n * MINUTE for n in (5, 5, 30, 30, 30, 30)]
    assert REPORTED_AFTER == 3


def test_the_wait_is_counted_from_when_the_ticket_was_sent() -> None:
    id = new_id()
    late = ticketed(id, was=NOON, tickets_before=0, at=NOON + 7 * MINUTE)
    assert late == Ticketed(id=id, was=NOON, tickets=1, ticket_at=NOON + 12 * MINUTE)


@given(before=st.integers(0, 10_000))
def test_there_is_always_a_next_ticket(before: int) -> None:
    sent = ticketed(new_id(), was=NOON, tickets_before=before, at=NOON)
    assert sent.tickets == before + 1
    assert 5 * MINUTE <= sent.ticket_at - NOON <= 30 * MINUTE


@given(first=moments(), second=moments())
def test_send_ids_differ_as_their_moments_do(first: datetime, second: datetime) -> None:
    id = new_id()
    assert (send_id(id, first) == send_id(id, second)) == (first == second)
