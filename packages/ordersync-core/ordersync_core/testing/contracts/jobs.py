from datetime import datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve

from ordersync_core.jobs.model import JobDefinition, JobRun, JobType, Progress, RunState
from ordersync_core.jobs.schedule import Schedule
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.tickets import Ticketed
from ordersync_core.testing.contracts.databases import (
    ALPHA,
    BETA,
    DatabasesContract,
    all_rows,
    hesitate,
    open_admin,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, a_definition, a_run, new_id

HOUR = timedelta(hours=1)


class JobsContract(DatabasesContract):
    # definitions

    def test_a_definition_comes_back_as_it_was_added(self, databases: Databases) -> None:
        disabled = a_definition(
            type=JobType.AUDIT_TRAIL_PUBLISH,
            parameters={},
            schedule=Schedule(cron="*/5 1,2 * * mon-fri", time_zone="UTC"),
            next_due=None,
        )
        enabled = a_definition()
        define(databases, disabled, enabled)

        for definition in (disabled, enabled):
            with open_admin(databases) as uow:
                assert uow.definitions.find(definition.id) == definition
        with open_admin(databases) as uow:
            assert uow.definitions.find(new_id()) is None
        assert list(databases.admin_queries().definitions(ALPHA)) == sorted((disabled, enabled), key=lambda d: d.id)

    def test_adding_a_definition_twice_is_refused(self, databases: Databases) -> None:
        definition = a_definition()
        define(databases, definition)

        with pytest.raises(ChangedMeanwhile):
            define(databases, definition)

    def test_due_ones_come_the_most_overdue_first(self, databases: Databases) -> None:
        late, later, due = (a_definition(next_due=NOON - n * MINUTE) for n in (2, 1, 0))
        define(databases, due, late, a_definition(next_due=NOON + SECOND), a_definition(next_due=None), later)

        with open_admin(databases) as uow:
            assert uow.definitions.due(NOON, 10) == [late, later, due]
            assert uow.definitions.due(NOON, 2) == [late, later]
            assert uow.definitions.due(NOON - HOUR, 10) == []

    def test_moving_definitions_on_writes_their_next_moment_and_nothing_else(self, databases: Databases) -> None:
        definitions = [a_definition() for _ in range(60)]
        define(databases, *definitions)
        moments = [None, *(NOON + number * HOUR for number in range(54))]
        moved = [evolve(d, next_due=moment) for d, moment in zip(definitions[:55], moments, strict=True)]
        with open_admin(databases) as uow:
            uow.definitions.move_on([evolve(definition, parameters={}, administration=BETA) for definition in moved])
            uow.definitions.move_on([])
            uow.definitions.move_on([a_definition()])
            uow.commit()

        assert sorted(databases.admin_queries().definitions(ALPHA), key=lambda d: d.id) == sorted(
            [*moved, *definitions[55:]], key=lambda d: d.id
        )

    def test_a_deleted_definition_is_gone(self, databases: Databases) -> None:
        definition = a_definition()
        define(databases, definition)

        assert self.delete(databases, definition.id) is True
        assert self.delete(databases, definition.id) is False
        assert list(databases.admin_queries().definitions(ALPHA)) == []

    def test_two_schedulers_make_one_run_a_due_moment(self, databases: Databases) -> None:
        definitions = [a_definition() for _ in range(20)]
        define(databases, *definitions)

        def schedule() -> list[JobRun]:
            with open_admin(databases) as uow:
                due = uow.definitions.due(NOON, 10)
                hesitate()
                runs = [a_run(definition_id=definition.id, due_at=definition.next_due) for definition in due]
                added: list[JobRun] = uow.runs.add(runs)
                uow.definitions.move_on([evolve(definition, next_due=NOON + HOUR) for definition in due])
                uow.commit()
                return added

        made = together(*[lambda: retried(schedule)] * 4)
        made.append(schedule())
        made.append(schedule())

        assert sorted(run.definition_id for runs in made for run in runs if run.definition_id) == sorted(
            definition.id for definition in definitions
        )
        assert len(databases.admin_queries().runs(ALPHA, PageRequest()).rows) == 20

    # runs

    def test_a_run_comes_back_as_it_was_added(self, databases: Databases) -> None:
        bare = a_run(parameters={}, ticket_at=None)
        full = a_run(
            type=JobType.ORDER_EXPORT,
            state=RunState.FAILED,
            definition_id=new_id(),
            due_at=NOON,
            missed=3,
            started_at=NOON + SECOND,
            ended_at=NOON + MINUTE,
            heartbeat_at=NOON + 2 * SECOND,
            progress=Progress(done=5, total=10, text="items read"),
            tries=2,
            deaths=1,
            message="a send id",
            waits_for="flow:item",
            merged_into=new_id(),
            tickets=3,
            result={"read": 5, "held_deletions": None},
            reason="the source is down",
        )
        assert add(databases, bare, full) == [bare, full]

        for run in (bare, full):
            with open_admin(databases) as uow:
                assert uow.runs.find(run.id) == run
            assert databases.admin_queries().run(ALPHA, run.id) == run
        with open_admin(databases) as uow:
            assert uow.runs.find(new_id()) is None
            assert uow.runs.add([]) == []

    def test_a_run_is_added_once(self, databases: Databases) -> None:
        """By its id, and by definition and due moment."""
        definition = new_id()
        kept = a_run(definition_id=definition, due_at=NOON)
        add(databases, kept)
        same_id = a_run(id=kept.id, parameters={})
        same_moment = a_run(definition_id=definition, due_at=NOON)
        later = a_run(definition_id=definition, due_at=NOON + HOUR)
        other = a_run(definition_id=new_id(), due_at=NOON)
        by_hand, by_hand_too = a_run(), a_run()

        added = add(databases, same_id, same_moment, later, other, by_hand, by_hand_too)

        assert added == [later, other, by_hand, by_hand_too]
        assert databases.admin_queries().run(ALPHA, kept.id) == kept
        assert databases.admin_queries().run(ALPHA, same_moment.id) is None

    def test_saving_a_run_replaces_it(self, databases: Databases) -> None:
        run = a_run()
        add(databases, run)
        for changed in (
            run.start(at=NOON + SECOND),
            run.start(at=NOON).wait_for("flow:item", at=NOON, reason="busy"),
            run.start(at=NOON).succeed({"read": 5}, at=NOON + MINUTE),
        ):
            save(databases, changed)
            assert databases.admin_queries().run(ALPHA, run.id) == changed

    def test_runs_owe_tickets_from_their_moment_on(self, databases: Databases) -> None:
        late, due = a_run(ticket_at=NOON - MINUTE), a_run(administration=BETA)
        waiting = a_run(state=RunState.WAITING, ticket_at=NOON + MINUTE)
        ended = evolve(a_run().succeed({}, at=NOON), ticket_at=NOON)
        add(databases, due, late, waiting, a_run(ticket_at=None), ended)

        assert owed(databases, NOON - HOUR) == set()
        assert owed(databases, NOON) == {late.id, due.id}
        assert owed(databases, NOON + MINUTE) == {late.id, due.id, waiting.id}
        assert len(owed(databases, NOON + MINUTE, limit=2)) == 2

    def test_a_sent_ticket_moves_the_next_one_on(self, databases: Databases) -> None:
        run = a_run()
        add(databases, run)
        note(databases, Ticketed(id=run.id, was=NOON, tickets=1, ticket_at=NOON + 5 * MINUTE))

        assert databases.admin_queries().run(ALPHA, run.id) == evolve(run, tickets=1, ticket_at=NOON + 5 * MINUTE)
        assert owed(databases, NOON) == set()

    def test_stuck_is_what_many_tickets_have_not_ended(self, databases: Databases) -> None:
        """Whenever it owes the next one: however many others owe theirs sooner, they hide none."""
        late, soon = (a_run(tickets=n, ticket_at=NOON + m * MINUTE) for n, m in ((3, 30), (4, 5)))
        ended = evolve(a_run(tickets=5).succeed({}, at=NOON), tickets=5)
        add(databases, late, ended, *(a_run(tickets=2) for _ in range(10)), soon)

        with open_admin(databases) as uow:
            assert uow.runs.stuck(3, 10) == [soon, late]
            assert uow.runs.stuck(3, 1) == [soon]
            assert uow.runs.stuck(5, 10) == []

    def test_a_ticket_for_a_run_that_moved_on_notes_nothing(self, databases: Databases) -> None:
        later, ended = a_run(ticket_at=NOON + MINUTE), a_run().fail("no", at=NOON)
        add(databases, later, ended)
        note(
            databases,
            *(
                Ticketed(id=id, was=NOON, tickets=7, ticket_at=NOON + 5 * MINUTE)
                for id in (later.id, ended.id, new_id())
            ),
        )

        assert databases.admin_queries().run(ALPHA, later.id) == later
        assert databases.admin_queries().run(ALPHA, ended.id) == ended

    def test_who_waits_for_a_holder_comes_the_oldest_first(self, databases: Databases) -> None:
        second, first, third = (
            a_run(created_at=NOON + n * SECOND, state=RunState.WAITING, waits_for="flow:item") for n in (2, 1, 3)
        )
        add(
            databases,
            second,
            first,
            third,
            a_run(state=RunState.WAITING, waits_for="flow:customer"),
            a_run(state=RunState.WAITING),
            a_run(state=RunState.WAITING, waits_for="flow:item", administration=BETA),
            a_run(state=RunState.RUNNING, waits_for="flow:item"),
        )

        with open_admin(databases) as uow:
            assert uow.runs.waiting_for(ALPHA, "flow:item") == [first, second, third]

    def test_no_update_of_a_run_is_lost(self, databases: Databases) -> None:
        run = a_run(state=RunState.WAITING, waits_for="flow:item")
        add(databases, run)

        def count(by: str) -> None:
            with open_admin(databases) as uow:
                kept = uow.runs.find(run.id) if by == "id" else uow.runs.waiting_for(ALPHA, "flow:item")[0]
                hesitate()
                uow.runs.save(evolve(kept, tries=kept.tries + 1))
                uow.commit()

        together(*[lambda by=by: retried(lambda: count(by)) for by in ("id", "holder") * 4])

        assert databases.admin_queries().run(ALPHA, run.id).tries == 8

    # reading

    def test_runs_are_listed_the_newest_first(self, databases: Databases) -> None:
        falling = sorted((new_id() for _ in range(7)), reverse=True)
        runs = [
            a_run(id=id, created_at=NOON + n * SECOND, state=RunState.QUEUED if n % 2 else RunState.RUNNING)
            for n, id in enumerate(falling)
        ]
        add(databases, *runs, a_run(administration=BETA))

        reads = databases.admin_queries()
        for limit in (1, 3, 50):
            assert all_rows(lambda page: reads.runs(ALPHA, page), limit=limit) == runs[::-1]
            queued = all_rows(lambda page: reads.runs(ALPHA, page, state=RunState.QUEUED), limit=limit)
            assert queued == [run for run in runs[::-1] if run.state is RunState.QUEUED]

    def test_rows_of_another_administration_are_not_there(self, databases: Databases) -> None:
        run, definition = a_run(), a_definition()
        add(databases, run)
        define(databases, definition)

        reads = databases.admin_queries()
        assert (reads.run(ALPHA, run.id), reads.run(BETA, run.id)) == (run, None)
        assert reads.runs(BETA, PageRequest()).rows == []
        assert list(reads.definitions(BETA)) == []

    def delete(self, databases: Databases, id: UUID) -> bool:
        with open_admin(databases) as uow:
            was_there: bool = uow.definitions.delete(id)
            uow.commit()
            return was_there


class OverlappingJobsContract(DatabasesContract):
    """For databases in which transactions overlap."""

    def test_what_another_scheduler_holds_is_passed_over(self, databases: Databases) -> None:
        define(databases, *(a_definition() for _ in range(3)))

        with open_admin(databases) as one, open_admin(databases) as other:
            held = one.definitions.due(NOON, 2)
            free = other.definitions.due(NOON, 10)

        assert len(held) == 2
        assert len(free) == 1
        assert free[0] not in held


def define(databases: Databases, *definitions: JobDefinition) -> None:
    with open_admin(databases) as uow:
        for definition in definitions:
            uow.definitions.add(definition)
        uow.commit()


def add(databases: Databases, *runs: JobRun) -> list[JobRun]:
    with open_admin(databases) as uow:
        added: list[JobRun] = uow.runs.add(runs)
        uow.commit()
        return added


def save(databases: Databases, run: JobRun) -> None:
    with open_admin(databases) as uow:
        uow.runs.save(run)
        uow.commit()


def note(databases: Databases, *tickets: Ticketed) -> None:
    with open_admin(databases) as uow:
        uow.runs.ticketed(tickets)
        uow.commit()


def owed(databases: Databases, now: datetime, *, limit: int = 100) -> set[UUID]:
    with open_admin(databases) as uow:
        return {run.id for run in uow.runs.owed(now, limit)}
