import shlex

import rich_click as click

from ordersync_admin.output import done, say, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_option, pass_shell
from ordersync_core.administrations.commands import GrantMembership, RevokeMembership
from ordersync_core.administrations.handlers import grant_membership, revoke_membership
from ordersync_core.administrations.model import Membership, Role

subject_argument = click.argument("subject")


@click.group(name="identities")
def command() -> None:
    """People and machines, known by the `sub` of their access token, and their roles."""


@command.command(name="list")
@administration_option
@json_option
@pass_shell
def list_(shell: Shell, administration: str, as_json: bool) -> None:
    """List the members of an administration."""
    shell.check_administration(administration)
    show_rows(
        [_shown(member) for member in shell.admin_queries.members_of(administration)],
        {"identity": "identity", "role": "role"},
        as_json=as_json,
        empty=f"Nobody is a member yet: ordersync identities grant SUBJECT -a {administration} --role Owner",
    )


@command.command()
@subject_argument
@administration_option
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.READER.value, show_default=True)
@json_option
@pass_shell
def grant(shell: Shell, subject: str, administration: str, role: str, as_json: bool) -> None:
    """Give an identity a role, in place of any other."""
    membership = shell.application.run(
        grant_membership,
        GrantMembership(identity=subject, administration=administration, role=Role(role)),
        shell.context(administration),
    )
    show_one(_shown(membership), as_json=as_json)
    if not as_json and shell.settings.auth_issuer is None:
        say(f"Next: ordersync token {shlex.quote(subject)}")


@command.command()
@subject_argument
@administration_option
@json_option
@pass_shell
def revoke(shell: Shell, subject: str, administration: str, as_json: bool) -> None:
    """Take an identity's role away."""
    shell.application.run(
        revoke_membership,
        RevokeMembership(identity=subject, administration=administration),
        shell.context(administration),
    )
    done(f"{subject} is no longer a member of {administration}.", identity=subject, as_json=as_json)


def _shown(membership: Membership) -> dict[str, str]:
    return {
        "identity": membership.identity,
        "administration": membership.administration,
        "role": membership.role.value,
    }
