"""The machine's own clock, ids, threads and files."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkstemp
from uuid import UUID

from uuid_utils.compat import uuid7


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemIds:
    def new(self) -> UUID:
        return uuid7()


class ThreadHeartbeat:
    """Beats in a thread that does nothing else, so that long work cannot delay it."""

    @contextmanager
    def every(self, interval: timedelta, beat: Callable[[], None]) -> Iterator[None]:
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(interval.total_seconds()):
                try:
                    beat()
                except Exception:  # the block's next write says what was lost; a beat only tries again
                    continue

        thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def make_once(path: Path, content: Callable[[], bytes]) -> None:
    """Make the file unless it is there, for its owner alone, as the folder is if that has to be made too.

    Of several processes at once the first one's content is everybody's. It is written aside, made durable and linked
    into place, so that nobody ever reads half of it.
    """
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    _make_durable(path.parent)


def _make_durable(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
