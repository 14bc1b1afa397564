"""Messages of `events` that come back because their process died: handled by themselves, none given up for another."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from ordersync_core.dispatch import handle_events
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.messaging.envelope import EVENTS, Envelope
from ordersync_core.messaging.queue import MAXIMUM_DEATHS, SUSPECTS_TOGETHER, Depth
from ordersync_functions import events_consumer
from tests.functions.stack import Stack, running_host, until

WITHOUT_OUTCOME = "SELECT count(*) FROM outbox WHERE ticket_at IS NOT NULL"

KILLED_BY_THE_FIFTIETH = """
import os, signal, sys
from ordersync_core.dispatch import handle_events
from ordersync_functions import events_consumer, main

def killed(application, messages, context):
    if any(message.body["number"] == 50 for message in messages):
        os.kill(os.getpid(), signal.SIGKILL)
    handle_events(application, messages, context)

events_consumer.handle_events = killed
sys.exit(main.main())
"""


def relay(stack: Stack, context: Context, name: str, count: int) -> None:
    stack.put(context, [f"{name}-{number}" for number in range(count)])
    assert stack.relay(context) == count


def die(stack: Stack, count: int) -> None:
    """As if a process had died with so many messages in hand."""
    claims = stack.queue(EVENTS).claim(count, timedelta(milliseconds=1))
    assert len(claims) == count
    while datetime.now(UTC) <= claims[0].locked_until:
        pass


def test_nothing_else_is_held_while_they_are_handled(stack: Stack) -> None:
    """Those that died once up to a hundred at a time, those that died again one by one, and then the fresh ones."""
    context = stack.administration()
    queue = stack.queue(EVENTS)
    relay(stack, context, "again", 3)
    die(stack, 3)
    die(stack, 3)
    again = [claim for _ in range(3) for claim in queue.claim()]
    relay(stack, context, "once", SUSPECTS_TOGETHER + 20)
    die(stack, SUSPECTS_TOGETHER + 20)
    relay(stack, context, "fresh", 10)
    queue.abandon(again)
    batches: list[tuple[int, int]] = []

    def watched(application: Application, messages: Sequence[Envelope], context: Context) -> None:
        batches.append((len(messages), queue.depth().locked))
        handle_events(application, messages, context)

    async def go() -> None:
        async with running_host(stack):
            await until(lambda: stack.rows("demo", WITHOUT_OUTCOME) == [(0,)])

    with patch.object(events_consumer, "handle_events", watched):
        asyncio.run(go())

    assert batches == [(SUSPECTS_TOGETHER,) * 2, (20, 20), (1, 1), (1, 1), (1, 1), (10, 10)]


def test_of_many_that_die_with_a_killer_only_the_killer_is_given_up(stack: Stack) -> None:
    context = stack.administration()
    relay(stack, context, "item", 2 * SUSPECTS_TOGETHER)

    for _ in range(MAXIMUM_DEATHS):
        with process(stack) as killed:
            assert killed.wait(60) == -signal.SIGKILL
        # the locks of the dead process would run out after a minute
        stack.write("queues", "UPDATE queue_messages SET locked_until = 0 WHERE locked_until IS NOT NULL")
    with process(stack) as last:
        asyncio.run(until(lambda: stack.queue(EVENTS).depth() == Depth(ready=0, locked=0, dead=1)))
        last.send_signal(signal.SIGTERM)
        assert last.wait(60) == 0

    assert stack.dead(EVENTS) == [("KilledItsProcess", "3 processes died while they worked on it")]
    assert stack.rows("demo", "SELECT count(*) FROM inbox") == [(2 * SUSPECTS_TOGETHER - 1,)]


@contextmanager
def process(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """A host that is killed by the fiftieth event."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
    environment |= {"ORDERSYNC_STATE": str(stack.settings.state), "ORDERSYNC_FUNCTIONS_PORT": "0"}
    with subprocess.Popen([sys.executable, "-c", KILLED_BY_THE_FIFTIETH], env=environment) as started:
        try:
            yield started
        finally:
            started.kill()
