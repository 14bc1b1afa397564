from datetime import UTC, datetime, timedelta

import pytest
from attrs import field, frozen

from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_core.testing.queue_contract import QueueContract, QueueStore

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
