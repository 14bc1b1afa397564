"""Whose engines are closed, and when."""

import threading
from datetime import timedelta
from pathlib import Path

from ordersync_adapters.sql.engine_cache import EngineCache, Engines
from ordersync_adapters.sql.engines import create_sqlite_file, reading_engine, writing_engine

PATIENCE = 10


class GivesWay:
    """A lock. The thread `slow` loses the processor when it first lets go of it, until `go`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lost, self.go = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.current_thread().name == "slow" and not self.lost.is_set():
            self.lost.set()
            assert self.go.wait(PATIENCE)


def test_engines_that_somebody_has_found_make_no_room_for_others(tmp_path: Path) -> None:
    """Otherwise they would be used beside new ones of their name, of which nobody would close the connections."""
    create_sqlite_file(tmp_path / "acme.db")
    url = f"sqlite:///{tmp_path}/acme.db"
    cache = EngineCache(lambda _: Engines(writing_engine(url), reading_engine(url)), size=1, idle=timedelta(seconds=30))
    with cache.use("acme"):
        pass
    lock = GivesWay()
    cache._lock = lock  # type: ignore[assignment]
    found: list[Engines] = []

    def use_acme() -> None:
        with cache.use("acme") as engines:
            found.append(engines)

    slow = threading.Thread(target=use_acme, name="slow")
    slow.start()
    assert lock.lost.wait(PATIENCE)
    with cache.use("bolt"):
        pass
    with cache.use("acme") as engines:
        lock.go.set()
        slow.join()
        assert found == [engines]
    cache.close()
