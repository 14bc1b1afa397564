"""A suite that nobody has seen fail may look the other way: each of these queues breaks one promise."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve, frozen

from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import (
    CLAIM_LIMIT,
    LOCK,
    SUSPECTS_TOGETHER,
    Claim,
    DeadLetter,
    Depth,
    Message,
    Queues,
)
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.memory_queue import MemoryQueue
from ordersync_core.testing.queue_contract import QueueContract


class DeliversTwice(MemoryQueue):
    latest: Sequence[Claim] = ()

    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        again, self.latest = self.latest[: limit - 1], ()
        claims = super().claim(limit - len(again), lock)
        self.latest = claims[:1]
        return [*again, *claims]


class NeverExpires(MemoryQueue):
    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        return super().claim(limit, timedelta(days=1000))


class LosesASend(MemoryQueue):
    sends = 0

    def send(self, messages: Sequence[Message]) -> None:
        self.sends += 1
        super().send(messages[1:] if self.sends % 2 == 0 else messages)


class LosesALongBody(MemoryQueue):
    def send(self, messages: Sequence[Message]) -> None:
        super().send([evolve(message, body=message.body[:65_536]) for message in messages])


class ForgetsGroups(MemoryQueue):
    def send(self, messages: Sequence[Message]) -> None:
        super().send([evolve(message, group="") for message in messages])


class DropsRepetitions(MemoryQueue):
    """Detects duplicates by the envelope's id."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.known: set[str] = set()

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            envelope, _, _ = message.send_id.partition(":")
            if envelope not in self.known:
                self.known.add(envelope)
                super().send([message])


class AcceptsTheTokenOfAnEarlierClaim(MemoryQueue):
    def complete(self, claims: Sequence[Claim]) -> list[Claim]:
        return super().complete([self.renamed(claim) for claim in claims])

    def renamed(self, claim: Claim) -> Claim:
        entry = self._entries.get(int(claim.token.partition(":")[0]))
        return claim if entry is None or entry.token is None else evolve(claim, token=entry.token)


class AcceptsExpiredClaims(MemoryQueue):
    def _held(self, claim: Claim) -> Any:
        entry = self._entries.get(int(claim.token.partition(":")[0]))
        return entry if entry is not None and entry.token == claim.token else None


class SaysAllIsCompleted(MemoryQueue):
    def complete(self, claims: Sequence[Claim]) -> list[Claim]:
        super().complete(claims)
        return []


class ClaimsOverTheLimit(MemoryQueue):
    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        return super().claim(limit + 1, lock)


class ClaimsTheNewestFirst(MemoryQueue):
    def send(self, messages: Sequence[Message]) -> None:
        super().send(messages)
        self._ready.sort(reverse=True)


class ClaimsTheDeadWithTheFresh(MemoryQueue):
    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        claims: list[Claim] = []
        while len(claims) < limit and (more := super().claim(limit - len(claims), lock)):
            claims += more
        return claims


class ClaimsAllThatDiedTogether(MemoryQueue):
    def _suspects(self, limit: int) -> list[int]:
        return [number for _, number in sorted(self._expired())][: min(limit, SUSPECTS_TOGETHER)]


class ClaimsAllThatDiedAlone(MemoryQueue):
    def _suspects(self, limit: int) -> list[int]:
        return super()._suspects(1)


class ClaimsWhoDiedOnceWithoutBound(MemoryQueue):
    def _suspects(self, limit: int) -> list[int]:
        once = [number for _, number in sorted(self._expired()) if self._entries[number].deaths_by_now == 1]
        return once[:limit] or super()._suspects(limit)


class ClaimsWhoDiedMostFirst(MemoryQueue):
    def _suspects(self, limit: int) -> list[int]:
        expired = [number for _, number in self._expired()]
        often = [number for number in expired if self._entries[number].deaths_by_now > 1]
        return often[:1] or super()._suspects(limit)


class CountsNoDeaths(MemoryQueue):
    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        return [evolve(claim, deaths=0) for claim in super().claim(limit, lock)]


