from datetime import datetime
from uuid import UUID

from attrs import frozen

EVENTS_WINDOW = 2_000


@frozen(kw_only=True)
class Relay:
    """Number what has no number and send what is owed, for one administration.

    window: how many `events` tickets of it may lie unfinished in the queue.
    """

    window: int = EVENTS_WINDOW


@frozen(kw_only=True)
class TakeDue:
    """Take the administrations whose wake-up has come."""


@frozen(kw_only=True)
class Wake:
    administration: str
    at: datetime


@frozen(kw_only=True)
class OweEventsAgain:
    """Let these numbered events be handled again: a resubmission."""

    ids: tuple[UUID, ...]


@frozen(kw_only=True)
class GiveUpEvents:
    """These numbered events become dead letters: their rows owe no more tickets, until a resubmission."""

    ids: tuple[UUID, ...]


@frozen(kw_only=True)
class FindEarliestTicket:
    """When an administration owes its next ticket."""


@frozen(kw_only=True)
class FindStuck:
    """What had its third ticket and has no outcome.

    limit: of events, how many of those without an outcome are looked at; by default as many as have their ticket out.
    """

    limit: int = EVENTS_WINDOW
