"""`ordersync` at a real terminal: a pseudo-terminal of so many columns."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import define

ORDERSYNC = (sys.executable, "-m", "ordersync_admin")
WITHIN = 90.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


@define
class Terminal:
    """A program at its terminal. `raw` is everything that it wrote so far."""

    process: "subprocess.Popen[bytes]"
    _master: int
    raw: str = ""

    @property
    def text(self) -> str:
        """What a person reads, without colours and movements; each redrawing of a line stands on a line of its own."""
        return _CONTROL.sub("", self.raw).replace("\r\n", "\n").replace("\r", "\n")

    def read_until(self, text: str) -> None:
        """Fails when the program ends, or takes too long, before it has written that."""
        deadline = time.monotonic() + WITHIN
        while text not in self.text:
            assert self._read(), self.text
            assert time.monotonic() < deadline, self.text

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(WITHIN)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the other side has closed it
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)


@contextmanager
def at_a_terminal(
    *words: str, columns: int = 80, state: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    foreign = ("ORDERSYNC_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment = {**plain, "TERM": "xterm-256color", "ORDERSYNC_STATE": str(state), **(settings or {})}
    process = subprocess.Popen(
        [*ORDERSYNC, *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        # the terminal's own session, so that Ctrl-C reaches it
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),  # type: ignore[func-returns-value]
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def written(*words: str, columns: int = 80, state: Path, settings: Mapping[str, str] | None = None) -> Terminal:
    """A call that ends by itself, and everything that it wrote."""
    with at_a_terminal(*words, columns=columns, state=state, settings=settings) as terminal:
        terminal.end()
    return terminal
