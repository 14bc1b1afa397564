"""A platform for each database, which all tests of that database go through one after another."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from attrs import frozen

from tests.end_to_end.platform import CODE, Platform, postgres_platform, sqlite_platform
from tests.postgres import PostgresServer
from tests.soak.acts import Scene
from tests.soak.disk import NoDisk, disk
from tests.soak.source import Source, numbered_items, write_items
from tests.soak.world import World

ITEMS = 20_000
RECEIVERS = ("everything", "updates", "trouble")
NO_LIMIT = "1000000"

tables: list[str] = []
"""What the terminal shows at the end."""


@frozen(kw_only=True)
class Stage:
    """server: None on SQLite. disk: where all data lie, None where none of its own could be mounted."""

    database: str
    scene: Scene
    server: PostgresServer | None
    disk: Path | None

    @property
    def world(self) -> World:
        return self.scene.world


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    database: str = request.param
    base = tmp_path_factory.mktemp(database)
    compiled = tmp_path_factory.getbasetemp() / "compiled"
    say = _teller(request, database)
    with _own_disk(base / "disk") as own, _platform(database, base / "platform", own or base) as (platform, server):
        # each of the hundreds of processes would otherwise compile all that it imports
        platform.environment["PYTHONPYCACHEPREFIX"] = str(compiled)
        platform.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        world = World(platform, say)
        with ExitStack() as ends:
            ends.callback(world.close)
            scene = _scene(world)
            ends.callback(scene.source.close)
            yield Stage(database=database, scene=scene, server=server, disk=own)


@contextmanager
def _own_disk(folder: Path) -> Iterator[Path | None]:
    own: AbstractContextManager[Path | None] = disk(folder)
    try:
        mounted = own.__enter__()
    except NoDisk:
        own = nullcontext(None)
        mounted = own.__enter__()
    try:
        yield mounted
    finally:
        with suppress(NoDisk):
            own.__exit__(None, None, None)


@contextmanager
def _platform(database: str, folder: Path, data: Path) -> Iterator[tuple[Platform, PostgresServer | None]]:
    """Its data lie in `data`, which may become full; logs and what the receivers keep do not."""
    folder.mkdir()
    (data / "state").mkdir(mode=0o700)
    (folder / "state").symlink_to(data / "state")
    if database == "sqlite":
        with sqlite_platform(folder) as platform:
            yield platform, None
    else:
        with PostgresServer(folder=data) as server, postgres_platform(folder, server) as platform:
            yield platform, server


def _scene(world: World) -> Scene:
    platform = world.platform
    items = numbered_items(ITEMS)
    write_items(platform.folder / "items.ndjson", items)
    port = platform.receivers("tests.soak.receivers", *RECEIVERS)
    url = platform.sandbox(
        "--items", str(platform.folder / "items.ndjson"), "--minutely-limit", NO_LIMIT, "--daily-limit", NO_LIMIT
    )["url"]
    world.start_all()
    world.cli("identities", "grant", "soak", "-a", CODE, "--role", "Owner")
    world.connect(world.cli("token", "soak")["token"])
    return Scene(world, Source(url, items), f"http://127.0.0.1:{port}")


def _teller(request: pytest.FixtureRequest, database: str) -> Callable[[str], None]:
    began = time.monotonic()
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"{database} {time.monotonic() - began:6.1f} s  {text}", flush=True)

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in tables:
        terminalreporter.write_line(line)
