import os
import signal
import time
from datetime import timedelta

import rich_click as click
from attrs import asdict

from ordersync_admin.local_access import Access, give_access
from ordersync_admin.output import merged_log, print_json, say
from ordersync_admin.platform import Addresses, addresses, programs, wait_until_ready, with_named_ports
from ordersync_admin.settings import AdminSettings
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_admin.supervisor import polite_requests, running

TOKEN_LIFE = timedelta(hours=12)
LOOK_EVERY = 0.1


@click.command(name="up")
@json_option
@pass_shell
def command(shell: Shell, as_json: bool) -> None:
    """Run API, Functions and Jobs here as separate processes, until Ctrl-C.

    With --json the addresses, a token and a curl line are printed as soon as everything answers.
    """
    settings = with_named_ports(shell.settings)
    shell.prepare()
    access = give_access(shell, lifetime=TOKEN_LIFE)
    asked_to_stop = RequestToStop()
    say("Starting API, Functions and Jobs ...")
    with running(programs(settings, os.environ), merged_log()):
        where = addresses(settings)
        wait_until_ready(where, given_up=asked_to_stop)
        if not asked_to_stop():
            _announce(where, settings, access, as_json=as_json)
        while not asked_to_stop():
            time.sleep(LOOK_EVERY)
        say("Stopping; Ctrl-C once more ends everything at once ...")
    say("Stopped.")


class RequestToStop:
    """Whether somebody asked this process to end. A second Ctrl-C then interrupts what is being stopped in order.

    Not an Event: a signal that comes while an event's lock is held would wait for it for ever.
    """

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, *polite_requests()):
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        return self._came

    def _note(self, *_: object) -> None:
        self._came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _announce(where: Addresses, settings: AdminSettings, access: Access | None, *, as_json: bool) -> None:
    curl = None if access is None else access.curl(where.api)
    if as_json:
        print_json({**asdict(where), **({} if access is None else asdict(access)), "curl": curl})
        return
    say("")
    say("OrderSync is up.", style="bold green")
    say(f"API        {where.api}, documentation {where.api}/docs")
    say(f"Functions  {where.functions}")
    say(f"state      {settings.state.absolute()}")
    if access is not None and curl is not None:
        say(f"\nA token for {access.identity} in administration {access.administration}, for 12 hours:")
        say(access.token)
        say("\nTry:")
        say(curl)
    say("\nCtrl-C stops everything.\n", style="bold")
