"""The stand-ins are no kinder than the real parts: what dies is undone, what is locked blocks, what sleeps loses its
lease."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import pytest

from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.ports import ItemsUnitOfWork
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.lease import LEASE, RENEW_EVERY, Heartbeat
from ordersync_core.messaging.queue import Message, Queues
from ordersync_core.testing.contracts.databases import context
from ordersync_core.testing.contracts.examples import an_item
from ordersync_core.testing.memory.items import ITEMS
from ordersync_core.testing.memory.wake import WAKE
from ordersync_core.testing.simulation import shells
from ordersync_core.testing.simulation.faults import ANYWHERE, Fault, Kind
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.process import Process
from ordersync_core.testing.simulation.runs import run_seed
from ordersync_core.testing.simulation.whole import whole_system
from ordersync_core.testing.simulation.world import World
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse, WebhookSender

FOREVER = timedelta(days=1)


class Greeting(Protocol):
    """A port that OrderSync does not have."""

    def __call__(self, name: str, /) -> None: ...


def a_world(*faults: Fault, seed: int = 1) -> World:
    world = World(seed, faults)
    world.databases.add_tenant("alpha")
    return world


def put(process: Process, *codes: str) -> Callable[[], None]:
    def work() -> None:
        for code in codes:
            process.application.run(put_item, PutItem(item=an_item(code)), context("alpha"))

    return work


def run(world: World, steps: int = 5_000) -> None:
    world.scheduler.run(lambda: False, most_steps=steps)


def stored(world: World) -> set[str]:
    return {str(code) for code in world.databases.tenants.of("alpha").rows(ITEMS)}


@pytest.mark.parametrize(
    ("point", "left"), [("before commit", set()), ("after items.save", set()), ("after commit", {"A"})]
)
def test_a_crash_leaves_what_was_committed_and_no_lock(point: str, left: set[str]) -> None:
    world = a_world(Fault(Kind.CRASH, point, 1))
    doomed, other = world.process("doomed"), world.process("other")
    doomed.start("writes", put(doomed, "A", "B"))
    run(world)
    assert not doomed.lives
    assert stored(world) == left
    other.start("writes", put(other, "A", "B"))
    run(world)
    assert stored(world) == {"A", "B"}


def test_all_strands_of_a_process_die_together() -> None:
    world = a_world(Fault(Kind.CRASH, "before commit", 1))
    process, beats = world.process("doomed"), list[int]()

    def works() -> None:
        heartbeat: Heartbeat = process.application.resolve(Heartbeat)
        with heartbeat.every(RENEW_EVERY, lambda: beats.append(1)):
            world.scheduler.sleep(RENEW_EVERY * 2.5)
            put(process, "A")()

    process.start("works", works)
    run(world)
    assert len(beats) == 2
    world.scheduler.start("later", lambda: world.scheduler.sleep(FOREVER))
    run(world)
    assert len(beats) == 2


def test_a_commit_with_an_unknown_outcome_stands_and_is_repeated_without_harm() -> None:
    world = a_world(Fault(Kind.FAIL, "after commit", 1))
    process = world.process("writer")
    process.start("writes", put(process, "A"))
    run(world)
    assert stored(world) == {"A"}


def test_a_clash_is_tried_again() -> None:
    world = a_world(Fault(Kind.CLASH, "before commit", 1), Fault(Kind.CLASH, "before commit", 2))
    process = world.process("writer")
    process.start("writes", put(process, "A"))
    run(world)
    assert stored(world) == {"A"}


def test_a_paused_process_stands_still_while_time_goes_on() -> None:
    world = a_world(Fault(Kind.PAUSE, "before commit", 1, 130.0))
    process, began = world.process("writer"), world.scheduler.now
    process.start("writes", put(process, "A"))
    run(world)
    assert stored(world) == {"A"}
    assert world.scheduler.now - began > LEASE * 2


def test_writers_of_one_row_wait_for_each_other() -> None:
    def both(world: World) -> None:
        world.databases.add_tenant("alpha")
        for name in ("one", "two", "three"):
            process = world.process(name)
            process.start("writes", put(process, "A", "B", "A", "B"))
        run(world)
        assert stored(world) == {"A", "B"}

    for seed in range(20):
        assert run_seed(seed, scenario=both, kept=[]).promise is None


def test_only_one_has_a_database_with_one_writer() -> None:
    seed = next(seed for seed in range(50) if World(seed).databases.admin.one_writer)
    world, order = a_world(seed=seed), list[str]()

    def writer(name: str) -> Callable[[], None]:
        process = world.process(name)

        def hold(_: None, *, uow: ItemsUnitOfWork) -> None:
            with uow:
                order.append(f"{name} begins")
                world.scheduler.sleep(timedelta(seconds=1))
                order.append(f"{name} ends")

        return lambda: process.application.run(hold, None, context("alpha"))

    for name in ("a", "b"):
        world.scheduler.start(name, writer(name))
    run(world)
    assert [line.split()[1] for line in order] == ["begins", "ends", "begins", "ends"]


def test_whoever_waits_too_long_for_a_lock_is_told() -> None:
    seed = next(seed for seed in range(50) if World(seed).databases.admin.one_writer)
    world, told = a_world(seed=seed), list[Exception]()
    holder, waiter = world.process("holder"), world.process("waiter")

    def hold(_: None, *, uow: ItemsUnitOfWork) -> None:
        with uow:
            world.scheduler.sleep(timedelta(minutes=5))

    def wait() -> None:
        world.scheduler.sleep(timedelta(seconds=1))
        try:
            put(waiter, "A")()
        except ChangedMeanwhile as error:
            told.append(error)

    holder.start("holds", lambda: holder.application.run(hold, None, context("alpha")))
    waiter.start("waits", wait)
    run(world)
    assert len(told) == 1


def test_messages_of_a_dead_process_come_again_when_its_lock_has_run_out() -> None:
    world = a_world(Fault(Kind.CRASH, "after events.claim", 1))
    world.queues["events"].send([Message(send_id="1", body=b"{}", group="alpha")])
    seen = list[timedelta]()
    began = world.scheduler.now

    def consume(process: Process) -> None:
        queue = process.application.resolve(Queues)["events"]
        while not (claims := queue.claim()):
            world.scheduler.wait(lambda: queue.depth().ready > 0, timedelta(minutes=10))
        seen.append(world.scheduler.now - began)
        queue.complete(claims)

    world.keep_running("consumer", consume)
    world.scheduler.run(lambda: bool(seen), most_steps=5_000)
    assert LEASE <= seen[0] <= LEASE + timedelta(seconds=5)


def test_an_embedder_runs_handlers_of_their_own() -> None:
    """The checks of every commit run for them too."""

    def forget_to_tell(_: None, *, uow: ItemsUnitOfWork) -> None:
        with uow:
            uow.items.save([an_item("A")])
            uow.commit()

    def scenario(world: World) -> None:
        world.databases.add_tenant("alpha")
        process = world.process("mine")
        mine = Context(administration="alpha", triggered_by="me", correlation_id="mine")
        process.start("work", lambda: process.application.run(forget_to_tell, None, mine))
        run(world)

    outcome = run_seed(1, scenario=scenario, kept=[])
    assert outcome.promise == "P1"
    assert "the outbox of the same commit does not tell it" in outcome.what


def test_the_clock_of_a_process_may_jump_and_the_databases_do_not_care() -> None:
    world = a_world(Fault(Kind.CLOCK, ANYWHERE, 1, 300.0))
    process = world.process("writer")
    process.start("writes", put(process, "A"))
    run(world)
    assert process.skew == timedelta(seconds=300)
    assert stored(world) == {"A"}


def test_what_goes_wrong_in_one_strand_is_an_error_of_the_run() -> None:
    world = a_world()
    process = world.process("mine")

    def breaks() -> None:
        raise Broken("P3", "for the test")

    process.start("breaks", breaks)
    with pytest.raises(Broken):
        run(world)


def test_with_one_writer_a_newcomer_may_come_first() -> None:
    """SQLite does not queue those who wait."""

    def order(seed: int) -> list[str]:
        world, served = World(seed), list[str]()

        def writer(name: str, begins: float, lasts: float) -> Callable[[], None]:
            def work() -> None:
                world.scheduler.sleep(timedelta(seconds=begins))
                world.databases.locks.acquire(name, "the one writer")
                served.append(name)
                world.scheduler.sleep(timedelta(seconds=lasts))
                world.databases.locks.release_all(name)

            return work

        for name, begins, lasts in (("first", 0.0, 1.0), ("waits", 0.1, 0.1), ("newcomer", 0.99, 0.1)):
            world.scheduler.start(name, writer(name, begins, lasts))
        run(world)
        return served

    one_writer = [seed for seed in range(40) if World(seed).databases.admin.one_writer]
    assert {tuple(order(seed)) for seed in one_writer} == {
        ("first", "waits", "newcomer"),
        ("first", "newcomer", "waits"),
    }
    row_locks = [seed for seed in range(40) if seed not in one_writer]
    assert {tuple(order(seed)) for seed in row_locks} == {("first", "waits", "newcomer")}


def test_a_hint_carries_the_clock_of_its_process() -> None:
    world = a_world()
    process = world.process("writer")
    process.skew = timedelta(minutes=5)
    process.start("writes", put(process, "A"))
    run(world)
    (woken_for,) = world.databases.admin.rows(WAKE).values()
    assert woken_for > world.scheduler.now + timedelta(minutes=4)
    assert world.is_anybody_due(process)
    assert not world.is_anybody_due(world.process("other"))


@pytest.mark.parametrize(
    ("point", "who"),
    [
        ("after events.claim", "functions"),
        ("before webhooks.send", "functions"),
        ("after webhooks.claim", "functions"),
        ("before sender.send", "functions"),
        ("before deliveries.save", "functions"),
        ("after source.pages", "job"),
        ("before items.save", ""),
    ],
)
def test_who_is_asked_to_end_does_so_in_good_order_and_another_one_goes_on(point: str, who: str) -> None:
    world = World(3, (Fault(Kind.STOP, point, 2),))
    try:
        whole_system(world)
    finally:
        world.end()
    ((_, process, _),) = world.met
    assert process.startswith(who)
    assert world.stopped == 1


def test_who_is_asked_to_end_and_keeps_a_message_breaks_a_promise() -> None:
    world = a_world()
    world.queues["events"].send([Message(send_id="1", body=b"{}", group="alpha")])

    def consume(process: Process) -> None:
        process.application.resolve(Queues)["events"].claim()
        process.stopping = True

    world.keep_running("consumer", consume)
    with pytest.raises(Broken) as broken:
        run(world)
    assert broken.value.promise == "P12"


def test_sends_under_way_get_a_grace_and_one_that_outlasts_it_is_cut_off() -> None:
    world, done = a_world(), list[Sequence[WebhookResponse]]()

    class Sender:
        async def send(self, request: WebhookRequest) -> WebhookResponse:
            began = world.scheduler.now
            world.scheduler.sleep(timedelta(seconds=float(request.body)))
            return WebhookResponse(request=request, started_at=began, ended_at=world.scheduler.now, status=200)

    world.provide(WebhookSender, Sender())
    process, began = world.process("functions"), world.scheduler.now
    requests = [a_request(seconds) for seconds in (0.5, 4.0, 15.0)]
    process.start("delivers", lambda: done.append(shells._send(process, requests)))

    def stop() -> None:
        world.scheduler.sleep(timedelta(seconds=1))
        process.stopping = True

    world.scheduler.start("stops it", stop)
    run(world)
    assert [response.request for response in done[0]] == requests[:2]
    assert timedelta(seconds=6) < world.scheduler.now - began < timedelta(seconds=7)


def a_request(seconds: float) -> WebhookRequest:
    return WebhookRequest(
        delivery_id=UUID(int=1),
        webhook_id=UUID(int=2),
        attempt=1,
        url="https://here.example/hook",
        headers={},
        body=str(seconds).encode(),
    )


def test_an_embedder_brings_ports_of_their_own() -> None:
    world, said = a_world(), list[str]()
    world.provide(Greeting, said.append)
    process = world.process("mine")

    def greet(name: str, *, greeting: Greeting) -> None:
        greeting(name)

    process.start("greets", lambda: process.application.run(greet, "Ada", context("alpha")))
    run(world)
    assert said == ["Ada"]