class CountsEveryReturnAsADeath(MemoryQueue):
    def claim(self, limit: int = CLAIM_LIMIT, lock: timedelta = LOCK) -> list[Claim]:
        return [evolve(claim, deaths=claim.deliveries - 1) for claim in super().claim(limit, lock)]


class RenewsNothing(MemoryQueue):
    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        return super().renew(claims, timedelta(seconds=1))


class RenewsWhatWasLost(MemoryQueue):
    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        super().renew(claims, lock)
        return list(claims)


class RenewsUnderAnotherToken(MemoryQueue):
    def renew(self, claims: Sequence[Claim], lock: timedelta = LOCK) -> list[Claim]:
        renewed = [evolve(claim, token=f"{claim.token}'") for claim in super().renew(claims, lock)]
        for claim in renewed:
            self._entries[int(claim.token.partition(":")[0])].token = claim.token
        return renewed


class AbandoningLosesTheMessage(MemoryQueue):
    def abandon(self, claims: Sequence[Claim]) -> None:
        self.complete(claims)


class AbandoningWaitsForTheLock(MemoryQueue):
    def abandon(self, claims: Sequence[Claim]) -> None:
        return


class DeadLettersLoseTheirReason(MemoryQueue):
    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        return super().dead_letter(claim, reason="Dead", description=description)


class DeadLettersLoseTheirDescription(MemoryQueue):
    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        return super().dead_letter(claim, reason=reason, description="")


class DeadLettersLoseTheirDeliveries(MemoryQueue):
    def dead_letters(self, *, limit: int = 50, after: str | None = None) -> list[DeadLetter]:
        return [evolve(letter, deliveries=1) for letter in super().dead_letters(limit=limit, after=after)]


class DeadLettersStayInTheQueue(MemoryQueue):
    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        self.send([claim.message])
        return super().dead_letter(claim, reason=reason, description=description)


class DeadLettersRefuseStrangeText(MemoryQueue):
    def dead_letter(self, claim: Claim, *, reason: str, description: str) -> bool:
        return super().dead_letter(claim, reason=reason, description=description.encode().decode())


class DeadLettersHaveOnePage(MemoryQueue):
    def dead_letters(self, *, limit: int = 50, after: str | None = None) -> list[DeadLetter]:
        return [] if after is not None else super().dead_letters(limit=limit)


class RemovesTwice(MemoryQueue):
    def remove_dead_letter(self, id: str) -> bool:
        super().remove_dead_letter(id)
        return True


class PurgesWhatIsYoung(MemoryQueue):
    def purge_dead_letters(self, *, before: datetime, limit: int) -> int:
        return super().purge_dead_letters(before=before + timedelta(days=365), limit=limit)


class PurgesWithoutBound(MemoryQueue):
    def purge_dead_letters(self, *, before: datetime, limit: int) -> int:
        return super().purge_dead_letters(before=before, limit=1000)


class CountsTheLockedAsReady(MemoryQueue):
    def depth(self) -> Depth:
        depth = super().depth()
        return evolve(depth, ready=depth.ready + depth.locked, locked=0)


class WakesNobody(MemoryQueue):
    def _tell(self) -> None:
        return


@frozen
class BrokenStore:
    """`patience` is short: a queue that breaks its promise uses all of it."""

    queues: Queues
    clock: ManualClock

    def open(self) -> Queues:
        return self.queues

    def let_time_pass(self, duration: timedelta) -> None:
        self.clock.advance(duration)


class ImpatientContract(QueueContract):
    patience = timedelta(seconds=0.3)


def store(queue: type[MemoryQueue], *, one_for_all_names: bool = False) -> BrokenStore:
    clock = ManualClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    one = queue(clock)
    return BrokenStore({name: one if one_for_all_names else queue(clock) for name in QUEUES}, clock)


def failures(queue: type[MemoryQueue], *, one_for_all_names: bool = False) -> set[str]:
    """The names of the cases that the queue fails."""
    contract = ImpatientContract()
    failed = set()
    for name in (name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract, name)(store(queue, one_for_all_names=one_for_all_names))
        except (Exception, pytest.fail.Exception):
            failed.add(name.removeprefix("test_"))
    return failed


