"""Administrations, memberships, who is to be woken, and the databases of the tenants."""

from datetime import datetime

import pytest
from attrs import evolve

from ordersync_core.administrations.model import Administration, AdministrationState, Membership, Role
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.errors import ChangedMeanwhile, OrderSyncError
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.databases import (
    DatabasesContract,
    hesitate,
    open_admin,
    put_items,
    queries,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, new_id

ACTIVE = AdministrationState.ACTIVE
CREATING = AdministrationState.CREATING


class AdministrationsContract(DatabasesContract):
    """The admin database may hold rows of the suite's tenants, alpha and beta; these examples use other codes."""

    def test_an_administration_comes_back_as_it_was_added(self, databases: Databases) -> None:
        acme = Administration(code="acme", name="Acme “Trading” é", state=ACTIVE, server="second")
        add(databases, acme)

        with open_admin(databases) as uow:
            assert uow.administrations.find("acme") == acme
            assert uow.administrations.find("nobody") is None
        reads = databases.admin_queries()
        assert (reads.administration("acme"), reads.administration("nobody")) == (acme, None)

    def test_a_code_is_given_once(self, databases: Databases) -> None:
        add(databases, an_administration("acme"))

        with pytest.raises(ChangedMeanwhile):
            add(databases, an_administration("acme"))

    def test_of_twins_one_gets_the_code(self, databases: Databases) -> None:
        def create(name: str) -> bool:
            try:
                with open_admin(databases) as uow:
                    if uow.administrations.find("acme") is not None:
                        return False
                    hesitate()
                    uow.administrations.add(an_administration("acme", name=name))
                    uow.commit()
            except ChangedMeanwhile:
                return False
            return True

        created = together(*[lambda n=n: create(f"name {n}") for n in range(6)])

        assert created.count(True) == 1
        assert databases.admin_queries().administration("acme").name == f"name {created.index(True)}"

    def test_saving_replaces(self, databases: Databases) -> None:
        acme = an_administration("acme", state=CREATING)
        add(databases, acme, an_administration("bolt"))
        active = evolve(acme, state=ACTIVE, name="New name")
        with open_admin(databases) as uow:
            uow.administrations.save(active)
            uow.commit()

        assert databases.admin_queries().administration("acme") == active
        assert databases.admin_queries().administration("bolt") == an_administration("bolt")

    def test_only_active_ones_are_walked(self, databases: Databases) -> None:
        add(databases, an_administration("zeta"), an_administration("acme"), an_administration("bolt", state=CREATING))

        reads = databases.admin_queries()
        assert [code for code in reads.active() if code in ("acme", "bolt", "zeta")] == ["acme", "zeta"]
        assert {"acme", "bolt", "zeta"} <= {administration.code for administration in reads.administrations()}

    # memberships

    def test_a_role_is_granted_in_place_of_another(self, databases: Databases) -> None:
        add(databases, an_administration("acme"), an_administration("bolt"))
        grant(databases, Membership(identity="auth0|7", administration="acme", role=Role.READER))
        grant(databases, Membership(identity="auth0|7", administration="bolt", role=Role.EDITOR))
        owner = Membership(identity="auth0|7", administration="acme", role=Role.OWNER)
        grant(databases, owner)

        memberships = databases.admin_queries().memberships_of("auth0|7")
        assert {(m.administration, m.role) for m in memberships} == {("acme", Role.OWNER), ("bolt", Role.EDITOR)}
        assert list(databases.admin_queries().members_of("acme")) == [owner]
        assert list(databases.admin_queries().memberships_of("somebody else")) == []

    def test_only_memberships_of_active_administrations_count(self, databases: Databases) -> None:
        add(databases, an_administration("acme", state=CREATING))
        membership = Membership(identity="auth0|7", administration="acme", role=Role.OWNER)
        grant(databases, membership)

        assert list(databases.admin_queries().memberships_of("auth0|7")) == []
        assert list(databases.admin_queries().members_of("acme")) == [membership]

    def test_a_revoked_membership_is_gone(self, databases: Databases) -> None:
        add(databases, an_administration("acme"))
        grant(databases, Membership(identity="auth0|7", administration="acme", role=Role.OWNER))
        grant(databases, Membership(identity="auth0|8", administration="acme", role=Role.OWNER))

        assert self.revoke(databases, "auth0|7", "acme") is True
        assert self.revoke(databases, "auth0|7", "acme") is False
        assert [m.identity for m in databases.admin_queries().members_of("acme")] == ["auth0|8"]

    def revoke(self, databases: Databases, identity: str, administration: str) -> bool:
        with open_admin(databases) as uow:
            was_there: bool = uow.memberships.revoke(identity, administration)
            uow.commit()
            return was_there


class WakeContract(DatabasesContract):
    def test_who_is_due_is_taken_once(self, databases: Databases) -> None:
        wake(databases, acme=NOON, bolt=NOON - MINUTE, cobalt=NOON + SECOND)

        assert sorted(take_due(databases, NOON)) == ["acme", "bolt"]
        assert take_due(databases, NOON) == []
        assert take_due(databases, NOON + SECOND) == ["cobalt"]

    def test_the_earlier_moment_stays(self, databases: Databases) -> None:
        wake(databases, acme=NOON, bolt=NOON)
        wake(databases, acme=NOON + MINUTE, bolt=NOON - MINUTE)

        assert take_due(databases, NOON - MINUTE) == ["bolt"]
        assert take_due(databases, NOON) == ["acme"]

    def test_nobody_to_wake_changes_nothing(self, databases: Databases) -> None:
        wake(databases)

        assert take_due(databases, NOON) == []

    def test_taking_that_is_not_committed_takes_nothing(self, databases: Databases) -> None:
        wake(databases, acme=NOON)
        with open_admin(databases) as uow:
            assert uow.wake.take_due(NOON) == ["acme"]

        assert take_due(databases, NOON) == ["acme"]

    def test_no_hint_is_lost_or_taken_twice(self, databases: Databases) -> None:
        codes = [f"tenant-{n}" for n in range(12)]

        def give(codes: list[str]) -> list[str]:
            retried(lambda: wake(databases, **dict.fromkeys(codes, NOON)))
            return []

        def take() -> list[str]:
            return [code for _ in range(5) for code in retried(lambda: take_due(databases, NOON))]

        jobs = [lambda part=part: give(part) for part in (codes[:4], codes[4:8], codes[8:])]
        taken = [code for result in together(*jobs, take, take, take) for code in result]
        taken += take_due(databases, NOON)

        assert sorted(taken) == sorted(codes)


class OverlappingWakeContract(DatabasesContract):
    """For databases in which transactions overlap."""

    def test_what_another_takes_is_passed_over(self, databases: Databases) -> None:
        wake(databases, acme=NOON, bolt=NOON)

        with open_admin(databases) as one, open_admin(databases) as other:
            assert sorted(one.wake.take_due(NOON)) == ["acme", "bolt"]
            wake(databases, cobalt=NOON)
            assert other.wake.take_due(NOON) == ["cobalt"]
            other.commit()

        assert sorted(take_due(databases, NOON)) == ["acme", "bolt"]


class TenantDatabasesContract(DatabasesContract):
    """A subclass also gives `tenants`: what made the tenants of `databases`."""

    def make_tenants(self, databases: Databases) -> TenantDatabases:
        raise NotImplementedError

    @pytest.fixture
    def tenants(self, databases: Databases) -> TenantDatabases:
        return self.make_tenants(databases)

    def test_every_step_may_be_repeated(
        self, databases: Databases, tenants: TenantDatabases, clock: ManualClock
    ) -> None:
        epoch = new_id()
        for _ in range(2):
            tenants.create("gamma")
        for _ in range(2):
            tenants.migrate("gamma")
        for again in (epoch, new_id()):
            tenants.initialise("gamma", again)

        put_items(databases, "A", administration="gamma")
        assert queries(databases, "gamma").feed().epoch == epoch

        for step in (tenants.create, tenants.migrate):
            step("gamma")
        tenants.initialise("gamma", new_id())
        assert queries(databases, "gamma").count_items() == 1
        assert queries(databases, "gamma").feed().epoch == epoch

    def test_one_whose_creation_broke_off_is_not_opened(self, databases: Databases, tenants: TenantDatabases) -> None:
        tenants.create("gamma")
        with pytest.raises(OrderSyncError):
            put_items(databases, "A", administration="gamma")

        tenants.migrate("gamma")
        with pytest.raises(OrderSyncError):
            put_items(databases, "A", administration="gamma")

    def test_twins_that_create_one_get_one_epoch(self, databases: Databases, tenants: TenantDatabases) -> None:
        def create() -> None:
            tenants.create("gamma")
            tenants.migrate("gamma")
            tenants.initialise("gamma", new_id())

        together(*[lambda: retried(create)] * 3)

        put_items(databases, "A", administration="gamma")
        assert queries(databases, "gamma").count_items() == 1


def an_administration(code: str, *, name: str = "Acme", state: AdministrationState = ACTIVE) -> Administration:
    return Administration(code=code, name=name, state=state)


def add(databases: Databases, *administrations: Administration) -> None:
    with open_admin(databases) as uow:
        for administration in administrations:
            uow.administrations.add(administration)
        uow.commit()


def grant(databases: Databases, membership: Membership) -> None:
    with open_admin(databases) as uow:
        uow.memberships.grant(membership)
        uow.commit()


def wake(databases: Databases, **due: datetime) -> None:
    with open_admin(databases) as uow:
        uow.wake.wake(due)
        uow.commit()


def take_due(databases: Databases, now: datetime) -> list[str]:
    with open_admin(databases) as uow:
        taken: list[str] = uow.wake.take_due(now)
        hesitate()
        uow.commit()
        return taken
