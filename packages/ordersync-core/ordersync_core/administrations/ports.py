from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from ordersync_core.administrations.model import Administration, Membership
from ordersync_core.kernel.unit_of_work import AdminQueries, AdminUnitOfWork


class AdministrationRepository(Protocol):
    def find(self, code: str) -> Administration | None: ...

    def add(self, administration: Administration) -> None:
        """ChangedMeanwhile, at the latest at commit, when the code exists: codes are unique for ever."""
        ...

    def save(self, administration: Administration) -> None: ...


class MembershipRepository(Protocol):
    def grant(self, membership: Membership) -> None:
        """Give the role, in place of any other role in the same administration."""
        ...

    def revoke(self, identity: str, administration: str) -> bool:
        """False when there was none."""
        ...


class AdministrationsUnitOfWork(AdminUnitOfWork, Protocol):
    @property
    def administrations(self) -> AdministrationRepository: ...

    @property
    def memberships(self) -> MembershipRepository: ...


class AdministrationQueries(AdminQueries, Protocol):
    def administrations(self) -> Sequence[Administration]: ...

    def administration(self, code: str) -> Administration | None: ...

    def active(self) -> Sequence[str]:
        """Codes of the active administrations, alphabetical: every walk over tenants takes these only."""
        ...

    def memberships_of(self, identity: str) -> Sequence[Membership]:
        """Of active administrations only."""
        ...

    def members_of(self, administration: str) -> Sequence[Membership]: ...


class TenantDatabases(Protocol):
    """The databases of the administrations, one each. Every step may be repeated."""

    def create(self, code: str) -> None:
        """Make the database if it is absent."""
        ...

    def migrate(self, code: str) -> None:
        """Bring its tables to the present revision."""
        ...

    def initialise(self, code: str, epoch: UUID) -> None:
        """Enter the one `tenant` row, if it is absent; Conflict when the database is another tenant's."""
        ...
