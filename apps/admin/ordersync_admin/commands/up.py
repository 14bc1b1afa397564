import os
import signal
import threading
from datetime import timedelta

import rich_click as click

from ordersync_admin.local_access import Access, give_access
from ordersync_admin.output import merged_log, say
from ordersync_admin.platform import addresses, must_be_free, programs, wait_until_ready
from ordersync_admin.shell import Shell, pass_shell
from ordersync_admin.supervisor import running

TOKEN_LIFE = timedelta(hours=12)


@click.command(name="up")
@pass_shell
def command(shell: Shell) -> None:
    """Run API, Functions and Jobs here as separate processes, until Ctrl-C."""
    must_be_free(shell.settings)
    shell.prepare()
    access = give_access(shell, lifetime=TOKEN_LIFE)
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    with running(programs(os.environ), merged_log()):
        wait_until_ready(addresses(shell.settings), asked_to_stop)
        if not asked_to_stop.is_set():
            _announce(shell, access)
        asked_to_stop.wait()
        say("Stopping ...")
    say("Stopped.")


def _announce(shell: Shell, access: Access | None) -> None:
    where = addresses(shell.settings)
    say(f"\n[bold green]OrderSync is up.[/bold green]  API {where.api}  documentation {where.api}/docs")
    say(f"Functions {where.functions}  state {shell.settings.state.absolute()}")
    if access is not None:
        say(f"Administration {access.administration}, identity {access.identity}, a token for 12 hours:")
        click.echo(access.token, err=True)
        say("Try:")
        click.echo(access.curl(where.api), err=True)
    say("Ctrl-C stops everything.\n")
