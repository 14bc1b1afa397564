"""The machine's own clock, ids and threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
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
