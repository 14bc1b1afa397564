from datetime import datetime, timedelta

from attrs import evolve, frozen

from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import LeaseLost
from ordersync_core.kernel.lease import LEASE, Lease
from ordersync_core.testing.memory.transaction import Table, Transaction


@frozen(kw_only=True)
class LeaseRow:
    """A lease that was given up keeps its row, so that the term never falls."""

    holder: str
    term: int
    until: datetime


LEASES = Table[str, LeaseRow]("leases")


class MemoryLeaseRepository:
    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        self._transaction = transaction
        self._clock = clock

    def take(self, name: str, holder: str, duration: timedelta = LEASE) -> Lease | None:
        self._transaction.lock(LEASES, name)
        kept = self._transaction.row(LEASES, name)
        now = self._clock.now()
        if kept is not None and kept.holder != holder and kept.until > now:
            return None
        term = 1 if kept is None else kept.term + 1
        self._transaction.save(LEASES, name, LeaseRow(holder=holder, term=term, until=now + duration))
        return Lease(name=name, holder=holder, term=term)

    def hold(self, lease: Lease, duration: timedelta = LEASE) -> None:
        if not self._end_at(lease, self._clock.now() + duration):
            self._transaction.fail(LeaseLost(f"{lease.name} was taken over from {lease.holder}"))

    def release(self, lease: Lease) -> None:
        self._end_at(lease, self._clock.now())

    def _end_at(self, lease: Lease, until: datetime) -> bool:
        return self._transaction.update(
            LEASES, lease.name, lambda kept: evolve(kept, until=until) if kept.term == lease.term else None
        )
