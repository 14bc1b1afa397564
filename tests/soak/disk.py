"""A disk of one's own that can be made full: a file system in memory, whose size is set while it is in use."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOMY = "4g"
"""What is not used takes no memory."""


class NoDisk(Exception):
    """This machine lets nobody mount one; the text says why."""


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """Mounted at the folder, which is made."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={ROOMY},mode=755", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def fill(folder: Path) -> None:
    """Not one page more fits."""
    used = int(_run("df", "--block-size=1", "--output=used", str(folder)).split()[-1])
    _run("mount", "-o", f"remount,size={used}", str(folder))


def give_room(folder: Path) -> None:
    _run("mount", "-o", f"remount,size={ROOMY}", str(folder))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        raise NoDisk(str(error)) from error
    if done.returncode != 0:
        raise NoDisk(done.stderr.strip())
    return done.stdout
