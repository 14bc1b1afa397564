"""The key that HTTP functions of auth level `function` want, as on Azure: in `x-functions-key` or `?code=`."""

import os
import secrets
from pathlib import Path

FILE_NAME = "functions.key"


def function_key(folder: Path) -> str:
    """The key of this state folder; made the first time, readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    draft = folder / f".{FILE_NAME}-{os.getpid()}-{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        try:
            # two processes at once agree on the first one's
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
