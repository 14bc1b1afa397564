import rich_click as click

from ordersync_admin.output import folding, progress_bar, say, show_rows
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
    rows: list[dict[str, str | None]] = [{"database": "admin", "problem": None}]
    with progress_bar(quiet=as_json) as progress:
        for administration in progress.track(administrations, description="administrations"):
            rows.append({"database": administration.code, "problem": _upgrade(shell, administration)})
    failed = sum(row["problem"] is not None for row in rows)
    show_rows(
        rows if as_json else [row for row in rows if row["problem"]],
        {"database": "database", "problem": folding("problem")},
        as_json=as_json,
        empty="",
    )
    say(f"{len(rows) - failed} databases are at the present revision, {failed} are not.", quiet=as_json)
    return 1 if failed else 0


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
    except Exception as error:  # whatever is the matter with one, the others are upgraded
        return f"unexpected {type(error).__name__}: {error}"
    return None
