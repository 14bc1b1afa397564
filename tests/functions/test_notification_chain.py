"""From a change to its receivers, through the declared functions on SQLite."""

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest

from ordersync_core.dispatch import resubmit
from ordersync_core.messaging.envelope import EVENTS, WEBHOOKS, Envelope, decode_envelope, encode
from ordersync_core.messaging.queue import MAXIMUM_DEATHS
from ordersync_functions import functions
from tests.functions.receiving import receiving
from tests.functions.stack import PLATFORM, Stack, open_stack, running_host, until
from tests.postgres import PostgresServer

SHORT = timedelta(milliseconds=1)


def an_envelope(**values: object) -> Envelope:
    known: dict[str, object] = {
        "id": uuid4(),
        "type": "item.created",
        "administration": "demo",
        "occurred_at": datetime(2026, 5, 1, tzinfo=UTC),
        "triggered_by": "a-test",
        "correlation_id": "a-test",
        "body": {"number": 1},
    }
    return Envelope(**(known | values))  # type: ignore[arg-type]


def hide(stack: Stack, code: str) -> None:
    """Its database is gone from where it was."""
    stack.parts.application.databases.close()  # type: ignore[attr-defined]
    folder = stack.settings.state / "tenants"
    (folder / "hidden").mkdir()
    for file in folder.glob(f"{code}.db*"):
        file.rename(folder / "hidden" / file.name)


def bring_back(stack: Stack, code: str) -> None:
    folder = stack.settings.state / "tenants"
    for file in (folder / "hidden").glob(f"{code}.db*"):
        file.rename(folder / file.name)


def empty(stack: Stack) -> bool:
    depths = [stack.queue(name).depth() for name in (EVENTS, WEBHOOKS)]
    return all(depth.ready + depth.locked == 0 for depth in depths)


def test_every_change_reaches_every_webhook_that_takes_it_once_and_in_its_own_count(stack: Stack) -> None:
    context = stack.administration()
    codes = [f"item-{number}" for number in range(150)]

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url("all"))
            stack.webhook(context, receiver.url("updates"), ["item.updated"])
            async with running_host(stack):
                stack.put(context, codes)
                await until(lambda: len(receiver.at("all")) == 150 and empty(stack))
                stack.put(context, codes[:30], "another name")
                await until(lambda: len(receiver.at("updates")) == 30 and empty(stack))
            assert sorted(each.position for each in receiver.at("all")) == list(range(1, 181))
            assert sorted(each.position for each in receiver.at("updates")) == list(range(1, 31))
            bodies = {each.event_id: each.body for each in receiver.at("all")}
            assert sorted(orjson.loads(body)["sequence"] for body in bodies.values()) == list(range(1, 181))
            assert all(bodies[each.event_id] == each.body for each in receiver.at("updates"))

    asyncio.run(go())

    assert stack.states() == {"Delivered": 210}
    assert stack.rows("demo", "SELECT count(*) FROM attempts") == [(210,)]
    assert stack.rows("demo", "SELECT count(*) FROM deliveries WHERE ticket_at IS NOT NULL") == [(0,)]
    assert not stack.dead(EVENTS)
    assert not stack.dead(WEBHOOKS)


def test_the_same_way_on_postgres(postgres: PostgresServer, tmp_path: Path) -> None:
    names = ["functions_admin", "functions_queues", "functions_tenant_demo"]
    urls = {
        "admin_database": postgres.url(names[0]),
        "queues": postgres.url(names[1]),
        "tenant_databases": postgres.url("functions_tenant_code").replace("_code", "_{code}"),
    }
    postgres.create_database(names[1])

    async def go(stack: Stack) -> None:
        context = stack.administration()
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            async with running_host(stack):
                stack.put(context, [f"item-{number}" for number in range(50)])
                await until(lambda: len(receiver.received) == 50 and empty(stack))
                receiver.answer = lambda _: 500
                stack.put(context, ["one-more"])
                await until(lambda: len(receiver.received) == 52)
                receiver.answer = lambda _: 200
                await until(lambda: empty(stack))
            assert {each.position for each in receiver.received} == set(range(1, 52))

    try:
        with open_stack(tmp_path, **urls) as stack:
            asyncio.run(go(stack))
    finally:
        for name in names:
            postgres.drop_database(name)


