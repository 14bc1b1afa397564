import rich_click as click

from ordersync_admin.output import folding, say, show_one, show_rows
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.administrations.model import Administration


@click.group(name="administrations")
def command() -> None:
    """Tenants: each has a code, a name and a database of its own."""


@command.command(name="list")
@json_option
@pass_shell
def list_(shell: Shell, as_json: bool) -> None:
    """List all administrations."""
    rows = [_shown(administration) for administration in shell.admin_queries.administrations()]
    show_rows(
        rows,
        {"code": "code", "name": folding("name"), "state": "state"},
        as_json=as_json,
        empty="There are no administrations yet: ordersync administrations create CODE --name NAME",
    )


@command.command()
@click.argument("code")
@click.option("--name", help="What people call it; the code when left out.")
@json_option
@pass_shell
def create(shell: Shell, code: str, name: str | None, as_json: bool) -> None:
    """Create an administration and its database; the same command continues a creation that broke off."""
    shell.prepare()
    administration = shell.application.run(
        create_administration, CreateAdministration(code=code, name=name or code), shell.context()
    )
    show_one(_shown(administration), as_json=as_json)
    say(f"Next: ordersync identities grant SUBJECT -a {code} --role Owner, then ordersync token SUBJECT", quiet=as_json)


def _shown(administration: Administration) -> dict[str, str]:
    return {
        "code": administration.code,
        "name": administration.name,
        "state": administration.state.value,
    }
