"""The key that HTTP functions of auth level `function` want, as on Azure: in `x-functions-key` or `?code=`."""

import secrets
from pathlib import Path

from ordersync_adapters.system import make_once

FILE_NAME = "functions.key"


def function_key(folder: Path) -> str:
    """The key of this state folder; made the first time, readable by its owner only."""
    path = folder / FILE_NAME
    make_once(path, lambda: secrets.token_urlsafe(32).encode())
    return path.read_text().strip()
