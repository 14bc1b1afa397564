"""The functions one by one, as Azure calls them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from ordersync_core.jobs.commands import StartRun
from ordersync_core.jobs.handlers import start_run
from ordersync_core.jobs.model import JobType
from ordersync_core.kernel.errors import InvalidInput, NotFound
from ordersync_core.messaging.commands import TakeDue
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, WEBHOOKS
from ordersync_core.messaging.handlers import take_due
from ordersync_core.messaging.queue import Message
from ordersync_core.testing.clocks import ManualClock
from ordersync_functions import functions, health, housekeeping
from ordersync_functions.publish import Publisher
from tests.functions.receiving import Receiver, receiving
from tests.functions.stack import PLATFORM, Stack


def ready(stack: Stack, queue: str) -> int:
    return stack.queue(queue).depth().ready


def deliver_all(stack: Stack) -> list[BaseException | None]:
    """Hand every ticket in `webhooks` to the function, one at a time; answers what each raised."""

    async def go() -> list[BaseException | None]:
        outcomes: list[BaseException | None] = []
        for claim in stack.queue(WEBHOOKS).claim():
            try:
                await functions.deliver_webhook(stack.parts, claim.message.body)
                outcomes.append(None)
            except Exception as error:
                outcomes.append(error)
            stack.queue(WEBHOOKS).complete([claim])
        await stack.parts.close_sender()
        return outcomes

    return asyncio.run(go())


def with_receiver(act: Callable[[Receiver], object]) -> None:
    async def go() -> None:
        async with receiving() as receiver:
            await asyncio.to_thread(act, receiver)

    asyncio.run(go())


def prepare_one(stack: Stack, receiver: Receiver) -> None:
    context = stack.administration()
    stack.webhook(context, receiver.url())
    stack.put(context, ["one"])
    functions.publish_outbox(stack.parts)
    for claim in stack.queue(EVENTS).claim():
        functions.handle_event(stack.parts, claim.message.body)
        stack.queue(EVENTS).complete([claim])


def test_a_message_at_a_time_goes_the_whole_way(stack: Stack) -> None:
    def act(receiver: Receiver) -> None:
        prepare_one(stack, receiver)
        assert deliver_all(stack) == [None]
        assert [each.position for each in receiver.received] == [1]

    with_receiver(act)

    assert stack.states() == {"Delivered": 1}


def test_a_failed_attempt_returns_for_its_row_owes_the_next(stack: Stack) -> None:
    def act(receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        prepare_one(stack, receiver)
        assert deliver_all(stack) == [None]

    with_receiver(act)

    assert stack.rows("demo", "SELECT state, attempts, tickets FROM deliveries") == [("Waiting", 1, 0)]


def test_the_last_attempt_raises_and_so_does_each_redelivery_without_work(stack: Stack) -> None:
    def act(receiver: Receiver) -> None:
        receiver.answer = lambda _: 413
        prepare_one(stack, receiver)
        (claim,) = stack.queue(WEBHOOKS).claim()
        stack.queue(WEBHOOKS).abandon([claim])
        again = Message(send_id="again", body=claim.message.body)
        stack.queue(WEBHOOKS).send([again])
        outcomes = deliver_all(stack)
        assert [type(outcome) for outcome in outcomes] == [functions.GivenUp, functions.GivenUp]
        assert len({str(outcome) for outcome in outcomes}) == 1
        assert len(receiver.received) == 1

    with_receiver(act)

    assert stack.states() == {"Dead": 1}


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff"])
def test_a_message_that_cannot_be_read_is_raised(stack: Stack, body: bytes) -> None:
    with pytest.raises(InvalidInput):
        functions.handle_event(stack.parts, body)
    with pytest.raises(InvalidInput):
        asyncio.run(functions.deliver_webhook(stack.parts, body))


def test_what_changed_is_published_and_what_is_owed_is_sent_again(stack: Stack) -> None:
    context = stack.administration()
    stack.put(context, ["one", "two"])

    functions.publish_outbox(stack.parts)
    assert ready(stack, EVENTS) == 2

    functions.publish_outbox(stack.parts)
    assert ready(stack, EVENTS) == 2

    stack.queue(EVENTS).complete(stack.queue(EVENTS).claim())
    stack.write("demo", "UPDATE outbox SET ticket_at = 0")
    stack.parts.wake("demo")

    def published() -> bool:
        functions.publish_outbox(stack.parts)
        return ready(stack, EVENTS) == 2

    wait_for(published)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        asyncio.run(asyncio.sleep(0.02))
    raise AssertionError("it did not come about")


def test_a_visit_leaves_the_next_moment_as_a_hint(stack: Stack) -> None:
    context = stack.administration()
    stack.put(context, ["one"])
    wait_for(lambda: bool(stack.rows("admin", "SELECT administration FROM wake")))  # written beside the work

    functions.publish_outbox(stack.parts)

    wait_for(lambda: [code for code, _ in stack.rows("admin", "SELECT administration, due_at FROM wake")] == ["demo"])
    ((due,),) = stack.rows("admin", "SELECT due_at FROM wake")
    ((owed,),) = stack.rows("demo", "SELECT ticket_at FROM outbox")
    assert due == owed


def test_the_sweep_goes_on_when_the_clock_is_set_back(stack: Stack) -> None:
    context = stack.administration()
    clock, period = ManualClock(stack.parts.clock.now()), timedelta(seconds=30)
    publisher = Publisher(stack.parts.application, stack.parts.administrations, clock, sweep=period)
    publisher.publish()  # the sweep of a process that begins
    stack.put(context, ["one"])
    wait_for(lambda: bool(stack.rows("admin", "SELECT administration FROM wake")))
    stack.parts.application.run(take_due, TakeDue(), PLATFORM)  # its hint gets lost

    clock.advance(-timedelta(hours=1))
    for _ in range(31):
        clock.advance(timedelta(seconds=1))
        publisher.publish()
    publisher.close()

    assert stack.rows("demo", "SELECT number FROM outbox") == [(1,)]


def test_a_waiting_run_gets_its_ticket(stack: Stack) -> None:
    context = stack.administration()
    run = stack.parts.application.run(start_run, StartRun(type=JobType.ITEM_SYNC), context)
    stack.queue(QUEUED_JOBS).complete(stack.queue(QUEUED_JOBS).claim())

    functions.schedule_jobs(stack.parts)
    assert ready(stack, QUEUED_JOBS) == 0

    stack.write("admin", "UPDATE job_runs SET ticket_at = 0")
    functions.schedule_jobs(stack.parts)
    (claim,) = stack.queue(QUEUED_JOBS).claim()
    assert str(run.id).encode() in claim.message.body


def test_connections_of_no_administration_need_no_renewal(stack: Stack) -> None:
    stack.administration()

    assert functions.renew_connections(stack.parts) == 0


def test_health_names_what_does_not_move(stack: Stack) -> None:
    context = stack.administration()
    stack.administration("gone")
    parts = stack.parts
    stack.put(context, ["one"])
    functions.publish_outbox(parts)
    parts.application.run(start_run, StartRun(type=JobType.ITEM_SYNC), context)
    assert health.watch_health(parts.application, parts.administrations, parts.queues) == []

    stack.write("demo", "UPDATE outbox SET tickets = 3")
    stack.write("admin", "UPDATE job_runs SET tickets = 4")
    (claim,) = stack.queue(EVENTS).claim()
    stack.queue(EVENTS).dead_letter(claim, reason="Why", description="for a test")
    parts.application.databases.close()  # type: ignore[attr-defined]
    (stack.settings.state / "tenants" / "gone.db").unlink()

    run, event, gone, dead = health.watch_health(parts.application, parts.administrations, parts.queues)
    assert run.startswith("demo: job run ")
    assert run.endswith("(ItemSync) has had 4 tickets and no outcome")
    assert event.startswith("demo: event ")
    assert gone.startswith("gone: its database cannot be looked at: ")
    assert dead == "events: 1 dead letters wait for a person"


def test_old_dead_letters_are_purged_in_batches(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    stack.send(EVENTS, *(str(number).encode() for number in range(5)))
    for claim in stack.queue(EVENTS).claim():
        stack.queue(EVENTS).dead_letter(claim, reason="Why", description="for a test")

    kept = housekeeping.purge_dead_letters(stack.parts.queues, stack.parts.clock, keep=timedelta(days=60))
    assert kept == {"events": 0, "webhooks": 0, "queued-jobs": 0}

    purged = housekeeping.purge_dead_letters(stack.parts.queues, stack.parts.clock, keep=-timedelta(days=1))
    assert purged == {"events": 5, "webhooks": 0, "queued-jobs": 0}
    assert stack.dead(EVENTS) == []


def test_no_connector_takes_webhooks_yet(stack: Stack) -> None:
    with pytest.raises(NotFound):
        functions.receive_connector_webhook(stack.parts, "exact-online")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"state": "x", "code": "c"},
        {"state": str(uuid4())},
        {"state": str(UUID(int=5)), "code": "c"},
        {"error": "no"},
    ],
)
def test_a_consent_that_nobody_asked_for_is_refused(stack: Stack, query: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        functions.complete_authorisation(stack.parts, query)
