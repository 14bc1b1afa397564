"""Whatever is done in whatever order: the durable queues answer as the one in memory does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from ordersync_adapters.queues.sql import SqlQueues, create_queue_tables
from ordersync_core.messaging.envelope import EVENTS
from ordersync_core.messaging.queue import Claim, DeadLetter, Queue
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_core.testing.queue_contract import a_message

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
places = st.sets(st.integers(0, 5), min_size=1, max_size=4)


class TwoQueues(RuleBasedStateMachine):
    """Does the same to both queues and keeps what they answered side by side."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.clock = ManualClock(NOON)
        self.durable = SqlQueues(url)
        self.queues: tuple[Queue, Queue] = (self.durable[EVENTS], MemoryQueues(self.clock)[EVENTS])
        self.sent = 0
        self.claims: list[tuple[Claim, Claim]] = []
        """All that were ever handed out, the lost and the settled ones too."""
        self.execute("DELETE FROM queue_messages")
        self.execute("DELETE FROM queue_dead_letters")

    def execute(self, statement: str) -> None:
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            connection.execute(text(statement))

    def teardown(self) -> None:
        self.durable.close()

    def latest(self, chosen: set[int]) -> list[tuple[Claim, Claim]]:
        return [self.claims[-1 - place] for place in sorted(chosen) if place < len(self.claims)]

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        messages = [a_message(f"{number}:1") for number in range(self.sent, self.sent + count)]
        self.sent += count
        for queue in self.queues:
            queue.send(messages)

    @rule(limit=st.integers(0, 4))
    def claim(self, limit: int) -> None:
        durable, memory = (queue.claim(limit=limit) for queue in self.queues)
        assert [told(claim) for claim in durable] == [told(claim) for claim in memory]
        self.claims += zip(durable, memory, strict=True)

    @rule(chosen=places)
    def complete(self, chosen: set[int]) -> None:
        self.settle(chosen, "complete")

    @rule(chosen=places)
    def abandon(self, chosen: set[int]) -> None:
        self.settle(chosen, "abandon")

    @rule(chosen=places)
    def renew(self, chosen: set[int]) -> None:
        self.settle(chosen, "renew")

    @rule(place=st.integers(0, 9))
    def dead_letter(self, place: int) -> None:
        for pair in self.latest({place}):
            durable, memory = (
                queue.dead_letter(claim, reason="Unknown", description="nobody knows this type")
                for queue, claim in zip(self.queues, pair, strict=True)
            )
            assert durable == memory

    @rule(place=st.integers(0, 3))
    def remove_dead_letter(self, place: int) -> None:
        pages = [queue.dead_letters(limit=10) for queue in self.queues]
        if place < len(pages[0]):
            for queue, page in zip(self.queues, pages, strict=True):
                assert queue.remove_dead_letter(page[place].id)

    @rule(seconds=st.sampled_from([40, 80]))
    def let_time_pass(self, seconds: int) -> None:
        """Once 40 s leave a lock of 60 s alone and twice end it, with much more room than this test takes."""
        self.clock.advance(timedelta(seconds=seconds))
        back = f"{seconds}000000" if self.url.startswith("sqlite") else f"interval '{seconds} seconds'"
        self.execute(f"UPDATE queue_messages SET locked_until = locked_until - {back}")

    @invariant()
    def both_hold_the_same(self) -> None:
        # between two calls some time passes for the durable one, and locks that end later come later
        self.clock.advance(timedelta(milliseconds=1))
        durable, memory = self.queues
        assert durable.depth() == memory.depth()
        assert [kept(letter) for letter in durable.dead_letters()] == [kept(letter) for letter in memory.dead_letters()]

    def settle(self, chosen: set[int], operation: str) -> None:
        pairs = self.latest(chosen)
        durable, memory = (
            getattr(queue, operation)([pair[side] for pair in pairs]) for side, queue in enumerate(self.queues)
        )
        assert [told(claim) for claim in durable or []] == [told(claim) for claim in memory or []]


def told(claim: Claim) -> Claim:
    """The claim without what each queue chooses by itself."""
    return evolve(claim, token="", locked_until=NOON)


def kept(letter: DeadLetter) -> DeadLetter:
    return evolve(letter, id="", dead_at=NOON)


@pytest.mark.parametrize(("database", "examples"), [("sqlite", 100), ("postgres", 30)])
def test_a_durable_queue_answers_as_the_one_in_memory_does(
    database: str, examples: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    on_sqlite = f"sqlite:///{tmp_path}/queues.db"
    url = on_sqlite if database == "sqlite" else request.getfixturevalue("postgres_database")
    create_queue_tables(url)

    # a factory does as well as the class that the signature asks for
    machine: Any = lambda: TwoQueues(url)  # noqa: E731

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
