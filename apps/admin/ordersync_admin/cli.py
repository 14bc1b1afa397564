"""The `ordersync` command."""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

import rich_click as click

from ordersync_admin.shell import Shell, log_to_stderr
from ordersync_core.kernel.errors import OrderSyncError

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
    epilog="Settings are read from the environment: ORDERSYNC_STATE, ORDERSYNC_ADMIN_DATABASE and others.",
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
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    try:
        outcome: Any = cli.main(arguments, prog_name="ordersync", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.UsageError as error:
        hint = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
        return _fail(f"{error.format_message()}{hint}", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), 1)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OrderSyncError as error:
        return _fail(str(error), 1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows more)", 1)


def _fail(text: str, code: int) -> int:
    print(f"ordersync: {' '.join(text.split())}", file=sys.stderr)
    return code
