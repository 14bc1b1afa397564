"""The `ordersync` command."""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

import rich_click as click

from ordersync_admin.cells import plain
from ordersync_admin.shell import Shell, log_to_stderr
from ordersync_core.kernel.errors import NotFound, OrderSyncError

COMMANDS = {
    "administrations": "administrations",
    "connections": "connections",
    "dead-letters": "dead_letters",
    "db": "database",
    "demo": "demo",
    "doctor": "doctor",
    "events": "events",
    "flows": "flows",
    "identities": "identities",
    "items": "items",
    "jobs": "jobs",
    "sandbox": "sandbox",
    "token": "token",
    "trace": "trace",
    "up": "up",
    "webhooks": "webhooks",
}
"""Command -> module of `ordersync_admin.commands`; a module is imported when its command is used."""


class LazyGroup(click.RichGroup):
    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ordersync_admin.commands.{COMMANDS[name]}").command
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are read from the environment: ORDERSYNC_STATE, ORDERSYNC_ADMIN_DATABASE and others. "
    'Completion of commands and codes in bash: eval "$(_ORDERSYNC_COMPLETE=bash_source ordersync)"',
)
@click.version_option(version("ordersync-admin"), prog_name="ordersync")
@click.option("--debug", is_flag=True, help="Show the details of unexpected errors.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """OrderSync keeps a wholesaler's systems in step.

    Try `ordersync demo` to see everything at work, `ordersync up` to run it here.
    """
    log_to_stderr(debug=debug)
    context.obj = Shell()
    context.meta["debug"] = debug


def main() -> None:
    """Exit codes: 0 it worked, 1 it failed, 2 the command was not used rightly, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not know all letters
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone: what is still to be written goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """One call of the command line; the exit code."""
    try:
        if any(not _is_text(argument) for argument in arguments):
            raise click.UsageError("an argument is not text in UTF-8")
        outcome: Any = cli.main(arguments, prog_name="ordersync", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.UsageError as error:
        hint = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
        return _fail(f"{error.format_message()}{hint}", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), 1)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except OrderSyncError as error:
        return _fail(f"{error}{_remedy(error)}", 1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows more)", 1)


def _is_text(argument: str) -> bool:
    """Bytes that are no UTF-8 come as lone surrogates."""
    return argument.isascii() or not any("\ud800" <= character <= "\udfff" for character in argument)


def _remedy(error: OrderSyncError) -> str:
    no_platform = isinstance(error, NotFound) and str(error) == "there is no admin database"
    return " yet: 'ordersync up' or 'ordersync administrations create CODE' makes it" if no_platform else ""


def _fail(text: str, code: int) -> int:
    print(f"ordersync: {' '.join(plain(text).split())}", file=sys.stderr)
    return code
