"""Leases: who works on what, for how long, fenced by a term that only rises."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from attrs import frozen

LEASE = timedelta(seconds=60)
RENEW_EVERY = timedelta(seconds=15)


@frozen(kw_only=True)
class Lease:
    """`term` rises each time the lease changes hands; a write under an older term is refused."""

    name: str
    holder: str
    term: int


class LeaseRepository(Protocol):
    def take(self, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        """The lease under a new term, or None while someone else's runs (by the database's clock).

        Whoever holds it already gets it again under a new term: a restarted holder fences its earlier self.
        """
        ...

    def hold(self, lease: Lease, duration: timedelta = LEASE) -> None:
        """Prolong it inside this transaction, as the first write of it.

        Raises:
            LeaseLost: the term is not the current one; nothing of this transaction may be committed.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give it up at once; does nothing when the term has moved on."""
        ...


class Heartbeat(Protocol):
    def every(self, interval: timedelta, beat: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `beat` at that interval, beside the block's own work, until the block ends.

        A beat that raises does not disturb the block: what it held is lost then, and the block's next write says so.
        """
        ...
