"""An item file that somebody gives to the sandbox."""

from pathlib import Path

from ordersync_admin.output import say
from ordersync_core.kernel.errors import InvalidInput


def check_item_file(path: Path) -> None:
    """Read it as the sandbox will; tells on stderr what it holds that will not be served.

    Raises:
        InvalidInput: one line that names the broken row and the reason.
    """
    from ordersync_connectors.exact_online.sandbox import ItemFileError, read_item_file

    try:
        rows = read_item_file(path)
    except ItemFileError as error:
        raise InvalidInput(str(error)) from error
    for warning in rows.warnings:
        say(warning, style="yellow")
