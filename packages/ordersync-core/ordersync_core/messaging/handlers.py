"""The relay: number first, send later."""

from collections.abc import Sequence
from datetime import datetime

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.unit_of_work import Opens
from ordersync_core.messaging.commands import (
    FindEarliestTicket,
    FindStuck,
    GiveUpEvents,
    OweEventsAgain,
    Relay,
    TakeDue,
    Wake,
)
from ordersync_core.messaging.deduplication import collapse
from ordersync_core.messaging.envelope import EVENTS, encode
from ordersync_core.messaging.model import OutboxRow, event_ticket, number_rows
from ordersync_core.messaging.ports import MessagingUnitOfWork, WakeUnitOfWork
from ordersync_core.messaging.queue import Message, Queues, send_id
from ordersync_core.messaging.tickets import OWED_WITHIN, Stuck, is_stuck, sent_straight_away, ticketed

BATCH = 1_000


def relay(command: Relay, *, uows: Opens[MessagingUnitOfWork], queues: Queues, clock: Clock, context: Context) -> int:
    """Number waiting rows and send their tickets, then the tickets that older rows owe; answers how many went.

    A relay that dies anywhere repeats the same messages, for what has a number is never changed again. Two at
    once do no harm: one waits for the other to number, and both may send.
    """
    return number(command, uows=uows, queues=queues, clock=clock, context=context) + send_owed(
        command, uows=uows, queues=queues, clock=clock, context=context
    )


def number(command: Relay, *, uows: Opens[MessagingUnitOfWork], queues: Queues, clock: Clock, context: Context) -> int:
    """One numbering transaction after another, until nothing waits or the window is full."""
    sent = 0
    while True:
        with uows() as uow:
            last_number = uow.outbox.lock_numbering()
            room = min(BATCH, command.window - uow.outbox.unfinished(command.window))
            rows = uow.outbox.unnumbered(room) if room > 0 else []
            if not rows:
                return sent
            collapsed = collapse(rows)
            numbering = number_rows(
                collapsed.survivors,
                collapsed.absorbed,
                last_number=last_number,
                administration=_administration(context),
            )
            uow.outbox.number(numbering, ticket_at=sent_straight_away(clock.now()))
            uow.commit()
        _send(numbering.numbered, queues, context, clock.now())
        sent += len(numbering.numbered)


def send_owed(
    command: Relay, *, uows: Opens[MessagingUnitOfWork], queues: Queues, clock: Clock, context: Context
) -> int:
    """Send again what brought no outcome in time, and note it afterwards: a crash between repeats, never skips."""
    with uows() as uow:
        owed = uow.outbox.owed(clock.now(), limit=command.window)
    if not owed:
        return 0
    now = clock.now()
    _send(owed, queues, context, now)
    with uows() as uow:
        uow.outbox.ticketed(
            [
                ticketed(row.id, was=row.ticket_at, tickets_before=row.tickets, at=now)
                for row in owed
                if row.ticket_at is not None
            ]
        )
        uow.commit()
    return len(owed)


def owe_events_again(command: OweEventsAgain, *, uow: MessagingUnitOfWork, clock: Clock) -> None:
    with uow:
        uow.outbox.owe_again(command.ids, clock.now())
        uow.commit()


def give_up_events(command: GiveUpEvents, *, uow: MessagingUnitOfWork, clock: Clock) -> None:
    """Committed before the dead letters themselves: without it the rows would owe the same tickets again."""
    with uow:
        uow.outbox.handled(command.ids, clock.now())
        uow.commit()


def earliest_ticket_at(command: FindEarliestTicket, *, uow: MessagingUnitOfWork) -> datetime | None:
    """None when the administration owes none."""
    with uow:
        return uow.outbox.earliest_ticket_at()


def stuck_events(command: FindStuck, *, uow: MessagingUnitOfWork, clock: Clock, context: Context) -> Sequence[Stuck]:
    with uow:
        rows = uow.outbox.owed(clock.now() + OWED_WITHIN, command.limit)
    return [
        Stuck(administration=_administration(context), what=f"event {row.id} ({row.event_type})", tickets=row.tickets)
        for row in rows
        if is_stuck(row.tickets)
    ]


def take_due(command: TakeDue, *, uow: WakeUnitOfWork, clock: Clock) -> list[str]:
    """The administrations that have work now. Their hints are gone before anyone looks at their outbox, so a
    change that comes in meanwhile wakes them again."""
    with uow:
        due = uow.wake.take_due(clock.now())
        if due:
            uow.commit()
        return due


def wake(command: Wake, *, uow: WakeUnitOfWork) -> None:
    with uow:
        uow.wake.wake({command.administration: command.at})
        uow.commit()


def _send(rows: Sequence[OutboxRow], queues: Queues, context: Context, now: datetime) -> None:
    administration = _administration(context)
    queues[EVENTS].send(
        [
            Message(
                send_id=send_id(row.id, now),
                body=encode(event_ticket(row, administration=administration)),
                group=administration,
            )
            for row in rows
        ]
    )


def _administration(context: Context) -> str:
    if context.administration is None:
        raise ValueError("the relay works for one administration at a time")
    return context.administration
