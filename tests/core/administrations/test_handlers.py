"""A tenant comes into being step by step, and each step may be where its process died."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from ordersync_core.administrations.commands import CreateAdministration, GrantMembership, RevokeMembership
from ordersync_core.administrations.handlers import create_administration, grant_membership, revoke_membership
from ordersync_core.administrations.model import Administration, AdministrationState, Membership, Role
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound
from ordersync_core.testing.clocks import SteppingIds
from ordersync_core.testing.contracts.databases import context, put_items
from ordersync_core.testing.memory import MemoryDatabases
from ordersync_core.testing.strategies import administration_codes
from tests.core.embedded import Embedded

ACTIVE, CREATING = AdministrationState.ACTIVE, AdministrationState.CREATING
STEPS = ("create", "migrate", "initialise")


class Died(BaseException):
    """The process ends here."""


class Broken:
    """The tenants' databases of a process that dies before, or after, one of the steps."""

    def __init__(self, tenants: TenantDatabases, step: str, *, after: bool) -> None:
        self._tenants = tenants
        self._step = step
        self._after = after

    def create(self, code: str) -> None:
        self._do("create", lambda: self._tenants.create(code))

    def migrate(self, code: str) -> None:
        self._do("migrate", lambda: self._tenants.migrate(code))

    def initialise(self, code: str, epoch: UUID) -> None:
        self._do("initialise", lambda: self._tenants.initialise(code, epoch))

    def _do(self, step: str, act: Callable[[], None]) -> None:
        if step == self._step and not self._after:
            raise Died
        act()
        if step == self._step:
            raise Died


class Platform(Embedded):
    def __init__(self) -> None:
        super().__init__(lambda clock: MemoryDatabases(clock, SteppingIds()))
        self.ports[TenantDatabases] = self.databases.tenants

    def create(self, code: str = "acme", name: str = "Acme") -> Administration:
        return self.run(create_administration, CreateAdministration(code=code, name=name), None)

    def state(self, code: str = "acme") -> AdministrationState | None:
        found: Administration | None = self.databases.admin_queries().administration(code)
        return None if found is None else found.state

    def grant(self, role: Role, identity: str = "auth0|7", code: str = "acme") -> Membership:
        return self.run(grant_membership, GrantMembership(identity=identity, administration=code, role=role), None)

    def memberships(self, identity: str = "auth0|7") -> Any:
        return self.databases.admin_queries().memberships_of(identity)


@pytest.fixture
def platform() -> Platform:
    return Platform()


class TestCreation:
    def test_makes_a_tenant_that_can_be_worked_with(self, platform: Platform) -> None:
        created = platform.create()
        assert created == Administration(code="acme", name="Acme", state=ACTIVE)
        assert platform.databases.admin_queries().administration("acme") == created
        put_items(platform.databases, "A", administration="acme")
        assert list(platform.databases.admin_queries().active()) == ["acme"]

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("step", STEPS)
    def test_that_broke_off_is_continued_by_the_same_command(self, platform: Platform, step: str, after: bool) -> None:
        tenants = platform.databases.tenants
        platform.ports[TenantDatabases] = Broken(tenants, step, after=after)
        with pytest.raises(Died):
            platform.create()
        assert platform.state() is CREATING
        assert list(platform.databases.admin_queries().active()) == []
        assert platform.memberships() == []

        platform.ports[TenantDatabases] = tenants
        assert platform.create().state is ACTIVE

        put_items(platform.databases, "A", administration="acme")

    def test_that_broke_off_keeps_the_epoch_it_got(self, platform: Platform) -> None:
        tenants = platform.databases.tenants
        platform.ports[TenantDatabases] = Broken(tenants, "initialise", after=True)
        with pytest.raises(Died):
            platform.create()
        epoch = platform.databases.queries(context("acme")).feed().epoch
        platform.ports[TenantDatabases] = tenants
        platform.create()
        assert platform.databases.queries(context("acme")).feed().epoch == epoch

    def test_that_broke_off_is_not_continued_under_another_name(self, platform: Platform) -> None:
        platform.ports[TenantDatabases] = Broken(platform.databases.tenants, "migrate", after=False)
        with pytest.raises(Died):
            platform.create()
        with pytest.raises(Conflict, match="administration 'acme' exists already"):
            platform.create(name="Somebody else")
        assert platform.state() is CREATING

    @pytest.mark.parametrize("name", ["Acme", "Somebody else"])
    def test_a_code_is_taken_for_ever(self, platform: Platform, name: str) -> None:
        platform.create()
        put_items(platform.databases, "A", administration="acme")
        with pytest.raises(Conflict, match="administration 'acme' exists already"):
            platform.create(name=name)
        assert platform.databases.queries(context("acme")).feed() is not None
        assert platform.state() is ACTIVE

    @pytest.mark.parametrize("code", ["", "a", "A1", "1a", "-a", "a_b", "a b", "é1", "a" * 41, "acme\n", "../acme"])
    def test_a_code_that_is_none_is_refused(self, code: str) -> None:
        with pytest.raises(InvalidInput, match="is not an administration code"):
            CreateAdministration(code=code, name="Acme")

    @given(administration_codes())
    def test_a_code_that_is_one_is_taken(self, code: str) -> None:
        assert CreateAdministration(code=code, name="Acme").code == code


class TestRoles:
    def test_each_includes_those_before_it(self) -> None:
        order = (Role.READER, Role.EDITOR, Role.OWNER)
        assert [[role.includes(needed) for needed in order] for role in order] == [
            [True, False, False],
            [True, True, False],
            [True, True, True],
        ]

    def test_granted_one_takes_the_place_of_the_one_before(self, platform: Platform) -> None:
        platform.create()
        platform.grant(Role.OWNER)
        granted = platform.grant(Role.READER)
        assert platform.memberships() == [granted]
        assert granted == Membership(identity="auth0|7", administration="acme", role=Role.READER)

    def test_in_one_administration_says_nothing_of_another(self, platform: Platform) -> None:
        platform.create()
        platform.create("other", "Other")
        owner = platform.grant(Role.OWNER)
        reader = platform.grant(Role.READER, code="other")
        assert platform.memberships() == [owner, reader]
        platform.run(revoke_membership, RevokeMembership(identity="auth0|7", administration="acme"), None)
        assert platform.memberships() == [reader]

    def test_there_is_none_in_an_administration_that_is_not(self, platform: Platform) -> None:
        with pytest.raises(NotFound):
            platform.grant(Role.OWNER)
        assert platform.memberships() == []

    def test_what_nobody_has_cannot_be_revoked(self, platform: Platform) -> None:
        platform.create()
        with pytest.raises(NotFound):
            platform.run(revoke_membership, RevokeMembership(identity="auth0|7", administration="acme"), None)
