from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from ordersync_core.kernel.errors import LeaseLost
from ordersync_core.kernel.lease import Lease
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.databases import (
    DatabasesContract,
    hesitate,
    open_admin,
    open_tenant,
    queries,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import an_item

FLOW = "flow:item"
SHORT = timedelta(milliseconds=250)
"""A lease that a database with a clock of its own can be waited for."""
OVER = SHORT + timedelta(milliseconds=100)


class LeaseContract(DatabasesContract):
    def open(self, databases: Databases) -> Any:
        """The unit of work whose leases are meant."""
        return open_tenant(databases)

    def take(self, databases: Databases, holder: str, duration: timedelta | None = None) -> Lease | None:
        with self.open(databases) as uow:
            taken: Lease | None
            taken = uow.leases.take(FLOW, holder) if duration is None else uow.leases.take(FLOW, holder, duration)
            uow.commit()
            return taken

    def taken(self, databases: Databases, holder: str, duration: timedelta | None = None) -> Lease:
        lease = self.take(databases, holder, duration)
        assert lease is not None
        return lease

    def hold(self, databases: Databases, lease: Lease, duration: timedelta | None = None) -> None:
        with self.open(databases) as uow:
            if duration is None:
                uow.leases.hold(lease)
            else:
                uow.leases.hold(lease, duration)
            uow.commit()

    def release(self, databases: Databases, lease: Lease) -> None:
        with self.open(databases) as uow:
            uow.leases.release(lease)
            uow.commit()

    def test_only_one_holds_a_lease(self, databases: Databases) -> None:
        lease = self.taken(databases, "one")

        assert (lease.name, lease.holder) == (FLOW, "one")
        assert self.take(databases, "other") is None
        self.hold(databases, lease)

    def test_leases_of_other_names_are_free(self, databases: Databases) -> None:
        self.taken(databases, "one")
        with self.open(databases) as uow:
            assert uow.leases.take("flow:customer", "other") is not None

    def test_a_restarted_holder_gets_it_again_and_fences_its_earlier_self(self, databases: Databases) -> None:
        earlier = self.taken(databases, "one")
        later = self.taken(databases, "one")

        assert later.term > earlier.term
        with pytest.raises(LeaseLost):
            self.hold(databases, earlier)
        self.hold(databases, later)

    def test_a_lease_that_ran_out_is_taken_over_under_a_higher_term(
        self, databases: Databases, clock: ManualClock
    ) -> None:
        stale = self.taken(databases, "one", SHORT)
        self.pass_time(clock, OVER)
        fresh = self.taken(databases, "other")

        assert fresh.term > stale.term
        with pytest.raises(LeaseLost):
            self.hold(databases, stale)
        self.hold(databases, fresh)

    def test_a_lease_that_ran_out_and_was_not_taken_over_is_still_ours(
        self, databases: Databases, clock: ManualClock
    ) -> None:
        lease = self.taken(databases, "one", SHORT)
        self.pass_time(clock, OVER)

        self.hold(databases, lease)
        assert self.take(databases, "other") is None

    def test_holding_prolongs(self, databases: Databases, clock: ManualClock) -> None:
        lease = self.taken(databases, "one", SHORT)
        self.hold(databases, lease)
        self.pass_time(clock, OVER)

        assert self.take(databases, "other") is None

    def test_holding_counts_from_now(self, databases: Databases, clock: ManualClock) -> None:
        """It does not add up: a shorter time than what was left is what is left."""
        lease = self.taken(databases, "one")
        self.hold(databases, lease, SHORT)
        self.pass_time(clock, OVER)

        assert self.take(databases, "other") is not None

    def test_holding_that_is_not_committed_prolongs_nothing(self, databases: Databases, clock: ManualClock) -> None:
        lease = self.taken(databases, "one", SHORT)
        with self.open(databases) as uow:
            uow.leases.hold(lease)
        self.pass_time(clock, OVER)

        assert self.take(databases, "other") is not None

    def test_a_lease_that_was_given_up_is_free_at_once(self, databases: Databases) -> None:
        lease = self.taken(databases, "one")
        self.release(databases, lease)
        next_one = self.taken(databases, "other")

        assert next_one.term > lease.term

    def test_a_stale_holder_gives_nothing_up(self, databases: Databases, clock: ManualClock) -> None:
        stale = self.taken(databases, "one", SHORT)
        self.pass_time(clock, OVER)
        fresh = self.taken(databases, "other")
        self.release(databases, stale)

        assert self.take(databases, "third") is None
        self.hold(databases, fresh)

    def test_the_term_only_rises(self, databases: Databases) -> None:
        terms = []
        for holder in ("one", "other", "one"):
            lease = self.taken(databases, holder)
            terms.append(lease.term)
            self.release(databases, lease)

        assert sorted(set(terms)) == terms

    def test_a_lease_of_an_unknown_name_is_lost(self, databases: Databases) -> None:
        with pytest.raises(LeaseLost):
            self.hold(databases, Lease(name="never taken", holder="one", term=1))

    def test_of_many_that_ask_at_once_one_gets_it(self, databases: Databases) -> None:
        leases = together(*[lambda n=n: retried(lambda: self.take(databases, f"holder {n}")) for n in range(8)])

        (lease,) = [lease for lease in leases if lease is not None]
        self.hold(databases, lease)

    def test_terms_given_at_once_differ(self, databases: Databases) -> None:
        def restart() -> int:
            with self.open(databases) as uow:
                lease = uow.leases.take(FLOW, "the same")
                hesitate()
                uow.commit()
                term: int = lease.term
                return term

        terms = together(*[lambda: retried(restart)] * 6)

        assert sorted(set(terms)) == sorted(terms)

    def test_taking_over_waits_for_a_holder_that_is_writing(self, databases: Databases, clock: ManualClock) -> None:
        """Whoever holds it first in a transaction commits before another one has it, or not at all."""
        lease = self.taken(databases, "one", SHORT)
        self.pass_time(clock, OVER)

        def write() -> bool:
            try:
                with self.open(databases) as uow:
                    uow.leases.hold(lease)
                    hesitate()
                    uow.commit()
            except LeaseLost:
                return False
            return True

        def take_over() -> bool:
            return self.take(databases, "other") is not None

        wrote, took = together(lambda: retried(write), lambda: retried(take_over))

        assert wrote is not took


class TenantLeaseContract(LeaseContract):
    def test_nothing_is_kept_under_a_stale_lease(self, databases: Databases) -> None:
        """Also when its holder goes on as if nothing had happened."""
        stale = self.taken(databases, "one")
        self.taken(databases, "one")

        with suppress(Exception), self.open(databases) as uow:
            uow.items.save([an_item("A")])
            with pytest.raises(LeaseLost):
                uow.leases.hold(stale)
            uow.commit()

        assert queries(databases).count_items() == 0


class AdminLeaseContract(LeaseContract):
    """The leases of job runs."""

    def open(self, databases: Databases) -> Any:
        return open_admin(databases)
