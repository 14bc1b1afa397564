from datetime import UTC, datetime, timedelta

import pytest
from attrs import field, frozen

from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.messaging.envelope import EVENTS
from ordersync_core.messaging.queue import Depth
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_core.testing.queue_contract import QueueContract, QueueStore, a_message, send_ids, some_messages

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@frozen
class MemoryStore:
    clock: ManualClock = field(factory=lambda: ManualClock(NOON))
    queues: MemoryQueues = field()

    @queues.default
    def _one_for_all(self) -> MemoryQueues:
        return MemoryQueues(self.clock)

    def open(self) -> MemoryQueues:
        return self.queues

    def let_time_pass(self, duration: timedelta) -> None:
        self.clock.advance(duration)


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def store(self) -> QueueStore:
        return MemoryStore()


def test_locks_last_as_long_as_they_say() -> None:
    store = MemoryStore()
    queue = store.open()[EVENTS]
    queue.send(some_messages(2))
    short, long = queue.claim(limit=1, lock=timedelta(seconds=5)), queue.claim(limit=1, lock=timedelta(seconds=6))
    assert [claim.locked_until for claim in [*short, *long]] == [NOON + timedelta(seconds=n) for n in (5, 6)]

    store.let_time_pass(timedelta(seconds=5))

    assert queue.complete([*short, *long]) == short
    (again,) = queue.claim(lock=timedelta(seconds=5))
    (renewed,) = queue.renew([again], lock=timedelta(minutes=5))
    store.let_time_pass(timedelta(minutes=4))
    assert renewed.locked_until == NOON + timedelta(minutes=5, seconds=5)
    assert queue.complete([again]) == []


def test_a_message_that_died_once_and_was_abandoned_comes_without_fresh_ones_again() -> None:
    queue = MemoryStore().open()[EVENTS]
    queue.send([a_message("suspect")])
    queue.claim(lock=timedelta(0))
    queue.abandon(queue.claim())
    queue.send(some_messages(2))

    assert queue.depth() == Depth(ready=3, locked=0, dead=0)
    (suspect,) = queue.claim()
    assert (suspect.message.send_id, suspect.deliveries, suspect.deaths) == ("suspect", 3, 1)
    assert send_ids(queue.claim()) == ["0:1", "1:1"]


def test_a_place_among_the_dead_letters_that_was_never_given_out_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not the id of a dead letter"):
        MemoryStore().open()[EVENTS].dead_letters(after="no such id")
