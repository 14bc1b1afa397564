"""What every queue promises, as examples. Subclass `QueueContract` and give it a fixture `store`.

class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def store(self) -> QueueStore:
        return MemoryStore()
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Protocol, TypeVar

import pytest
from attrs import evolve

from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, QUEUES, WEBHOOKS
from ordersync_core.messaging.queue import (
    LOCK,
    MAXIMUM_DEATHS,
    SUSPECTS_TOGETHER,
    Claim,
    DeadLetter,
    Depth,
    Message,
    Queue,
    Queues,
)

R = TypeVar("R")

AGES = LOCK * 2
"""After this long every lock of a claim has run out."""


class QueueStore(Protocol):
    """Queues that are empty at first, and the test's power over their time."""

    def open(self) -> Queues:
        """What another process would open: the same queues, nothing else in common. The store closes them."""
        ...

    def let_time_pass(self, duration: timedelta) -> None:
        """The store's clock goes on by `duration`, or all that the store has noted lies back by as much."""
        ...


class QueueContract:
    patience = timedelta(seconds=20)
    """How long a wait may take that ought to end at once; only a queue that breaks its promise takes so long."""

    # sending and claiming

    def test_a_message_arrives_as_it_was_sent(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        message = Message(send_id="018f:1", body=b'{"type": "item.updated"}', group="acme")

        queue.send([message])
        (claim,) = queue.claim()

        assert claim.message == message
        assert (claim.deliveries, claim.deaths) == (1, 0)
        assert claim.locked_until.utcoffset() == timedelta()

    def test_an_empty_queue_gives_nothing(self, store: QueueStore) -> None:
        assert store.open()[EVENTS].claim() == []

    def test_the_oldest_messages_come_first(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        queue.send([a_message("later")])

        assert send_ids(queue.claim(limit=2)) == ["0:1", "1:1"]
        assert send_ids(queue.claim(limit=2)) == ["2:1", "later"]

    def test_no_more_messages_come_than_the_limit(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(7))

        assert [len(queue.claim(limit=3)) for _ in range(4)] == [3, 3, 1, 0]

    def test_a_limit_of_none_gives_none(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(2))

        assert queue.claim(limit=0) == []
        assert len(queue.claim()) == 2

    def test_a_claimed_message_is_not_given_to_another(self, store: QueueStore) -> None:
        queue, other = store.open()[EVENTS], store.open()[EVENTS]
        queue.send(some_messages(3))

        assert send_ids(queue.claim(limit=2)) == ["0:1", "1:1"]
        assert send_ids(other.claim()) == ["2:1"]
        assert queue.claim() == other.claim() == []

    def test_a_completed_message_is_gone(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(2))
        one, two = queue.claim()

        assert queue.complete([one]) == []
        store.let_time_pass(AGES)

        assert send_ids(queue.claim()) == [two.message.send_id]
        assert queue.claim() == []

    def test_queues_do_not_mix(self, store: QueueStore) -> None:
        queues = store.open()
        for name in QUEUES:
            queues[name].send([a_message(name)])

        assert {name: send_ids(queues[name].claim()) for name in QUEUES} == {name: [name] for name in QUEUES}

    def test_an_unknown_queue_is_a_key_error(self, store: QueueStore) -> None:
        with pytest.raises(KeyError):
            store.open()["no-such-queue"]

    def test_nothing_to_send_or_settle_does_nothing(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]

        queue.send([])
        queue.abandon([])

        assert queue.complete([]) == queue.renew([]) == queue.claim() == []

    def test_any_body_arrives_unchanged(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        bodies = [b"", bytes(range(256)), b"\x00\xff" * 500_000, b"after them"]
        queue.send([Message(send_id=f"{number}:1", body=body) for number, body in enumerate(bodies)])

        assert [claim.message.body for claim in queue.claim()] == bodies

    def test_one_envelope_sent_twice_arrives_twice(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        first = Message(send_id="018f:1", body=b'{"id": "018f"}')
        again = evolve(first, send_id="018f:2")

        queue.send([first])
        queue.send([again])

        assert [claim.message for claim in queue.claim()] == [first, again]

    def test_messages_of_several_groups_keep_theirs(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        groups = ["acme", "", "zebra", "acme"]
        queue.send([a_message(f"{number}:1", group=group) for number, group in enumerate(groups)])

        assert [claim.message.group for claim in queue.claim()] == groups

    def test_every_claim_has_a_token_of_its_own(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        first = queue.claim()
        queue.abandon(first)

        tokens = [claim.token for claim in [*first, *queue.claim()]]

        assert len(set(tokens)) == 6

    # locks that run out

    def test_a_claim_is_lost_when_its_lock_has_run_out(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send([a_message()])
        (lost,) = queue.claim()
        store.let_time_pass(AGES)

        assert_lost(queue, lost)
        (again,) = queue.claim()
        assert again.message == lost.message
        assert (again.deliveries, again.deaths) == (2, 1)

    def test_a_claim_that_was_lost_does_no_harm_to_the_next_one(self, store: QueueStore) -> None:
        queue, other = store.open()[EVENTS], store.open()[EVENTS]
        queue.send([a_message()])
        (lost,) = queue.claim()
        store.let_time_pass(AGES)
        (held,) = other.claim()

        assert_lost(queue, lost)
        assert queue.claim() == []
        assert queue.complete([lost, held]) == [lost]
        assert queue.depth() == Depth(ready=0, locked=0, dead=0)

    def test_messages_that_died_once_come_together_and_without_fresh_ones(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        queue.claim()
        store.let_time_pass(AGES)
        queue.send([a_message("fresh 1"), a_message("fresh 2")])

        suspects, fresh = queue.claim(), queue.claim()

        assert [(claim.message.send_id, claim.deaths) for claim in suspects] == [("0:1", 1), ("1:1", 1), ("2:1", 1)]
        assert [(claim.message.send_id, claim.deaths) for claim in fresh] == [("fresh 1", 0), ("fresh 2", 0)]

    def test_no_more_that_died_once_come_together_than_so_many(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        messages = some_messages(2 * SUSPECTS_TOGETHER)
        queue.send(messages)
        queue.claim(limit=len(messages))
        store.let_time_pass(AGES)

        claims = [queue.claim(limit=limit) for limit in (len(messages), SUSPECTS_TOGETHER - 1, len(messages))]

        assert [len(claim) for claim in claims] == [SUSPECTS_TOGETHER, SUSPECTS_TOGETHER - 1, 1]
        assert sorted(send_ids([claim for part in claims for claim in part])) == sorted(m.send_id for m in messages)

    def test_messages_that_died_more_often_are_claimed_alone(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        for _ in range(2):
            queue.claim()
            store.let_time_pass(AGES)
        queue.send([a_message("fresh 1"), a_message("fresh 2")])

        claims = [queue.claim() for _ in range(4)]

        assert [len(claim) for claim in claims] == [1, 1, 1, 2]
        assert {claim.message.send_id: claim.deaths for (claim,) in claims[:3]} == {"0:1": 2, "1:1": 2, "2:1": 2}

    def test_messages_that_died_once_come_before_those_that_died_more_often(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send([a_message("often")])
        queue.claim()
        store.let_time_pass(AGES)
        queue.send(some_messages(2))
        queue.claim()
        queue.claim()
        store.let_time_pass(AGES)

        once, often = queue.claim(), queue.claim()

        assert [(claim.message.send_id, claim.deaths) for claim in once] == [("0:1", 1), ("1:1", 1)]
        assert [(claim.message.send_id, claim.deaths) for claim in often] == [("often", 2)]

    def test_every_death_is_counted(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send([a_message()])

        for death in range(MAXIMUM_DEATHS + 1):
            (claim,) = queue.claim()
            assert (claim.deliveries, claim.deaths) == (death + 1, death)
            store.let_time_pass(AGES)

    def test_a_renewed_claim_outlives_its_first_lock(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        renewed, forgotten, unchanged = queue.claim()
        store.let_time_pass(LOCK * 0.75)

        (kept,) = queue.renew([renewed])
        assert evolve(kept, locked_until=renewed.locked_until) == renewed
        assert kept.locked_until > renewed.locked_until - LOCK
        store.let_time_pass(LOCK * 0.75)

        assert queue.complete([kept, forgotten]) == [forgotten]
        assert {claim.message.send_id for _ in range(2) for claim in queue.claim()} == {
            forgotten.message.send_id,
            unchanged.message.send_id,
        }

    def test_a_claim_settles_what_was_renewed_behind_its_back(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(2))
        claims = queue.claim()

        assert len(queue.renew(claims)) == 2

        assert queue.complete(claims) == []

    def test_renewing_leaves_out_what_was_lost(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send([a_message("expired")])
        (expired,) = queue.claim()
        store.let_time_pass(AGES)
        (taken_over,) = store.open()[EVENTS].claim()
        queue.send([a_message("completed"), a_message("abandoned"), a_message("held")])
        completed, abandoned, held = queue.claim()
        queue.complete([completed])
        queue.abandon([abandoned])

        kept = queue.renew([expired, completed, abandoned, held])

        assert [claim.token for claim in kept] == [held.token]
        assert queue.complete([taken_over]) == []

    # giving back

    def test_an_abandoned_message_comes_back_at_once_and_has_not_died(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        one, two, three = queue.claim()

        queue.abandon([one, three])
        back = store.open()[EVENTS].claim()

        assert {claim.message.send_id for claim in back} == {"0:1", "2:1"}
        assert {(claim.deliveries, claim.deaths) for claim in back} == {(2, 0)}
        assert queue.complete([one, two, three]) == [one, three]

    def test_what_was_settled_is_no_longer_ours(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(3))
        completed, abandoned, dead = claims = queue.claim()
        queue.complete([completed])
        queue.abandon([abandoned])
        queue.dead_letter(dead, reason="Unknown", description="nobody knows this type")

        assert queue.complete(claims) == claims
        for claim in claims:
            assert not queue.dead_letter(claim, reason="Again", description="it was settled before")
        queue.abandon(claims)
        assert queue.depth() == Depth(ready=1, locked=0, dead=1)

    # dead letters

    def test_a_dead_letter_keeps_message_reason_description_and_deliveries(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        message = Message(send_id="018f:7", body=bytes(range(256)), group="acme")
        queue.send([message])
        queue.abandon(queue.claim())
        (claim,) = queue.claim()

        assert queue.dead_letter(claim, reason="UnknownType", description="item.vanished is not known here: é")

        (letter,) = queue.dead_letters()
        assert letter.message == message
        assert (letter.reason, letter.description) == ("UnknownType", "item.vanished is not known here: é")
        assert letter.deliveries == 2
        assert letter.dead_at.utcoffset() == timedelta()
        store.let_time_pass(AGES)
        assert queue.claim() == []

    def test_a_message_can_be_given_up_whatever_the_reason_contains(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]

        give_up(queue, [a_message()], description="it said \0 and \ud800, then stopped")

        (letter,) = queue.dead_letters()
        assert letter.description.startswith("it said ")
        assert letter.description.endswith(", then stopped")

    def test_dead_letters_are_read_page_by_page(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        give_up(queue, some_messages(5))

        first = queue.dead_letters(limit=2)
        second = queue.dead_letters(limit=2, after=first[-1].id)
        queue.remove_dead_letter(second[-1].id)
        third = queue.dead_letters(limit=2, after=second[-1].id)

        assert [letter_ids(page) for page in (first, second, third)] == [["0:1", "1:1"], ["2:1", "3:1"], ["4:1"]]
        assert queue.dead_letters(after=third[-1].id) == []
        assert letter_ids(queue.dead_letters()) == ["0:1", "1:1", "2:1", "4:1"]

    def test_a_dead_letter_is_found_in_its_own_queue(self, store: QueueStore) -> None:
        queues = store.open()
        give_up(queues[EVENTS], some_messages(3))
        letters = queues[EVENTS].dead_letters()

        assert [queues[EVENTS].find_dead_letter(letter.id) for letter in letters] == letters
        assert queues[WEBHOOKS].dead_letters() == []
        assert queues[WEBHOOKS].find_dead_letter(letters[0].id) is None
        assert not queues[WEBHOOKS].remove_dead_letter(letters[0].id)
        assert queues[WEBHOOKS].purge_dead_letters(before=letters[0].dead_at + AGES, limit=10) == 0
        assert queues[EVENTS].find_dead_letter("no such id") is None

    def test_a_dead_letter_is_removed_once(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        give_up(queue, some_messages(2))
        one, two = queue.dead_letters()

        assert queue.remove_dead_letter(one.id)

        assert not queue.remove_dead_letter(one.id)
        assert not queue.remove_dead_letter("no such id")
        assert queue.find_dead_letter(one.id) is None
        assert queue.dead_letters() == [two]

    def test_old_dead_letters_are_purged_oldest_first_and_so_many_at_a_time(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        give_up(queue, some_messages(3))
        store.let_time_pass(timedelta(days=1))
        give_up(queue, [a_message("young")])
        young = queue.dead_letters()[-1]

        assert queue.purge_dead_letters(before=young.dead_at, limit=2) == 2
        assert letter_ids(queue.dead_letters()) == ["2:1", "young"]
        assert queue.purge_dead_letters(before=young.dead_at, limit=2) == 1
        assert queue.purge_dead_letters(before=young.dead_at, limit=2) == 0
        assert queue.dead_letters() == [young]

    def test_a_dead_letter_can_be_sent_again_under_another_send_id(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        give_up(queue, [a_message("018f:1")])
        (letter,) = queue.dead_letters()

        queue.send([evolve(letter.message, send_id="018f:2")])
        queue.remove_dead_letter(letter.id)

        (claim,) = queue.claim()
        assert claim.message == evolve(letter.message, send_id="018f:2")
        assert (claim.deliveries, claim.deaths) == (1, 0)
        assert queue.dead_letters() == []

    # depth

    def test_depth_tells_ready_locked_and_dead_apart(self, store: QueueStore) -> None:
        queues = store.open()
        queue = queues[EVENTS]
        give_up(queue, [a_message("dead")])
        queue.send(some_messages(6))
        queues[QUEUED_JOBS].send([a_message("elsewhere")])
        one, two, _ = queue.claim(limit=3)

        assert queue.depth() == Depth(ready=3, locked=3, dead=1)
        queue.complete([one])
        queue.abandon([two])
        assert queue.depth() == Depth(ready=4, locked=1, dead=1)
        store.let_time_pass(AGES)
        assert queue.depth() == Depth(ready=5, locked=0, dead=1)

    # several at once

    def test_claimers_at_once_never_get_the_same_message(self, store: QueueStore) -> None:
        store.open()[EVENTS].send(some_messages(400))

        def claim_all() -> list[str]:
            queue = store.open()[EVENTS]
            got: list[str] = []
            while (claims := queue.claim(limit=7)) and len(got) <= 400:
                got += send_ids(claims)
                assert queue.complete(claims) == []
            return got

        got = [send_id for part in in_threads(4, claim_all) for send_id in part]

        assert Counter(got) == Counter(f"{number}:1" for number in range(400))
        assert store.open()[EVENTS].depth() == Depth(ready=0, locked=0, dead=0)

    def test_of_two_who_settle_one_claim_one_does(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(100))
        claims = queue.claim(limit=100)

        def complete_one_by_one() -> list[str]:
            mine = store.open()[EVENTS]
            return [claim.token for claim in claims if mine.complete([claim]) == []]

        settled = [token for part in in_threads(2, complete_one_by_one) for token in part]

        assert Counter(settled) == Counter(claim.token for claim in claims)

    def test_what_is_sent_while_others_claim_arrives_once(self, store: QueueStore) -> None:
        sent = threading.Event()
        senders = iter(range(2))

        def send_all() -> list[str]:
            queue = store.open()[EVENTS]
            sender = next(senders)
            for number in range(0, 100, 5):
                queue.send([a_message(f"{sender}-{number + place}:1") for place in range(5)])
            return []

        def claim_all() -> list[str]:
            queue = store.open()[EVENTS]
            got: list[str] = []
            while len(got) <= 200:
                over = sent.is_set()
                claims = queue.claim(limit=3)
                got += send_ids(claims)
                queue.complete(claims)
                if over and not claims:
                    break
            return got

        with ThreadPoolExecutor(4) as pool:
            claiming = [pool.submit(claim_all) for _ in range(2)]
            sending = [pool.submit(send_all) for _ in range(2)]
            try:
                for sender in sending:
                    sender.result()
            finally:
                sent.set()
            got = [send_id for claimer in claiming for send_id in claimer.result()]

        assert Counter(got) == Counter(f"{sender}-{number}:1" for sender in range(2) for number in range(100))

    # waiting

    def test_a_wait_ends_when_another_sends(self, store: QueueStore) -> None:
        queue, other = store.open()[EVENTS], store.open()[EVENTS]
        begin = time.monotonic()
        sender = threading.Timer(0.1, other.send, [[a_message()]])
        sender.start()

        claims = wait_for_claims(queue, self.patience)
        sender.join()

        assert len(claims) == 1
        assert time.monotonic() - begin < self.patience.total_seconds()

    def test_what_is_sent_between_claim_and_wait_ends_the_wait(self, store: QueueStore) -> None:
        queue, other = store.open()[EVENTS], store.open()[EVENTS]
        # the first wait of all may end for a reason of its own
        queue.claim()
        queue.wait(timedelta(milliseconds=1))
        begin = time.monotonic()

        assert queue.claim() == []
        other.send([a_message()])
        queue.wait(self.patience)

        assert len(queue.claim()) == 1
        assert time.monotonic() - begin < self.patience.total_seconds()

    def test_a_wait_for_nothing_ends(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]

        for _ in range(3):
            assert queue.claim() == []
            queue.wait(timedelta(milliseconds=10))

    # another process

    def test_what_one_does_another_sees(self, store: QueueStore) -> None:
        queue = store.open()[EVENTS]
        queue.send(some_messages(4))
        locked, completed, dead, abandoned = queue.claim()
        queue.complete([completed])
        queue.dead_letter(dead, reason="Unknown", description="nobody knows this type")
        queue.abandon([abandoned])

        other = store.open()[EVENTS]

        assert other.depth() == Depth(ready=1, locked=1, dead=1)
        assert other.dead_letters() == queue.dead_letters()
        assert send_ids(other.claim()) == [abandoned.message.send_id]
        assert other.complete([locked]) == []


def a_message(send_id: str = "018f:1", *, group: str = "acme") -> Message:
    return Message(send_id=send_id, body=f"body of {send_id}".encode(), group=group)


def some_messages(count: int) -> list[Message]:
    """Their send ids are "0:1", "1:1" and so on."""
    return [a_message(f"{number}:1") for number in range(count)]


def send_ids(claims: Sequence[Claim]) -> list[str]:
    return [claim.message.send_id for claim in claims]


def letter_ids(letters: Sequence[DeadLetter]) -> list[str]:
    return [letter.message.send_id for letter in letters]


def give_up(queue: Queue, messages: Sequence[Message], description: str = "nobody knows this type") -> None:
    """One after another, on a queue that holds nothing else to claim."""
    for message in messages:
        queue.send([message])
        (claim,) = queue.claim()
        assert queue.dead_letter(claim, reason="UnknownType", description=description)


def assert_lost(queue: Queue, claim: Claim) -> None:
    """Every way to settle or keep the claim is refused."""
    assert queue.renew([claim]) == []
    assert queue.complete([claim]) == [claim]
    queue.abandon([claim])
    assert not queue.dead_letter(claim, reason="TooLate", description="its lock has run out")
    assert queue.dead_letters() == []


def in_threads(count: int, work: Callable[[], R]) -> list[R]:
    """What `count` threads answer that start together."""
    together = threading.Barrier(count)

    def start() -> R:
        together.wait()
        return work()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(start) for _ in range(count)]]


def wait_for_claims(queue: Queue, patience: timedelta) -> list[Claim]:
    """What a consumer's loop gets: claim, and wait as long as there is nothing."""
    end = time.monotonic() + patience.total_seconds()
    while not (claims := queue.claim()) and time.monotonic() < end:
        queue.wait(patience)
    return claims
