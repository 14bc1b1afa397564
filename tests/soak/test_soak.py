"""`make soak`: real processes, killed at every point and troubled in every way, lose nothing and double nothing.

One platform per database goes through all of it. The import of 20,000 items goes on while the points are worked
through; after each test everything is brought to rest and judged.
"""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from random import Random

import psycopg
import pytest

from tests.soak import acts, disk, faults
from tests.soak.acts import Scene, until_nothing_new
from tests.soak.conftest import Stage, tables
from tests.soak.verdict import broken_promises
from tests.soak.world import ADMIN, API, AWAY, ENDED, FUNCTIONS, JOBS, World

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

SEED = 20_261_124
RANDOM_KILLS = 25
LONG = 180.0
"""Seconds of the long import in which processes die; at the points that are left they die while all changes again.
After each death what was in hand is taken up a message at a time, which takes a minute when it was thousands."""

STOPS = 5
FULL_FOR = 15.0
LIE_IN_QUEUES = 20
CHANGED = 1_500


def judge(stage: Stage, what: str) -> None:
    stage.scene.settle()
    found = broken_promises(stage.scene)
    stage.world.say(f"{what}: {'; '.join(found) or 'nothing lost, nothing doubled'}")
    assert not found


def begun(stage: Stage) -> Scene:
    """The scene with everything imported, also when the test of all points was not asked for."""
    if not stage.scene.connection:
        acts.set_up(stage.scene)
        acts.import_everything(stage.scene)
    return stage.scene


def load(scene: Scene) -> str:
    """Changes at the source and by the API, and a run that brings them; answers the run."""
    scene.source.change(scene.source.some(CHANGED))
    scene.source.remove(scene.source.some(20, skip=5_000))
    scene.source.add(20)
    run = scene.run()
    for number in range(10):
        scene.put_item(f"LOAD-{number}", f"Put under load, turn {scene.turn()}")
    return run


def test_every_point(stage: Stage) -> None:
    scene, world = stage.scene, stage.world
    with world.arming(FUNCTIONS, JOBS, API):
        acts.set_up(scene)
    world.say("the long import begins")
    with world.arming(FUNCTIONS, JOBS, API, seconds=LONG):
        acts.import_everything(scene)
    judge(stage, "the long import")
    for group, names in (
        (acts.IMPORTING, (FUNCTIONS, JOBS)),
        (acts.GIVING_UP, (FUNCTIONS, JOBS, ADMIN)),
    ):
        for act in group:
            world.say(f"{act.__name__}")
            until_nothing_new(scene, act, *names)
    for act, dying in acts.OPERATING.items():
        world.say(f"{act.__name__}")
        until_nothing_new(scene, act, *dying)
    judge(stage, "every point")
    hits = world.platform.traps.hits()
    tables.extend(faults.table(stage.database, hits))
    assert not faults.missing(hits)


def test_random_kills(stage: Stage) -> None:
    """Any process at any instant: the launcher without its child, the child without its launcher, and all at once."""
    scene, world, chance = begun(stage), stage.world, Random(SEED)
    for number in range(RANDOM_KILLS):
        if number % 8 == 0:
            load(scene)
        rest(world, chance.uniform(0.2, 2.5))
        world.until(lambda: world.may_die(FUNCTIONS) and world.may_die(JOBS), "no message or run is in danger")
        victim = chance.choice([FUNCTIONS, FUNCTIONS, "job", "job", JOBS, API, "all"])
        world.say(f"  kill {victim}")
        if victim in ("job", "all"):
            for pid in world.jobs_at_work():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            world.bury(JOBS)
        for name in [FUNCTIONS, JOBS, API] if victim == "all" else [] if victim == "job" else [victim]:
            world.kill(name)
    judge(stage, f"{RANDOM_KILLS} random kills")