def test_a_queue_that_keeps_its_promises_fails_no_case() -> None:
    assert failures(MemoryQueue) == set()


@pytest.mark.parametrize(
    ("queue", "case"),
    [
        (DeliversTwice, "a_claimed_message_is_not_given_to_another"),
        (DeliversTwice, "claimers_at_once_never_get_the_same_message"),
        (NeverExpires, "a_claim_is_lost_when_its_lock_has_run_out"),
        (LosesASend, "the_oldest_messages_come_first"),
        (LosesALongBody, "any_body_arrives_unchanged"),
        (ForgetsGroups, "messages_of_several_groups_keep_theirs"),
        (DropsRepetitions, "one_envelope_sent_twice_arrives_twice"),
        (AcceptsTheTokenOfAnEarlierClaim, "a_claim_that_was_lost_does_no_harm_to_the_next_one"),
        (AcceptsExpiredClaims, "a_claim_is_lost_when_its_lock_has_run_out"),
        (SaysAllIsCompleted, "of_two_who_settle_one_claim_one_does"),
        (ClaimsOverTheLimit, "no_more_messages_come_than_the_limit"),
        (ClaimsTheNewestFirst, "the_oldest_messages_come_first"),
        (ClaimsTheDeadWithTheFresh, "messages_that_died_once_come_together_and_without_fresh_ones"),
        (ClaimsAllThatDiedAlone, "messages_that_died_once_come_together_and_without_fresh_ones"),
        (ClaimsWhoDiedOnceWithoutBound, "no_more_that_died_once_come_together_than_so_many"),
        (ClaimsAllThatDiedTogether, "messages_that_died_more_often_are_claimed_alone"),
        (ClaimsWhoDiedMostFirst, "messages_that_died_once_come_before_those_that_died_more_often"),
        (CountsNoDeaths, "every_death_is_counted"),
        (CountsEveryReturnAsADeath, "an_abandoned_message_comes_back_at_once_and_has_not_died"),
        (RenewsNothing, "a_renewed_claim_outlives_its_first_lock"),
        (RenewsWhatWasLost, "renewing_leaves_out_what_was_lost"),
        (RenewsUnderAnotherToken, "a_claim_settles_what_was_renewed_behind_its_back"),
        (AbandoningLosesTheMessage, "an_abandoned_message_comes_back_at_once_and_has_not_died"),
        (AbandoningWaitsForTheLock, "an_abandoned_message_comes_back_at_once_and_has_not_died"),
        (DeadLettersLoseTheirReason, "a_dead_letter_keeps_message_reason_description_and_deliveries"),
        (DeadLettersLoseTheirDescription, "a_dead_letter_keeps_message_reason_description_and_deliveries"),
        (DeadLettersLoseTheirDeliveries, "a_dead_letter_keeps_message_reason_description_and_deliveries"),
        (DeadLettersStayInTheQueue, "a_dead_letter_keeps_message_reason_description_and_deliveries"),
        (DeadLettersRefuseStrangeText, "a_message_can_be_given_up_whatever_the_reason_contains"),
        (DeadLettersHaveOnePage, "dead_letters_are_read_page_by_page"),
        (RemovesTwice, "a_dead_letter_is_removed_once"),
        (PurgesWhatIsYoung, "old_dead_letters_are_purged_oldest_first_and_so_many_at_a_time"),
        (PurgesWithoutBound, "old_dead_letters_are_purged_oldest_first_and_so_many_at_a_time"),
        (CountsTheLockedAsReady, "depth_tells_ready_locked_and_dead_apart"),
        (WakesNobody, "a_wait_ends_when_another_sends"),
        (WakesNobody, "what_is_sent_between_claim_and_wait_ends_the_wait"),
    ],
)
def test_a_queue_that_breaks_a_promise_fails_the_case_about_it(queue: type[MemoryQueue], case: str) -> None:
    assert case in failures(queue)


def test_queues_that_are_one_and_the_same_fail() -> None:
    assert "queues_do_not_mix" in failures(MemoryQueue, one_for_all_names=True)
