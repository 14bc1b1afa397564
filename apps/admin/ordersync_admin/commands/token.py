from datetime import timedelta

import rich_click as click

from ordersync_admin.output import print_json, show_text
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_core.kernel.errors import InvalidInput


@click.command(name="token")
@click.argument("subject")
@click.option("--hours", type=click.IntRange(1, 24 * 365), default=12, show_default=True, help="How long it holds.")
@json_option
@pass_shell
def command(shell: Shell, subject: str, hours: int, as_json: bool) -> None:
    """Print an access token of the local issuer for an identity."""
    if shell.settings.auth_issuer is not None:
        raise InvalidInput("ORDERSYNC_AUTH_ISSUER is set: tokens come from that issuer")
    shell.prepare()
    token = shell.issue_token(subject, lifetime=timedelta(hours=hours))
    if as_json:
        print_json({"token": token, "subject": subject, "hours": hours})
    else:
        show_text(token)