def rest(world: World, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        world.step()
        time.sleep(0.05)


def test_stopped_past_its_lease(stage: Stage) -> None:
    """A job process and the functions stand still for longer than their leases, another takes over, they go on."""
    scene, world = begun(stage), stage.world
    scene.source.change(scene.source.some(200))
    scene.source.play({"match": acts.ITEMS_READ, "do": "slow", "seconds": 2, "every": 1})
    run = scene.run()
    world.until(lambda: bool(world.jobs_at_work()), "the run is at work")
    rest(world, 1)
    [pid] = world.jobs_at_work()
    with stopped(world, pid, JOBS):
        scene.source.calm_down()
        other = world.platform.start("ordersync_jobs", log="other-job")
        world.until(lambda: other.poll() is not None, "another process has taken the run over")
        assert scene.state(run) == "Succeeded"
    scene.settle()

    load(scene)
    world.until(lambda: world.messages() > 0, "there is something to do")
    port = world.platform.environment["ORDERSYNC_FUNCTIONS_PORT"]
    with stopped(world, world.pid(FUNCTIONS), FUNCTIONS):
        world.platform.environment["ORDERSYNC_FUNCTIONS_PORT"] = "0"
        other = world.platform.start("ordersync_functions", log="other-functions")
        world.platform.environment["ORDERSYNC_FUNCTIONS_PORT"] = port
        # it may stand still with a lock of the database in its hands: then nobody can go on before it does
        until = time.monotonic() + 30
        while time.monotonic() < until and not world.settled():
            world.step()
            time.sleep(0.1)
    scene.settle()
    world.platform.stop(other)
    judge(stage, "stopped past its lease")


@contextmanager
def stopped(world: World, pid: int, name: str) -> Iterator[None]:
    """The process stands still, and what it holds ends."""
    try:
        for _ in range(STOPS):
            os.kill(pid, signal.SIGSTOP)
            with suppress(*AWAY):
                world.presume_dead(name, pid)
                break
            # it held a lock of the database, and so everything else
            os.kill(pid, signal.SIGCONT)
            rest(world, 0.3)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_queues_away(stage: Stage) -> None:
    """The queues do not answer for a while, and come back; then they come back empty."""
    scene, world = begun(stage), stage.world
    load(scene)
    with queues_away(stage):
        for number in range(10):
            scene.put_item(f"LOAD-{number}", f"Put while the queues are away, turn {scene.turn()}")
        run = scene.run("ItemSelectiveSync", codes=scene.source.some(3))
        world.kill(FUNCTIONS)
        rest(world, 12)
    scene.settle()
    assert scene.state(run) in ("Succeeded", "Merged")
    for _ in range(3):
        load(scene)
        world.until(lambda: world.messages() >= LIE_IN_QUEUES, "messages lie in the queues")
        world.say(f"  {world.platform.empty_queues()} messages are taken off the queues")
    judge(stage, "queues away, and emptied")


@contextmanager
def queues_away(stage: Stage) -> Iterator[None]:
    """SQLite: somebody else holds the file's write lock. Postgres: the database takes no connections."""
    platform = stage.world.platform
    if stage.server is None:
        with closing(
            sqlite3.connect(platform.folder / "state" / "queues.db", timeout=60, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        return
    name = platform.environment["ORDERSYNC_QUEUES"].rpartition("/")[2]
    with psycopg.connect(stage.server.url().replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_the_database_restarts(stage: Stage) -> None:
    """Postgres is killed and started again under load. On SQLite, where there is no server, all processes are."""
    scene, world = begun(stage), stage.world
    for pause in (0.5, 1.5, 3.0):
        load(scene)
        rest(world, pause)
        if stage.server is None:
            for name in (FUNCTIONS, JOBS, API):
                world.kill(name)
        else:
            stage.server.kill()
            time.sleep(1)
            stage.server.start()
        scene.settle()
    judge(stage, "restarts of the database")


def test_full_disk(stage: Stage) -> None:
    """Nothing can be written for a while; then there is room again."""
    if stage.disk is None:
        pytest.skip("no file system can be mounted here")
    scene, world = begun(stage), stage.world
    scene.source.change(scene.source.some(CHANGED))
    run = scene.run()
    rest(world, 0.5)
    disk.fill(stage.disk)
    world.say("  the disk is full")
    until, refused = time.monotonic() + FULL_FOR, 0
    while time.monotonic() < until:
        refused += not world.is_taken(acts.BULK, scene.rows("FULL", 500))
        if stage.server is None:
            world.step()
        time.sleep(0.1)
    disk.give_room(stage.disk)
    world.say(f"  there is room again; {refused} uploads were refused")
    if stage.server is not None:
        stage.server.kill()
        stage.server.start()
    world.until(lambda: scene.state(run) in ENDED, "the run ends")
    acts.resubmit_all(scene)
    scene.put_many("FULL", 500)
    judge(stage, "a full disk")
    assert refused
