from collections.abc import Sequence

from ordersync_core.administrations.model import Administration, AdministrationState, Membership
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table, Transaction

ADMINISTRATIONS = Table[str, Administration]("administrations")
MEMBERSHIPS = Table[tuple[str, str], Membership]("memberships")


class MemoryAdministrationRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, code: str) -> Administration | None:
        return self._transaction.find(ADMINISTRATIONS, code)

    def add(self, administration: Administration) -> None:
        self._transaction.insert(ADMINISTRATIONS, administration.code, administration)

    def save(self, administration: Administration) -> None:
        self._transaction.replace(ADMINISTRATIONS, administration.code, administration)


class MemoryMembershipRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def grant(self, membership: Membership) -> None:
        self._transaction.save(MEMBERSHIPS, (membership.identity, membership.administration), membership)

    def revoke(self, identity: str, administration: str) -> bool:
        return self._transaction.delete(MEMBERSHIPS, (identity, administration))


class MemoryAdministrationQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def administrations(self) -> Sequence[Administration]:
        return sorted(self._database.rows(ADMINISTRATIONS).values(), key=lambda administration: administration.code)

    def administration(self, code: str) -> Administration | None:
        return self._database.row(ADMINISTRATIONS, code)

    def active(self) -> Sequence[str]:
        return [a.code for a in self.administrations() if a.state is AdministrationState.ACTIVE]

    def memberships_of(self, identity: str) -> Sequence[Membership]:
        with self._database.moment():
            active = set(self.active())
            memberships = self._memberships()
        return [m for m in memberships if m.identity == identity and m.administration in active]

    def members_of(self, administration: str) -> Sequence[Membership]:
        return [m for m in self._memberships() if m.administration == administration]

    def _memberships(self) -> list[Membership]:
        return sorted(self._database.rows(MEMBERSHIPS).values(), key=lambda m: (m.identity, m.administration))
