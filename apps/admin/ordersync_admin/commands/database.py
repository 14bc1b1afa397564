import rich_click as click

from ordersync_admin.output import progress_bar, show_rows
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.administrations.model import Administration, AdministrationState
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.errors import OrderSyncError


@click.group(name="db")
def command() -> None:
    """The admin database and the databases of the administrations."""


@command.command()
@json_option
@pass_shell
def upgrade(shell: Shell, as_json: bool) -> int:
    """Bring every database to the present revision; go on where an upgrade or a creation broke off.

    One database that cannot be upgraded does not keep the others waiting; exit code 1 then.
    """
    shell.prepare()
    administrations = list(shell.admin_queries.administrations())
    rows = [{"database": "admin", "problem": None}]
    with progress_bar(quiet=as_json) as progress:
        for administration in progress.track(administrations, description="administrations"):
            rows.append({"database": administration.code, "problem": _upgrade(shell, administration)})
    show_rows(rows, {"database": "database", "problem": "problem"}, as_json=as_json, empty="")
    return 1 if any(row["problem"] for row in rows) else 0


def _upgrade(shell: Shell, administration: Administration) -> str | None:
    """What is wrong with it; None when it is at the present revision."""
    try:
        if administration.state is AdministrationState.CREATING:
            shell.application.run(
                create_administration,
                CreateAdministration(code=administration.code, name=administration.name),
                shell.context(),
            )
        else:
            tenants: TenantDatabases = shell.application.resolve(TenantDatabases)
            tenants.migrate(administration.code)
    except OrderSyncError as error:
        return str(error)
    return None
