from attrs import evolve

from ordersync_core.administrations.commands import CreateAdministration, GrantMembership, RevokeMembership
from ordersync_core.administrations.model import Administration, AdministrationState, Membership
from ordersync_core.administrations.ports import AdministrationsUnitOfWork, TenantDatabases
from ordersync_core.kernel.errors import Conflict, NotFound
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.unit_of_work import Opens


def create_administration(
    command: CreateAdministration,
    *,
    uows: Opens[AdministrationsUnitOfWork],
    tenants: TenantDatabases,
    ids: Ids,
) -> Administration:
    """Create a tenant and its database. The same command continues a creation that broke off.

    Raises:
        Conflict: the code is taken; codes are unique for ever.
    """
    draft = Administration(code=command.code, name=command.name, state=AdministrationState.CREATING)
    with uows() as uow:
        kept = uow.administrations.find(draft.code)
        if kept is None:
            uow.administrations.add(draft)
            uow.commit()
        elif kept != draft:
            raise Conflict(f"administration {draft.code!r} exists already")
    tenants.create(draft.code)
    tenants.migrate(draft.code)
    tenants.initialise(draft.code, ids.new())
    active = evolve(draft, state=AdministrationState.ACTIVE)
    with uows() as uow:
        uow.administrations.save(active)
        uow.commit()
    return active


def grant_membership(command: GrantMembership, *, uow: AdministrationsUnitOfWork) -> Membership:
    membership = Membership(identity=command.identity, administration=command.administration, role=command.role)
    with uow:
        if uow.administrations.find(command.administration) is None:
            raise NotFound(f"there is no administration {command.administration!r}")
        uow.memberships.grant(membership)
        uow.commit()
    return membership


def revoke_membership(command: RevokeMembership, *, uow: AdministrationsUnitOfWork) -> None:
    with uow:
        if not uow.memberships.revoke(command.identity, command.administration):
            raise NotFound(f"{command.identity!r} is not a member of {command.administration!r}")
        uow.commit()
