"""A token that works on this machine: for the embedded set-up, whose issuer is local."""

from datetime import timedelta

from attrs import frozen

from ordersync_admin.shell import Shell
from ordersync_core.administrations.commands import CreateAdministration, GrantMembership
from ordersync_core.administrations.handlers import create_administration, grant_membership
from ordersync_core.administrations.model import Role

OPERATOR = "operator"
FIRST_ADMINISTRATION = "first"


@frozen(kw_only=True)
class Access:
    administration: str
    identity: str
    token: str

    def curl(self, api: str) -> str:
        """One line that works in a shell."""
        return (
            f"curl -s -H 'Authorization: Bearer {self.token}' -H 'X-Administration: {self.administration}' "
            f"'{api}/v1/items?limit=5'"
        )


def give_access(shell: Shell, *, lifetime: timedelta) -> Access | None:
    """A token for the local operator, owner of the first administration; it is made when there is none.

    None where tokens come from an issuer of your own.
    """
    if shell.settings.auth_issuer is not None:
        return None
    active = list(shell.admin_queries.active())
    if not active:
        shell.application.run(
            create_administration,
            CreateAdministration(code=FIRST_ADMINISTRATION, name="The first administration"),
            shell.context(),
        )
        active = [FIRST_ADMINISTRATION]
    shell.application.run(
        grant_membership,
        GrantMembership(identity=OPERATOR, administration=active[0], role=Role.OWNER),
        shell.context(),
    )
    token = shell.issue_token(OPERATOR, lifetime=lifetime)
    return Access(administration=active[0], identity=OPERATOR, token=token)
