"""What may follow in the life of a run, and what one run does for another."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.jobs.model import (
    MAXIMUM_CODES,
    JobRun,
    JobType,
    Progress,
    RunState,
    absorb,
    due_run,
    retry_at,
    shown,
)
from ordersync_core.jobs.schedule import Schedule
from ordersync_core.kernel.errors import Conflict
from ordersync_core.kernel.lease import LEASE
from ordersync_core.messaging.tickets import REPORTED_AFTER
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, a_definition, a_run, new_id
from ordersync_core.testing.strategies import job_runs, moments

ENDED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.MERGED)
FLOW = "flow:item"

MOVES: dict[str, Callable[[JobRun], JobRun]] = {
    "start": lambda run: run.start(at=NOON),
    "succeed": lambda run: run.succeed({"created": 1}, at=NOON),
    "fail": lambda run: run.fail("it failed", at=NOON),
    "cancel": lambda run: run.cancel(at=NOON),
    "merge": lambda run: run.merge_into(a_run(), at=NOON),
    "wait until": lambda run: run.wait_until(NOON, reason="budget", tries=1),
    "wait for": lambda run: run.wait_for(FLOW, at=NOON, reason="busy"),
    "give back": lambda run: run.give_back(at=NOON),
}


def sync(**parameters: Any) -> JobRun:
    return a_run(type=JobType.ITEM_SYNC, parameters=parameters)


def selective(*codes: str) -> JobRun:
    return a_run(type=JobType.ITEM_SELECTIVE_SYNC, parameters={"codes": list(codes)})


class TestStates:
    @pytest.mark.parametrize("move", MOVES)
    @pytest.mark.parametrize("state", ENDED)
    def test_a_run_that_has_ended_stays_as_it_is(self, state: RunState, move: str) -> None:
        with pytest.raises(Conflict, match=f"has ended: {state}"):
            MOVES[move](a_run(state=state))

    @given(run=job_runs(), move=st.sampled_from(sorted(MOVES)))
    def test_a_run_owes_a_ticket_until_it_has_ended(self, run: JobRun, move: str) -> None:
        if run.state.ended:
            return
        after = MOVES[move](run)
        assert (after.ticket_at is None) == after.state.ended
        assert (after.ended_at is not None) == after.state.ended
        if move == "wait for":
            assert after.waits_for == FLOW
        elif move == "start" or after.state.ended:
            assert after.waits_for is None

    def test_starting_keeps_when_it_began_first(self) -> None:
        begun = a_run().start(at=NOON)
        assert (begun.state, begun.started_at, begun.heartbeat_at) == (RunState.RUNNING, NOON, NOON)
        again = begun.give_back(at=NOON + SECOND).start(at=NOON + MINUTE)
        assert (again.started_at, again.heartbeat_at) == (NOON, NOON + MINUTE)

    def test_starting_ends_its_wait(self) -> None:
        waiting = a_run().wait_for(FLOW, at=NOON, reason="busy")
        begun = waiting.start(at=NOON)
        assert (begun.waits_for, begun.reason) == (None, None)

    def test_at_work_it_owes_a_ticket_only_when_its_lease_could_have_ended(self) -> None:
        """Else a long run would have a process started for it every minute, and be reported as stuck."""
        begun = a_run(tickets=1, ticket_at=NOON).start(at=NOON)
        assert begun.ticket_at is not None
        assert LEASE < begun.ticket_at - NOON <= LEASE + 5 * SECOND
        beaten = begun.beat(Progress(done=7), at=NOON + 15 * SECOND)
        assert beaten.ticket_at == begun.ticket_at + 15 * SECOND
        assert (beaten.progress.done, beaten.heartbeat_at) == (7, NOON + 15 * SECOND)
        assert a_run(tickets=REPORTED_AFTER).start(at=NOON).tickets == 0

    def test_waiting_for_a_flow_it_asks_again_after_five_minutes(self) -> None:
        waiting = a_run().start(at=NOON).wait_for(FLOW, at=NOON, reason="the flow is busy")
        assert (waiting.state, waiting.waits_for, waiting.reason) == (RunState.WAITING, FLOW, "the flow is busy")
        assert (waiting.ticket_at, waiting.tickets) == (NOON + 5 * MINUTE, 0)

    def test_woken_it_owes_a_ticket_at_once(self) -> None:
        woken = a_run().wait_for(FLOW, at=NOON, reason="busy").wake(at=NOON + SECOND)
        assert (woken.state, woken.waits_for) == (RunState.WAITING, None)
        assert (woken.ticket_at, woken.tickets) == (NOON + SECOND, 0)

    def test_an_interruption_is_no_failure(self) -> None:
        given_back = a_run(tries=3).start(at=NOON).give_back(at=NOON + SECOND)
        assert (given_back.state, given_back.tries, given_back.ticket_at) == (RunState.QUEUED, 3, NOON + SECOND)

    @pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.FAILED])
    def test_only_a_failed_run_starts_again(self, state: RunState) -> None:
        with pytest.raises(Conflict, match="can only be resubmitted after it failed"):
            a_run(state=state).restart(at=NOON)

    def test_a_failed_run_starts_again_with_all_its_tries(self) -> None:
        again = evolve(a_run(tries=5).fail("no luck", at=NOON), tickets=3).restart(at=NOON + SECOND)
        assert (again.state, again.tries, again.tickets, again.ticket_at) == (RunState.QUEUED, 0, 0, NOON + SECOND)
        assert (again.ended_at, again.reason) == (None, None)

    def test_what_it_says_when_it_is_merged(self) -> None:
        other = a_run()
        merged = a_run().merge_into(other, at=NOON)
        assert (merged.state, merged.merged_into, merged.ended_at) == (RunState.MERGED, other.id, NOON)
        assert merged.reason == f"run {other.id} does this work too"


class TestMustWaitStill:
    @pytest.mark.parametrize(
        ("state", "tickets", "later", "expected"),
        [
            (RunState.WAITING, 0, SECOND, True),
            (RunState.WAITING, 0, timedelta(0), False),
            (RunState.WAITING, 0, -SECOND, False),
            (RunState.WAITING, 1, SECOND, False),
            (RunState.QUEUED, 0, SECOND, False),
            (RunState.RUNNING, 1, SECOND, False),
        ],
    )
    def test_until_its_moment_has_come_or_a_ticket_was_owed(
        self, state: RunState, tickets: int, later: timedelta, expected: bool
    ) -> None:
        run = a_run(state=state, tickets=tickets, ticket_at=NOON + later)
        assert run.must_wait_still(NOON) is expected


class TestRetry:
    def test_after_1_2_4_8_16_minutes_and_never_after_the_sixth_try(self) -> None:
        waits = [retry_at(a_run(tries=tries), now=NOON) for tries in range(7)]
        assert waits == [NOON + n * MINUTE for n in (1, 2, 4, 8, 16)] + [None, None]


class TestDeaths:
    @pytest.mark.parametrize(
        ("state", "before", "of_message", "after"),
        [
            (RunState.QUEUED, 0, 0, 0),
            (RunState.WAITING, 2, 0, 2),
            (RunState.RUNNING, 0, 0, 1),
            (RunState.RUNNING, 1, 1, 2),
            (RunState.QUEUED, 0, 2, 2),
            (RunState.RUNNING, 0, 2, 2),
        ],
    )
    def test_a_run_that_is_taken_up_while_at_work_has_lost_its_process(
        self, state: RunState, before: int, of_message: int, after: int
    ) -> None:
        taken_up = a_run(state=state, deaths=before).taken_up("a send id", deaths=of_message)
        assert (taken_up.deaths, taken_up.message) == (after, "a send id")
        assert taken_up.has_killed == (after >= 3)


class TestAbsorb:
    def test_a_waiting_full_sync_does_the_work_of_any_later_one(self) -> None:
        waiting = sync()
        for later in (sync(), selective("A")):
            absorbed = absorb(later, [waiting], at=NOON)
            assert absorbed == (waiting, later.merge_into(waiting, at=NOON))

    def test_it_takes_over_what_the_later_one_was_asked_to_do_besides(self) -> None:
        """A complete read, or deletions that a person has confirmed, would not happen otherwise."""
        waiting = sync(complete=False)
        later = sync(complete=True, confirm_deletions=True)
        absorbed = absorb(later, [waiting], at=NOON)
        assert absorbed is not None
        taken, merged = absorbed
        assert taken == evolve(waiting, parameters={"complete": True, "confirm_deletions": True})
        assert merged.merged_into == waiting.id

    def test_once_begun_it_takes_no_run_that_was_asked_to_do_more(self) -> None:
        """Its work has gone past the place where that would have happened."""
        waiting = evolve(sync(confirm_deletions=True), started_at=NOON)
        assert absorb(sync(complete=True), [waiting], at=NOON) is None
        for later in (sync(), sync(confirm_deletions=True), selective("A")):
            assert absorb(later, [waiting], at=NOON) == (waiting, later.merge_into(waiting, at=NOON))
        fresh = sync()
        absorbed = absorb(sync(complete=True), [waiting, fresh], at=NOON)
        assert absorbed is not None
        assert absorbed[0].id == fresh.id

    def test_it_keeps_what_it_was_asked_to_do_itself(self) -> None:
        waiting = sync(complete=True)
        absorbed = absorb(sync(complete=False), [waiting], at=NOON)
        assert absorbed is not None
        assert absorbed[0] == waiting

    def test_a_waiting_selective_sync_takes_in_the_codes_of_later_ones(self) -> None:
        waiting = selective("B", "A")
        absorbed = absorb(selective("C", "A"), [waiting], at=NOON)
        assert absorbed is not None
        taken, merged = absorbed
        assert taken == evolve(waiting, parameters={"codes": ["A", "B", "C"]})
        assert (merged.state, merged.merged_into) == (RunState.MERGED, waiting.id)

    def test_once_begun_it_takes_in_none(self) -> None:
        """Not even a code of its own: it may have read that before the change that the later run is for."""
        begun, fresh = evolve(selective("A", "B"), started_at=NOON), selective("C")
        assert absorb(selective("A"), [begun], at=NOON) is None
        absorbed = absorb(selective("A"), [begun, fresh], at=NOON)
        assert absorbed is not None
        assert absorbed[0] == evolve(fresh, parameters={"codes": ["A", "C"]})

    def test_it_does_not_stand_for_a_full_one(self) -> None:
        assert absorb(sync(), [selective("A")], at=NOON) is None

    def test_of_several_the_first_that_can_takes_it(self) -> None:
        first, second, full = selective("A"), selective("B"), sync()
        absorbed = absorb(selective("C"), [first, second, full], at=NOON)
        assert absorbed is not None
        assert absorbed[0].id == first.id
        absorbed = absorb(sync(), [first, full, second], at=NOON)
        assert absorbed is not None
        assert absorbed[0].id == full.id

    def test_a_thousand_codes_and_no_more(self) -> None:
        codes = [f"{n:04}" for n in range(MAXIMUM_CODES)]
        waiting = selective(*codes[:-1])
        absorbed = absorb(selective(codes[-1], codes[0]), [waiting], at=NOON)
        assert absorbed is not None
        full, _ = absorbed
        assert full.parameters["codes"] == codes
        assert absorb(selective("one more"), [full], at=NOON) is None
        other = selective("A")
        absorbed = absorb(selective("one more"), [full, other], at=NOON)
        assert absorbed is not None
        assert absorbed[0].id == other.id
        assert absorb(selective(*codes[:5]), [full], at=NOON) is not None

    def test_nobody_absorbs_itself(self) -> None:
        waiting = sync()
        assert absorb(waiting, [waiting], at=NOON) is None
        assert absorb(waiting, [], at=NOON) is None


class TestDue:
    def test_one_run_at_its_moment(self) -> None:
        definition = a_definition(schedule=Schedule("0 * * * *", "UTC"), next_due=NOON, parameters={"complete": True})
        run, moved = due_run(definition, now=NOON, ticket_at=NOON + MINUTE, correlation_id="a visit")
        assert (run.due_at, run.missed, run.definition_id) == (NOON, 0, definition.id)
        assert (run.type, run.parameters, run.administration) == (JobType.ITEM_SYNC, {"complete": True}, "alpha")
        assert (run.state, run.ticket_at, run.tickets) == (RunState.QUEUED, NOON + MINUTE, 1)
        assert (run.triggered_by, run.correlation_id, run.created_at) == ("schedule", "a visit", NOON)
        assert moved == evolve(definition, next_due=NOON + timedelta(hours=1))

    def test_one_run_for_all_that_were_missed_with_their_count(self) -> None:
        definition = a_definition(schedule=Schedule("*/15 * * * *", "UTC"), next_due=NOON)
        now = NOON + timedelta(hours=2, minutes=7)
        run, moved = due_run(definition, now=now, ticket_at=now, correlation_id="a visit")
        assert (run.due_at, run.missed) == (NOON + timedelta(hours=2), 8)
        assert moved.next_due == NOON + timedelta(hours=2, minutes=15)

    def test_two_who_meet_the_same_moment_make_the_same_run(self) -> None:
        definition = a_definition(schedule=Schedule("0 * * * *", "UTC"), next_due=NOON)
        one, _ = due_run(definition, now=NOON, ticket_at=NOON, correlation_id="one")
        other, _ = due_run(definition, now=NOON + MINUTE, ticket_at=NOON, correlation_id="other")
        assert one.id == other.id
        later, _ = due_run(definition, now=NOON + timedelta(hours=1), ticket_at=NOON, correlation_id="later")
        assert later.id != one.id

    def test_none_for_a_disabled_definition(self) -> None:
        with pytest.raises(Conflict, match="is disabled"):
            due_run(a_definition(next_due=None), now=NOON, ticket_at=NOON, correlation_id="a visit")

    @given(
        cron=st.sampled_from(("* * * * *", "*/7 * * * *", "30 2 * * *", "0 6 * * mon", "0 0 29 2 *")),
        zone=st.sampled_from(("UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kathmandu")),
        due=moments(earliest=datetime(2025, 1, 1, tzinfo=UTC), latest=datetime(2027, 1, 1, tzinfo=UTC)),
        late=st.timedeltas(timedelta(0), timedelta(days=9)),
    )
    def test_however_late_it_is_noticed(self, cron: str, zone: str, due: datetime, late: timedelta) -> None:
        definition = a_definition(schedule=Schedule(cron, zone), next_due=due)
        run, moved = due_run(definition, now=due + late, ticket_at=due, correlation_id="a visit")
        assert run.due_at is not None
        assert moved.next_due is not None
        assert due <= run.due_at <= due + late < moved.next_due


def test_how_it_is_shown() -> None:
    waiting = a_run(parameters={"codes": ["A"]}).start(at=NOON).wait_for(FLOW, at=NOON, reason="busy")
    json = shown(evolve(waiting, progress=Progress(done=3, total=9, text="items read")))
    assert json["wait_until"] == "2026-03-02T12:05:00.000000Z"
    assert (json["state"], json["waits_for"], json["reason"]) == ("Waiting", FLOW, "busy")
    assert json["progress"] == {"done": 3, "total": 9, "text": "items read"}
    other = a_run()
    merged = shown(a_run().merge_into(other, at=NOON))
    assert (merged["state"], merged["merged_into"], merged["wait_until"]) == ("Merged", str(other.id), None)
    succeeded = shown(a_run(id=new_id()).succeed({"created": 2}, at=NOON))
    assert (succeeded["result"], succeeded["ended_at"]) == ({"created": 2}, "2026-03-02T12:00:00.000000Z")
