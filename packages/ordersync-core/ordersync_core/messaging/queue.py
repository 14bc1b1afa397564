"""The queue port: peek-lock, at least once, with dead letters.

A message has two ids. `Envelope.id` is stable: consumers know a repetition by it. The send id is what the broker
sees; it differs for each ticket and each resubmission, so a broker's own duplicate detection does no harm.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from attrs import frozen

from ordersync_core.kernel.lease import LEASE

LOCK = LEASE
MAXIMUM_DEATHS = 3
CLAIM_LIMIT = 100
SUSPECTS_TOGETHER = 100
"""How many messages that died once are claimed together at most: whom a killer among them takes with it once more."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@frozen(kw_only=True)
class Message:
    """`body` is the encoded envelope, opaque to the queue. `group` names the tenant, for counts and purging."""

    send_id: str
    body: bytes
    group: str = ""


@frozen(kw_only=True)
class Claim:
    """A message that is ours until `locked_until`.

    deliveries: how many times it was claimed, this time included; at least 1.
    deaths: how many of these claims ended because their lock ran out.
    token: proves this very claim; an earlier claim of the same message has another.
    """

    message: Message
    token: str
    deliveries: int
    deaths: int
    locked_until: datetime


@frozen(kw_only=True)
class DeadLetter:
    """`id` names it within its queue. `reason` is one CamelCase word, `description` a sentence."""

    id: str
    message: Message
    reason: str
    description: str
    dead_at: datetime
    deliveries: int


@frozen(kw_only=True)
class Depth:
    """Messages that lie in a queue right now: to be claimed, claimed, given up."""

    ready: int
    locked: int
    dead: int


class Queue(Protocol):
    """One queue. Order is first in, first out by and large; consumers tolerate any other."""

    def send(self, messages: Sequence[Message]) -> None:
        """Durable once this returns. TemporaryFailure: maybe none, some or all of them were kept."""
        ...

    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        """Up to `limit` messages that nobody holds, oldest first; empty when there are none.

        A message that comes back because its lock ran out may be what killed its process, so it never comes with
        fresh ones. Those that died once come first, up to SUSPECTS_TOGETHER at a time; then those that died more
        often, each alone, for only then is a third death a killer's own; then the fresh ones.
        """
        ...

    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        """Those still ours, with their new end; a claim that was lost is left out."""
        ...

    def complete(self, claims: Sequence[Claim]) -> list[Claim]:
        """Take them off the queue; answers those that were no longer ours and stay as they are."""
        ...

    def abandon(self, claims: Sequence[Claim]) -> None:
        """Give them back at once; a lost claim is passed over."""
        ...

    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        """Give the message up; False when the claim was lost and nothing happened."""
        ...

    def dead_letters(self, *, limit: int = 50, after: str | None = None) -> list[DeadLetter]:
        """The oldest first; `after` is the id of the last one already seen."""
        ...

    def find_dead_letter(self, id: str) -> DeadLetter | None: ...

    def remove_dead_letter(self, id: str) -> bool:
        """Complete it: its row has taken over again. False when it was gone already."""
        ...

    def purge_dead_letters(self, *, before: datetime, limit: int) -> int:
        """Remove at most `limit` dead letters that are older; answers how many."""
        ...

    def depth(self) -> Depth: ...

    def wait(self, timeout: timedelta) -> None:
        """Return as soon as something may have been sent, at the latest after `timeout`."""
        ...


class Queues(Protocol):
    def __getitem__(self, name: str) -> Queue:
        """The queue of that name; KeyError for a name that is not one of `envelope.QUEUES`."""
        ...


def send_id(message_id: UUID, at: datetime) -> str:
    """What the broker sees: another one for each ticket of the same message, by the moment at which it is sent. A count
    would repeat itself, for it begins anew when a retry or a resubmission does."""
    return f"{message_id}:{(at - _EPOCH) // _MICROSECOND}"
