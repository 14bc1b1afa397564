"""A process that can be killed with signal 9 at a point: `python -m tests.end_to_end.killed NAME MODULE [ARGUMENT...]`.

The module runs as it always does, with an application whose ports are watched (`ordersync_core.testing.points`). At the
first call of a point that its trap is set for, the process is gone, without a goodbye. NAME says which trap that is.
"""

import os
import runpy
import signal
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
from attrs import evolve, frozen

from ordersync_adapters import wiring
from ordersync_core.kernel.application import Application
from ordersync_core.messaging.queue import Queues
from ordersync_core.testing.points import watched, watched_queues
from ordersync_core.webhooks.ports import WebhookSender

TRAPS = "TRAPS"
"""The environment's name of the folder where the traps lie."""

HITS = "hits.ndjson"


@frozen
class Hit:
    """name: of the trap that the process went into."""

    name: str
    point: str
    pid: int


@frozen
class Traps:
    """Where processes die. A trap kills once; whoever set it is done with the death before it is set again."""

    folder: Path

    def set(self, name: str, *, only: Collection[str] | None = None, but: Collection[str] = ()) -> None:
        """Kill a process of that name at the first of these points that it reaches; None stands for any point."""
        draft = self.folder / f"{name}.draft"
        draft.write_bytes(orjson.dumps({"only": None if only is None else list(only), "but": list(but)}))
        draft.rename(self.path(name))

    def take_away(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def is_set(self, name: str) -> bool:
        """Also when it has killed, and nobody is done with that."""
        return self.path(name).exists() or self._sprung(name).exists()

    def done_with(self, name: str) -> None:
        self._sprung(name).unlink(missing_ok=True)

    def hits(self) -> list[Hit]:
        path = self.folder / HITS
        return [Hit(**orjson.loads(line)) for line in path.read_bytes().splitlines()] if path.exists() else []

    def spring(self, name: str, point: str) -> None:
        """Die, unless another process or thread was faster."""
        try:
            self.path(name).rename(self._sprung(name))
        except FileNotFoundError:
            return
        with (self.folder / HITS).open("ab", buffering=0) as hits:
            hits.write(orjson.dumps({"name": name, "point": point, "pid": os.getpid()}) + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.trap"

    def _sprung(self, name: str) -> Path:
        return self.folder / f"{name}.sprung"


class Trapped:
    """One process beside its trap, which may be set or taken away while it runs."""

    def __init__(self, traps: Traps, name: str) -> None:
        self._traps = traps
        self._name = name
        self._path = traps.path(name)
        self._seen = 0
        self._only: frozenset[str] | None = frozenset()
        self._but: frozenset[str] = frozenset()

    def at(self, point: str) -> None:
        if not self._look():
            return
        full = with_handler(point)
        if (self._only is None or full in self._only or point in self._only) and full not in self._but:
            self._traps.spring(self._name, full)

    def _look(self) -> bool:
        """Whether the trap is set; reads it when it has changed."""
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._seen:
                trap = orjson.loads(self._path.read_bytes())
                self._only = None if trap["only"] is None else frozenset(trap["only"])
                self._but = frozenset(trap["but"])
                self._seen = changed
        except FileNotFoundError:
            return False
        return True


def with_handler(point: str) -> str:
    """A commit is of a handler: "after commit in items.put_item". Every other point is named by its port."""
    if not point.endswith(" commit"):
        return point
    for frame in _callers():
        package, _, module = frame.f_globals["__name__"].partition(".")
        if package == "ordersync_core" and ".handlers" in module:
            return f"{point} in {module.partition('.')[0]}.{frame.f_code.co_name}"
    return point


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def watch_shells(trapped: Trapped) -> None:
    """Whatever a shell composes from now on is watched."""

    def application(**parts: Any) -> Application:
        return watched(Application(**parts), trapped.at)

    vars(wiring)[Application.__name__] = application


def watch_functions(trapped: Trapped) -> None:
    """The functions have queues and sender beside their application."""
    from ordersync_functions import composition

    build = composition.build_parts

    def parts(settings: Any) -> Any:
        made = build(settings)
        queues: Queues = watched_queues(made.queues, trapped.at)
        return evolve(made, queues=queues, sender=made.application.resolve(WebhookSender))

    composition.build_parts = parts


def watch_launched(name: str) -> None:
    """The launcher starts processes of the same kind as it is."""
    from ordersync_jobs import launcher

    vars(launcher)["COMMAND"] = (sys.executable, "-m", __spec__.name, name, "ordersync_jobs")


def main() -> None:
    name, module = sys.argv[1:3]
    sys.argv = [module, *sys.argv[3:]]
    trapped = Trapped(Traps(Path(os.environ[TRAPS])), name)
    watch_shells(trapped)
    if module == "ordersync_jobs":
        watch_launched(name)
    elif module != "ordersync_api" and module != "ordersync_admin":
        watch_functions(trapped)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