def test_one_endpoint_that_hangs_holds_none_of_the_others_up(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            receiver.slow = frozenset({"hook-0"})
            for number in range(10):
                stack.webhook(context, receiver.url(f"hook-{number}"))
            stack.put(context, [f"item-{number}" for number in range(60)])
            async with running_host(stack):
                await until(lambda: stack.states().get("Delivered") == 540)
                assert Counter(each.path for each in receiver.received)["hook-0"] == 10
                receiver.released.set()
                await until(lambda: stack.states().get("Delivered") == 600)
            assert receiver.most_waiting == 10

    asyncio.run(go())


def test_one_tenant_whose_endpoints_all_hang_holds_no_other_tenant_up(stack: Stack) -> None:
    flood, small = stack.administration("flood"), stack.administration("small")

    async def go() -> None:
        async with receiving() as receiver:
            receiver.slow = frozenset(f"hook-{number}" for number in range(15))
            for number in range(15):
                stack.webhook(flood, receiver.url(f"hook-{number}"))
            stack.webhook(small, receiver.url("small"))
            stack.put(flood, [f"item-{number}" for number in range(40)])
            async with running_host(stack):
                await until(lambda: receiver.waiting == 100)
                stack.put(small, ["one", "two"])
                await until(lambda: stack.states("small") == {"Delivered": 2})
                assert receiver.most_waiting == 100
                receiver.released.set()
                await until(lambda: stack.states("flood") == {"Delivered": 600})

    asyncio.run(go())


def test_a_receiver_that_fails_and_recovers_gets_everything(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            receiver.answer = lambda _: 503
            stack.webhook(context, receiver.url())
            stack.put(context, [f"item-{number}" for number in range(40)])
            async with running_host(stack):
                await until(lambda: len(receiver.received) >= 12)
                receiver.answer = lambda _: 200
                await until(lambda: stack.states() == {"Delivered": 40})
            failed = len(receiver.received) - 40
            # ten open the breaker; what was in flight then, and the probes after it, are few
            assert failed < 40

    asyncio.run(go())

    assert stack.rows("demo", "SELECT count(DISTINCT position) FROM deliveries WHERE state = 'Delivered'") == [(40,)]


def test_a_delivery_is_given_up_after_its_last_attempt_and_can_be_resubmitted(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            receiver.answer = lambda _: 500
            stack.webhook(context, receiver.url())
            stack.put(context, ["one"])
            async with running_host(stack):
                await until(lambda: len(stack.dead(WEBHOOKS)) == 1)
                assert len(receiver.received) == 16
                assert len({each.body for each in receiver.received}) == 1
                assert stack.states() == {"Dead": 1}
                assert stack.dead(WEBHOOKS) == [
                    ("AttemptsExhausted", "item.created after 16 attempts: the last answer was HTTP 500")
                ]
                receiver.answer = lambda _: 200
                (letter,) = stack.queue(WEBHOOKS).dead_letters()
                resubmit(stack.parts.application, WEBHOOKS, letter.id, PLATFORM)
                await until(lambda: stack.states() == {"Delivered": 1})
            assert stack.dead(WEBHOOKS) == []

    asyncio.run(go())


def test_gone_disables_the_webhook_and_parks_what_waits(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            receiver.answer = lambda _: 410
            stack.webhook(context, receiver.url())
            stack.put(context, [f"item-{number}" for number in range(60)])
            async with running_host(stack):
                await until(lambda: stack.states() == {"Parked": 60} and empty(stack))
            assert len(receiver.received) <= 20

    asyncio.run(go())

    assert stack.rows("demo", "SELECT state FROM webhooks") == [("Disabled",)]


def test_poison_goes_to_the_dead_letters_with_a_reason_and_delays_nothing(stack: Stack) -> None:
    context = stack.administration()
    stack.send(EVENTS, b"\x00", b'{"no": "envelope"}', encode(an_envelope(administration="nobody")))
    stack.send(EVENTS, encode(an_envelope(type="item.exploded")), encode(an_envelope(version=2)))
    delivery = {"delivery": str(uuid4()), "attempt": 1}
    stack.send(WEBHOOKS, b"[]", encode(an_envelope(body={})), encode(an_envelope(body=delivery | {"attempt": "1"})))
    stack.send(WEBHOOKS, encode(an_envelope(body=delivery | {"delivery": 7})), encode(an_envelope(body=delivery)))

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            async with running_host(stack):
                stack.put(context, ["one"])
                await until(lambda: stack.states() == {"Delivered": 1} and empty(stack))

    asyncio.run(go())

    assert sorted(reason for reason, _ in stack.dead(EVENTS)) == [
        "Malformed",
        "Malformed",
        "Malformed",
        "UnknownAdministration",
        "UnknownType",
    ]
    assert [reason for reason, _ in stack.dead(WEBHOOKS)] == ["Malformed"] * 4
    assert all(description for queue in (EVENTS, WEBHOOKS) for _, description in stack.dead(queue))


def test_a_message_that_names_another_administrations_rows_changes_nothing(stack: Stack) -> None:
    mine, other = stack.administration("mine"), stack.administration("other")

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(mine, receiver.url("mine"))
            stack.webhook(other, receiver.url("other"))
            stack.put(mine, ["secret"])
            async with running_host(stack):
                await until(lambda: stack.states("mine") == {"Delivered": 1})
                (event,) = stack.rows("mine", "SELECT id FROM outbox")[0]
                (delivery,) = stack.rows("mine", "SELECT id FROM deliveries")[0]
                body = {"number": 1, "administration": "mine", "delivery": str(UUID(delivery)), "attempt": 2}
                stack.send(EVENTS, encode(an_envelope(id=UUID(event), administration="other", body=body)))
                stack.send(WEBHOOKS, encode(an_envelope(id=UUID(delivery), administration="other", body=body)))
                await until(lambda: empty(stack))
            assert [each.path for each in receiver.received] == ["mine"]

    asyncio.run(go())

    assert stack.states("other") == {}
    assert stack.states("mine") == {"Delivered": 1}


def test_repeated_messages_have_their_effect_once(stack: Stack) -> None:
    context = stack.administration()
    stack.put(context, ["one", "two"])
    stack.relay(context)
    claims = stack.queue(EVENTS).claim()
    stack.queue(EVENTS).complete(claims)

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            for _ in range(10):
                stack.send(EVENTS, *(claim.message.body for claim in claims))
            async with running_host(stack):
                await until(lambda: stack.states() == {"Delivered": 2} and empty(stack))
                deliveries = [UUID(row[0]) for row in stack.rows("demo", "SELECT id FROM deliveries")]
                for id in deliveries * 10:
                    stack.send(WEBHOOKS, encode(an_envelope(id=id, body={"delivery": str(id), "attempt": 1})))
                await until(lambda: empty(stack))
            assert sorted(each.position for each in receiver.received) == [1, 2]

    asyncio.run(go())


def test_several_tickets_for_one_attempt_send_it_once(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            receiver.slow = frozenset({"hook"})
            stack.webhook(context, receiver.url())
            stack.put(context, ["one"])
            async with running_host(stack):
                await until(lambda: receiver.waiting == 1)
                ((id,),) = stack.rows("demo", "SELECT id FROM deliveries")
                body = {"delivery": str(UUID(id)), "attempt": 1}
                stack.send(WEBHOOKS, *(encode(an_envelope(id=UUID(id), body=body)) for _ in range(5)))
                await until(lambda: stack.queue(WEBHOOKS).depth().locked == 6)
                receiver.released.set()
                await until(lambda: empty(stack))
            assert len(receiver.received) == 1

    asyncio.run(go())

    assert stack.rows("demo", "SELECT count(*) FROM attempts") == [(1,)]


def kill(stack: Stack, queue: str) -> None:
    """As if as many processes as may had died with the message in hand."""
    for _ in range(MAXIMUM_DEATHS):
        (claim,) = stack.queue(queue).claim(1, SHORT)
        assert claim.deliveries
        while stack.queue(queue).depth().locked:
            pass


def test_an_event_that_kills_its_processes_is_given_up_on_its_row_too(stack: Stack) -> None:
    context = stack.administration()
    stack.put(context, ["one"])
    stack.relay(context)
    kill(stack, EVENTS)

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            async with running_host(stack):
                await until(lambda: len(stack.dead(EVENTS)) == 1)
                assert stack.dead(EVENTS) == [("KilledItsProcess", "3 processes died while they worked on it")]
                assert stack.rows("demo", "SELECT count(*) FROM outbox WHERE ticket_at IS NOT NULL") == [(0,)]
                (letter,) = stack.queue(EVENTS).dead_letters()
                resubmit(stack.parts.application, EVENTS, letter.id, PLATFORM)
                await until(lambda: stack.states() == {"Delivered": 1})

    asyncio.run(go())


def test_a_delivery_that_kills_its_processes_is_given_up_on_its_row_too(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            make_deliveries(stack, "one")
            kill(stack, WEBHOOKS)
            async with running_host(stack):
                await until(lambda: len(stack.dead(WEBHOOKS)) == 1)
            assert receiver.received == []

    asyncio.run(go())

    assert stack.dead(WEBHOOKS) == [("KilledItsProcess", "3 processes died while they worked on it")]
    assert stack.rows("demo", "SELECT state, reason, ticket_at FROM deliveries") == [("Dead", "KilledItsProcess", None)]


def make_deliveries(stack: Stack, *codes: str) -> list[Envelope]:
    """Put items and fan their events out by hand; answers the tickets that lie in `webhooks` then."""
    context = PLATFORM.within("demo")
    stack.put(context, codes)
    stack.relay(context)
    fan_out_by_hand(stack)
    claims = stack.queue(WEBHOOKS).claim()
    stack.queue(WEBHOOKS).abandon(claims)
    return [decode_envelope(claim.message.body) for claim in claims]


def fan_out_by_hand(stack: Stack) -> None:
    for claim in stack.queue(EVENTS).claim():
        functions.handle_event(stack.parts, claim.message.body)
        stack.queue(EVENTS).complete([claim])


def test_a_delivery_that_was_given_up_without_a_dead_letter_gets_one(stack: Stack) -> None:
    """Its process died between the row and the dead letter."""
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            make_deliveries(stack, "one")
            stack.write("demo", "UPDATE deliveries SET state = 'Dead', attempts = 1, reason = 'PayloadRefused'")
            async with running_host(stack):
                await until(lambda: len(stack.dead(WEBHOOKS)) == 1)
            assert receiver.received == []

    asyncio.run(go())

    assert stack.dead(WEBHOOKS) == [("PayloadRefused", "item.created after 1 attempts: it was given up before")]


def test_a_process_that_stops_ends_its_sends_and_gives_the_rest_back(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            receiver.slow = frozenset({"hook"})
            stack.webhook(context, receiver.url())
            stack.put(context, [f"item-{number}" for number in range(50)])
            async with running_host(stack):
                await until(lambda: receiver.waiting == 10)
                asyncio.get_running_loop().call_later(0.3, receiver.released.set)
            assert stack.states() == {"Delivered": 10, "Waiting": 40}
            depth = stack.queue(WEBHOOKS).depth()
            assert (depth.ready, depth.locked) == (40, 0)
            async with running_host(stack):
                await until(lambda: stack.states() == {"Delivered": 50})
            assert sorted(each.position for each in receiver.received) == list(range(1, 51))

    asyncio.run(go())


def test_a_tenant_whose_database_is_away_disturbs_nobody_and_goes_on_when_it_is_back(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    lost, healthy = stack.administration("lost"), stack.administration("healthy")
    caplog.set_level(logging.INFO)

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(lost, receiver.url("lost"))
            stack.webhook(healthy, receiver.url("healthy"))
            stack.put(lost, [f"item-{number}" for number in range(20)])
            stack.relay(lost)
            hide(stack, "lost")
            async with running_host(stack):
                stack.put(healthy, [f"item-{number}" for number in range(20)])
                await until(lambda: stack.states("healthy") == {"Delivered": 20})
                assert receiver.at("lost") == []
                bring_back(stack, "lost")
                await until(lambda: stack.states("lost") == {"Delivered": 20})

    asyncio.run(go())

    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("lost: cannot")]
    assert len(told) == len({line.split(" for now")[0] for line in told})
    assert not [record for record in caplog.records if record.exc_info]
    assert stack.dead(EVENTS) == []
