"""Job runs from being due to their end, as rows and tickets; the work itself is in tests/core/test_dispatch.py."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from ordersync_core.jobs.commands import (
    BeatRun,
    BeginRun,
    CancelRun,
    CreateJobDefinition,
    DeleteJobDefinition,
    EnqueueDue,
    FindFailed,
    ResubmitRun,
    SendOwedRuns,
    StartRun,
    WakeNext,
)
from ordersync_core.jobs.handlers import (
    Begun,
    EndRun,
    LetGo,
    RunCancelled,
    beat_run,
    begin_run,
    cancel_run,
    create_job_definition,
    delete_job_definition,
    end_run,
    enqueue_due,
    find_failed,
    let_go,
    resubmit_run,
    send_owed_runs,
    start_run,
    wake_next,
)
from ordersync_core.jobs.model import JobDefinition, JobRun, JobType, Progress, RunState
from ordersync_core.jobs.progress import BeatingProgress
from ordersync_core.jobs.schedule import Schedule
from ordersync_core.kernel.errors import Conflict, InvalidInput, LeaseLost, NotFound, TemporaryFailure
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.messaging.envelope import QUEUED_JOBS, Envelope
from ordersync_core.messaging.queue import Message, Queues
from ordersync_core.testing.contracts.databases import ALPHA, BETA, PATIENCE, all_rows, context, open_admin
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, a_definition, new_id
from tests.core.embedded import ConsumedAtOnce, Embedded, sqlite_databases

HOUR = timedelta(hours=1)
FLOW = "flow:item"


class Jobs(Embedded):
    """What schedulers, people and job processes do, one call at a time."""

    def define(self, cron: str = "0 * * * *", time_zone: str = "UTC", administration: str = ALPHA) -> JobDefinition:
        command = CreateJobDefinition(type=JobType.ITEM_SYNC, cron=cron, time_zone=time_zone)
        return self.run(create_job_definition, command, administration)

    def schedule(self) -> int:
        return self.run(enqueue_due, EnqueueDue(), None)

    def send_owed(self) -> int:
        return self.run(send_owed_runs, SendOwedRuns(), None)

    def tickets(self) -> list[Envelope]:
        return self.take(QUEUED_JOBS)

    def start(self, *codes: str, administration: str = ALPHA, **parameters: Any) -> JobRun:
        """A run that somebody starts: selective when there are codes."""
        type, given = JobType.ITEM_SYNC, parameters
        if codes:
            type, given = JobType.ITEM_SELECTIVE_SYNC, {"codes": list(codes)}
        return self.run(start_run, StartRun(type=type, parameters=given), administration)

    def begin(self, run: JobRun, holder: str = "a process", deaths: int = 0) -> Begun | JobRun | None:
        return self.run(begin_run, BeginRun(id=run.id, holder=holder, deaths=deaths))

    def begun(self, run: JobRun, holder: str = "a process") -> Begun:
        begun = self.begin(run, holder)
        assert isinstance(begun, Begun)
        return begun

    def beat(self, begun: Begun, done: int = 0) -> None:
        self.run(beat_run, BeatRun(id=begun.run.id, lease=begun.lease, progress=Progress(done=done)))

    def end(self, begun: Begun, **outcome: Any) -> JobRun:
        return self.run(end_run, EndRun(begun=begun, **outcome))

    def wait_for_the_flow(self, run: JobRun) -> JobRun:
        """The run begins and finds its flow busy."""
        return self.end(self.begun(run), busy=FLOW)

    def stored(self, id: UUID, administration: str = ALPHA) -> JobRun:
        found: JobRun | None = self.databases.admin_queries().run(administration, id)
        assert found is not None
        return found

    def runs(self, administration: str = ALPHA) -> list[JobRun]:
        """The oldest first."""
        return all_rows(
            lambda page: self.databases.admin_queries().runs(administration, page), limit=PageRequest().limit
        )[::-1]


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    if request.param == "memory":
        yield Jobs()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Jobs(databases)


def sent_for(tickets: list[Envelope]) -> list[UUID]:
    return [ticket.id for ticket in tickets]


class TestDefinitions:
    def test_the_first_moment_is_the_next_in_its_zone(self, site: Jobs) -> None:
        definition = site.define("30 6 * * *", "Europe/Amsterdam")
        assert definition.next_due == datetime(2026, 3, 3, 5, 30, tzinfo=NOON.tzinfo)
        assert site.databases.admin_queries().definitions(ALPHA) == [definition]

    @pytest.mark.parametrize(
        ("cron", "zone", "pointer"),
        [("* * *", "UTC", "/cron"), ("0 0 30 2 *", "UTC", "/cron"), ("0 * * * *", "Mars/Olympus", "/time_zone")],
    )
    def test_one_that_makes_no_sense_is_refused(self, cron: str, zone: str, pointer: str) -> None:
        site = Jobs()
        with pytest.raises(InvalidInput) as refused:
            site.define(cron, zone)
        assert [violation.pointer for violation in refused.value.violations] == [pointer]
        assert site.databases.admin_queries().definitions(ALPHA) == []

    def test_a_deleted_one_is_due_no_more(self, site: Jobs) -> None:
        definition = site.define()
        site.run(delete_job_definition, DeleteJobDefinition(id=definition.id))
        site.pass_time(2 * HOUR)
        assert site.schedule() == 0

    def test_nobody_deletes_another_tenant_s_or_an_unknown_one(self, site: Jobs) -> None:
        definition = site.define()
        for id, administration in ((definition.id, BETA), (new_id(), ALPHA)):
            with pytest.raises(NotFound):
                site.run(delete_job_definition, DeleteJobDefinition(id=id), administration)
        assert site.databases.admin_queries().definitions(ALPHA) == [definition]

    def test_work_on_the_platform_has_none(self, site: Jobs) -> None:
        command = CreateJobDefinition(type=JobType.ITEM_SYNC, cron="0 * * * *", time_zone="UTC")
        with pytest.raises(NotFound):
            site.run(create_job_definition, command, None)


class TestDueMoments:
    def test_a_run_for_each_moment_and_none_before_it(self, site: Jobs) -> None:
        site.define()
        site.pass_time(HOUR - SECOND)
        assert site.schedule() == 0
        site.pass_time(SECOND)
        assert site.schedule() == 1
        assert site.schedule() == 0
        [run] = site.runs()
        assert (run.due_at, run.missed, run.state) == (NOON + HOUR, 0, RunState.QUEUED)
        assert sent_for(site.tickets()) == [run.id]
        site.pass_time(HOUR)
        assert site.schedule() == 1
        assert [run.due_at for run in site.runs()] == [NOON + HOUR, NOON + 2 * HOUR]

    def test_one_run_for_all_that_were_missed_and_it_says_how_many(self, site: Jobs) -> None:
        site.define("*/10 * * * *")
        site.pass_time(timedelta(days=1, minutes=3))
        assert site.schedule() == 1
        [run] = site.runs()
        assert (run.due_at, run.missed) == (NOON + timedelta(days=1), 143)
        site.pass_time(7 * MINUTE)
        assert site.schedule() == 1
        assert site.runs()[-1].missed == 0

    def test_two_schedulers_make_one_run_of_a_moment(self) -> None:
        site = Jobs()
        definitions = [site.define() for _ in range(30)]
        site.pass_time(3 * HOUR)
        with ThreadPoolExecutor(4) as pool:
            made = [future.result(PATIENCE) for future in [pool.submit(site.schedule) for _ in range(4)]]
        made.append(site.schedule())
        assert sum(made) == 30
        runs = site.runs()
        assert sorted(str(run.definition_id) for run in runs) == sorted(str(d.id) for d in definitions)
        assert sorted(sent_for(site.tickets())) == sorted(run.id for run in runs)

    def test_a_moment_that_has_its_run_already_gets_no_other(self, site: Jobs) -> None:
        """Its scheduler died between the two, or the definition was put back by a restored backup."""
        definition = site.define()
        site.pass_time(HOUR)
        site.schedule()
        site.tickets()
        with open_admin(site.databases) as uow:
            uow.definitions.move_on([evolve(definition, next_due=NOON + HOUR)])
            uow.commit()
        assert site.schedule() == 1
        assert len(site.runs()) == 1
        assert site.tickets() == []
        assert site.databases.admin_queries().definitions(ALPHA)[0].next_due == NOON + 2 * HOUR

    def test_a_disabled_one_is_never_due(self, site: Jobs) -> None:
        with open_admin(site.databases) as uow:
            uow.definitions.add(a_definition(next_due=None))
            uow.commit()
        site.pass_time(timedelta(days=400))
        assert site.schedule() == 0

    def test_one_of_which_no_run_can_be_made_is_disabled_and_the_others_have_their_turn(
        self, site: Jobs, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The zone tables of the machine that took it in know more, or somebody wrote it by hand."""
        good = site.define()
        no_zone = a_definition(schedule=Schedule("0 * * * *", "Europe/Nowhere"), next_due=NOON)
        no_cron = a_definition(schedule=Schedule("whenever", "UTC"), next_due=NOON)
        with open_admin(site.databases) as uow:
            for definition in (no_zone, no_cron):
                uow.definitions.add(definition)
            uow.commit()
        site.pass_time(HOUR)

        site.schedule()

        assert [run.definition_id for run in site.runs()] == [good.id]
        kept = {d.id: d.next_due for d in site.databases.admin_queries().definitions(ALPHA)}
        assert kept == {good.id: NOON + 2 * HOUR, no_zone.id: None, no_cron.id: None}
        assert [str(bad.id) in caplog.text for bad in (no_zone, no_cron)] == [True, True]
        assert "'Europe/Nowhere' is not a time zone" in caplog.text
        assert site.schedule() == 0

    def test_more_than_one_transaction_takes(self, site: Jobs) -> None:
        for _ in range(3):
            site.define()
        site.pass_time(HOUR)
        due = [site.run(enqueue_due, EnqueueDue(limit=2), None) for _ in range(3)]
        assert due == [2, 1, 0]


class TestTickets:
    def test_a_ticket_names_its_run(self, site: Jobs) -> None:
        run = site.start("A")
        [ticket] = site.tickets()
        assert ticket == Envelope(
            id=run.id,
            type="ItemSelectiveSync",
            administration=ALPHA,
            occurred_at=NOON,
            triggered_by="somebody",
            correlation_id=str(run.id),
            body={"run": str(run.id)},
        )

    def test_a_lost_one_is_sent_again_after_1_5_and_30_minutes_and_then_every_30(self, site: Jobs) -> None:
        site.start()
        minutes = []
        for minute in range(75):
            site.send_owed()
            if site.lose(QUEUED_JOBS):
                minutes.append(minute)
            site.pass_time(MINUTE)
        assert minutes == [0, 1, 6, 36, 66]

    def test_a_run_is_kept_though_the_queue_is_away(self, site: Jobs) -> None:
        class Away:
            def __getitem__(self, name: str) -> "Away":
                return self

            def send(self, messages: list[Message]) -> None:
                raise TemporaryFailure("the queue is away")

        site.ports[Queues] = Away()
        run = site.start()
        site.ports[Queues] = site.queues
        assert site.stored(run.id) == run
        site.pass_time(MINUTE)
        assert site.send_owed() == 1
        assert sent_for(site.tickets()) == [run.id]

    def test_a_process_that_is_faster_than_the_note_is_not_overwritten(self, site: Jobs) -> None:
        run = site.start()
        site.lose(QUEUED_JOBS)
        site.pass_time(MINUTE)
        site.ports[Queues] = ConsumedAtOnce(site.queues, QUEUED_JOBS, lambda: done(site, run))
        assert site.send_owed() == 1
        ended = site.stored(run.id)
        assert (ended.state, ended.ticket_at) == (RunState.SUCCEEDED, None)
        site.pass_time(HOUR)
        assert site.send_owed() == 0

    def test_no_two_look_alike_to_a_broker_that_drops_duplicates(self, site: Jobs) -> None:
        """Though each wait begins the count of tickets anew."""
        run = site.start()
        [message] = site.take_messages(QUEUED_JOBS)
        sent = [message.send_id]
        for _ in range(4):
            waiting = site.end(site.begun(run), temporary="not now")
            site.pass_time((waiting.ticket_at or NOON) - site.clock.now())
            site.send_owed()
            [message] = site.take_messages(QUEUED_JOBS)
            sent.append(message.send_id)
        assert len(set(sent)) == 5

    def test_at_work_a_run_owes_none_while_its_process_beats(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        site.lose(QUEUED_JOBS)
        for _ in range(40):
            site.pass_time(15 * SECOND)
            site.beat(begun)
            assert site.send_owed() == 0
        site.pass_time(62 * SECOND)
        assert site.send_owed() == 1


def done(site: Jobs, run: JobRun) -> None:
    site.lose(QUEUED_JOBS)
    site.end(site.begun(run), result={})


class TestBegin:
    def test_takes_the_run_up_under_a_lease(self, site: Jobs) -> None:
        run = site.start()
        site.pass_time(SECOND)
        begun = site.begun(run, "one")
        assert begun.run == site.stored(run.id)
        assert (begun.run.state, begun.run.started_at) == (RunState.RUNNING, NOON + SECOND)
        assert (begun.lease.name, begun.lease.holder) == (f"run:{run.id}", "one")

    def test_a_message_for_a_run_that_has_ended_does_nothing(self, site: Jobs) -> None:
        outcomes = {"result": {}, "failure": "no luck"}
        for name, outcome in outcomes.items():
            run = site.start()
            ended = site.end(site.begun(run), **{name: outcome})
            assert site.begin(run) is None
            assert site.stored(run.id) == ended
        cancelled = site.start()
        site.run(cancel_run, CancelRun(id=cancelled.id))
        assert site.begin(cancelled) is None

    def test_a_message_that_comes_before_the_wait_is_over_does_nothing(self, site: Jobs) -> None:
        run = site.start()
        waiting = site.end(site.begun(run), temporary="not now", retry_after=10 * MINUTE)
        site.pass_time(10 * MINUTE - SECOND)
        assert site.begin(run) is None
        assert site.stored(run.id) == waiting
        site.pass_time(SECOND)
        assert site.begin(run) is not None

    def test_a_second_process_does_nothing_and_is_asked_again_after_the_lease(self, site: Jobs) -> None:
        run = site.start()
        site.begun(run, "one")
        site.pass_time(10 * SECOND)

        assert site.begin(run, "two") is None

        kept = site.stored(run.id)
        assert kept.state is RunState.RUNNING
        assert kept.ticket_at == site.clock.now() + 61 * SECOND

    def test_a_run_whose_process_died_is_taken_over_and_its_earlier_self_fenced(self) -> None:
        site = Jobs()
        run = site.start()
        dead = site.begun(run, "one")
        site.pass_time(61 * SECOND)

        alive = site.begun(run, "two")

        for late in (lambda: site.beat(dead), lambda: site.end(dead, result={}), lambda: let(site, dead)):
            with pytest.raises(LeaseLost):
                late()
        assert site.stored(run.id) == alive.run
        assert site.end(alive, result={"created": 1}).state is RunState.SUCCEEDED

    def test_a_run_whose_processes_die_is_given_up_at_the_third(self) -> None:
        """However often its ticket is sent anew: a message counts the deaths of its own claims only."""
        site = Jobs()
        run = site.start()
        for name in ("one", "two", "three"):
            site.begun(run, name)
            assert site.begin(run, "too early") is None
            site.pass_time(62 * SECOND)

        given_up = site.begin(run, "four")

        assert given_up == site.stored(run.id)
        assert isinstance(given_up, JobRun)
        assert (given_up.state, given_up.deaths, given_up.ticket_at) == (RunState.FAILED, 3, None)
        assert given_up.reason == "3 processes died while they worked on it"
        site.lose(QUEUED_JOBS)
        site.pass_time(HOUR)
        assert site.send_owed() == 0

    def test_a_process_that_dies_before_it_touches_the_run_counts_by_its_message(self, site: Jobs) -> None:
        run = site.start()
        given_up = site.begin(run, deaths=3)
        assert given_up == site.stored(run.id)
        assert isinstance(given_up, JobRun)
        assert given_up.state is RunState.FAILED

    def test_a_run_that_was_given_up_has_all_its_lives_again_when_it_is_resubmitted(self, site: Jobs) -> None:
        run = site.start()
        site.begin(run, deaths=3)
        site.run(resubmit_run, ResubmitRun(id=run.id))
        begun = site.begun(run)
        assert begun.run.deaths == 0
        assert site.end(begun, result={}).state is RunState.SUCCEEDED

    def test_ending_and_giving_back_are_no_deaths(self, site: Jobs) -> None:
        run = site.start()
        for _ in range(4):
            let(site, site.begun(run))
            site.end(site.begun(run), temporary="over budget", retry_after=HOUR)
            site.pass_time(HOUR)
        assert site.begun(run).run.deaths == 0

    def test_there_is_no_unknown_one_and_none_of_another_tenant(self, site: Jobs) -> None:
        foreign = site.start(administration=BETA)
        for id in (foreign.id, new_id()):
            with pytest.raises(NotFound):
                site.run(begin_run, BeginRun(id=id, holder="one"))
        assert site.stored(foreign.id, BETA) == foreign


def let(site: Jobs, begun: Begun) -> None:
    site.run(let_go, LetGo(begun=begun))


class TestAtWork:
    def test_a_beat_tells_how_far_it_is(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        site.pass_time(15 * SECOND)
        site.beat(begun, done=40)
        run = site.stored(begun.run.id)
        assert (run.progress.done, run.heartbeat_at) == (40, NOON + 15 * SECOND)

    def test_a_beat_prolongs_the_lease(self) -> None:
        site = Jobs()
        begun = site.begun(site.start(), "one")
        for _ in range(10):
            site.pass_time(50 * SECOND)
            site.beat(begun)
            assert site.begin(begun.run, "two") is None

    def test_it_notices_that_it_was_cancelled(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        cancelled = site.run(cancel_run, CancelRun(id=begun.run.id))
        with pytest.raises(RunCancelled, match="is Cancelled"):
            site.beat(begun)
        assert site.end(begun, result={"created": 1}) == cancelled
        assert site.stored(begun.run.id) == cancelled
        assert (cancelled.state, cancelled.result) == (RunState.CANCELLED, None)

    def test_asked_to_stop_it_gives_the_run_back_and_no_try_is_counted(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        site.lose(QUEUED_JOBS)
        let(site, begun)
        run = site.stored(begun.run.id)
        assert (run.state, run.tries, run.ticket_at) == (RunState.QUEUED, 0, NOON)
        assert site.send_owed() == 1
        assert site.begin(run, "another process") is not None

    def test_giving_back_leaves_a_cancelled_one_cancelled(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        cancelled = site.run(cancel_run, CancelRun(id=begun.run.id))
        let(site, begun)
        assert site.stored(begun.run.id) == cancelled


class TestProgress:
    def test_is_written_at_most_once_a_second(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        progress = BeatingProgress(site.application, begun, context(ALPHA))
        written = []
        for done in range(1, 26):
            progress.tell(Progress(done=done))
            written.append(site.stored(begun.run.id).progress.done)
            site.pass_time(SECOND / 10)
        assert written == [1] * 10 + [11] * 10 + [21] * 5

    def test_a_heartbeat_between_two_reports_tells_the_latest(self, site: Jobs) -> None:
        begun = site.begun(site.start())
        progress = BeatingProgress(site.application, begun, context(ALPHA))
        progress.tell(Progress(done=1))
        progress.tell(Progress(done=2))
        assert site.stored(begun.run.id).progress.done == 1
        progress.beat()
        assert site.stored(begun.run.id).progress.done == 2

    def test_a_report_says_when_the_run_is_no_longer_ours(self) -> None:
        site = Jobs()
        cancelled, lost = site.begun(site.start(), "one"), site.begun(site.start(), "one")
        site.run(cancel_run, CancelRun(id=cancelled.run.id))
        site.pass_time(61 * SECOND)
        site.begun(lost.run, "two")
        for begun, error in ((cancelled, RunCancelled), (lost, LeaseLost)):
            with pytest.raises(error):
                BeatingProgress(site.application, begun, context(ALPHA)).tell(Progress(done=1))


class TestEnd:
    def test_success_keeps_what_it_did(self, site: Jobs) -> None:
        run = site.end(site.begun(site.start()), result={"created": 2})
        assert run == site.stored(run.id)
        assert (run.state, run.result, run.ended_at, run.ticket_at) == (RunState.SUCCEEDED, {"created": 2}, NOON, None)

    def test_failure_says_why_and_is_not_tried_again(self, site: Jobs) -> None:
        run = site.end(site.begun(site.start()), failure="the flow is not set up")
        assert (run.state, run.reason, run.tries) == (RunState.FAILED, "the flow is not set up", 0)
        site.pass_time(timedelta(days=1))
        site.lose(QUEUED_JOBS)
        assert site.send_owed() == 0

    def test_a_temporary_failure_waits_1_2_4_8_16_minutes_and_the_sixth_is_the_last(self, site: Jobs) -> None:
        run = site.start()
        site.lose(QUEUED_JOBS)
        for tries, minutes in enumerate((1, 2, 4, 8, 16), start=1):
            waiting = site.end(site.begun(run), temporary="the source is away")
            assert (waiting.state, waiting.tries, waiting.reason) == (RunState.WAITING, tries, "the source is away")
            assert waiting.waits_for is None
            site.pass_time(minutes * MINUTE - SECOND)
            assert site.send_owed() == 0
            site.pass_time(SECOND)
            assert site.send_owed() == 1
            assert sent_for(site.tickets()) == [run.id]
        failed = site.end(site.begun(run), temporary="the source is away")
        assert (failed.state, failed.reason) == (RunState.FAILED, "the source is away")
        assert failed.started_at == NOON

    def test_it_waits_as_long_as_it_was_asked_to(self, site: Jobs) -> None:
        waiting = site.end(site.begun(site.start()), temporary="over budget", retry_after=3 * HOUR)
        assert waiting.ticket_at == NOON + 3 * HOUR

    def test_a_wait_that_was_asked_for_is_no_failure(self, site: Jobs) -> None:
        """Ten times over budget or `Retry-After`, with failures between, of which the sixth is the last."""
        run = site.start()
        for tries, minutes in enumerate((1, 2, 4, 8, 16)):
            for _ in range(2):
                waiting = site.end(site.begun(run), temporary="over budget", retry_after=2 * HOUR)
                assert (waiting.state, waiting.tries) == (RunState.WAITING, tries)
                site.pass_time(2 * HOUR)
            site.end(site.begun(run), temporary="away")
            site.pass_time(minutes * MINUTE)
        assert site.end(site.begun(run), temporary="away").state is RunState.FAILED

    @pytest.mark.parametrize("asked", [timedelta(0), -HOUR, timedelta(milliseconds=1)])
    def test_it_waits_a_minute_however_little_was_asked_for(self, site: Jobs, asked: timedelta) -> None:
        assert site.end(site.begun(site.start()), temporary="away", retry_after=asked).ticket_at == NOON + MINUTE

    @pytest.mark.parametrize("asked", [timedelta(0), -HOUR])
    def test_to_ask_for_no_wait_is_a_failure(self, site: Jobs, asked: timedelta) -> None:
        assert site.end(site.begun(site.start()), temporary="away", retry_after=asked).tries == 1

    def test_the_lease_is_free_at_once(self, site: Jobs) -> None:
        run = site.start()
        site.end(site.begun(run, "one"), temporary="not now")
        site.pass_time(MINUTE)
        assert site.begun(run, "two").lease.holder == "two"


class TestOverlap:
    def test_a_run_whose_flow_is_busy_waits_and_holds_nothing(self, site: Jobs) -> None:
        run = site.start()
        site.lose(QUEUED_JOBS)
        waiting = site.wait_for_the_flow(run)
        assert (waiting.state, waiting.waits_for, waiting.tries) == (RunState.WAITING, FLOW, 0)
        assert waiting.ticket_at == NOON + 5 * MINUTE
        assert site.send_owed() == 0
        assert site.begin(run) is None

    def test_the_run_that_ends_wakes_the_oldest_one_that_waits(self, site: Jobs) -> None:
        first = self.waiting(site, "A", *many(999))
        site.pass_time(SECOND)
        second = self.waiting(site, "B", *many(999))

        woken = site.run(wake_next, WakeNext(holder=FLOW))

        assert woken is not None
        assert (woken.id, woken.waits_for, woken.ticket_at) == (first.id, None, site.clock.now())
        assert site.stored(second.id) == second
        assert site.send_owed() == 1
        assert sent_for(site.tickets()) == [first.id]
        assert site.begin(first) is not None

    def test_there_may_be_nobody_to_wake(self, site: Jobs) -> None:
        self.waiting(site)
        assert site.run(wake_next, WakeNext(holder="flow:customer")) is None
        assert site.run(wake_next, WakeNext(holder=FLOW), BETA) is None

    def test_when_nobody_wakes_it_it_asks_again_after_five_minutes(self, site: Jobs) -> None:
        run = self.waiting(site)
        site.pass_time(5 * MINUTE - SECOND)
        assert site.send_owed() == 0
        site.pass_time(SECOND)
        assert site.send_owed() == 1
        site.lose(QUEUED_JOBS)
        again = site.wait_for_the_flow(run)
        assert again.ticket_at == NOON + 10 * MINUTE
        assert again.created_at == run.created_at

    def test_a_waiting_full_sync_absorbs_later_runs_which_name_it(self, site: Jobs) -> None:
        full = self.waiting(site)
        assert full.started_at is None
        for later in (site.start(), site.start("A")):
            merged = site.wait_for_the_flow(later)
            assert (merged.state, merged.merged_into) == (RunState.MERGED, full.id)
            assert merged.reason == f"run {full.id} does this work too"
            assert site.begin(later) is None
        assert site.stored(full.id) == full

    def test_it_does_what_they_were_asked_to_do_besides(self, site: Jobs) -> None:
        full = self.waiting(site)
        site.wait_for_the_flow(site.start(complete=True, confirm_deletions=True))
        assert site.stored(full.id).parameters == {"complete": True, "confirm_deletions": True}

    def test_only_one_that_has_not_begun_is_asked_to_do_more(self, site: Jobs) -> None:
        begun = site.start()
        site.end(site.begun(begun), temporary="away")
        site.pass_time(MINUTE)
        assert site.wait_for_the_flow(begun).started_at == NOON

        complete = site.wait_for_the_flow(site.start(complete=True))

        assert (complete.state, complete.started_at) == (RunState.WAITING, None)
        assert site.wait_for_the_flow(site.start()).merged_into == begun.id
        assert site.wait_for_the_flow(site.start(complete=True)).merged_into == complete.id

    def test_a_waiting_selective_sync_takes_in_codes_up_to_a_thousand(self, site: Jobs) -> None:
        first = self.waiting(site, *many(998))
        assert site.wait_for_the_flow(site.start("A", "B")).merged_into == first.id
        assert len(site.stored(first.id).parameters["codes"]) == 1_000
        second = site.wait_for_the_flow(site.start("C"))
        assert (second.state, second.waits_for) == (RunState.WAITING, FLOW)
        assert site.wait_for_the_flow(site.start("D")).merged_into == second.id
        assert site.stored(second.id).parameters["codes"] == ["C", "D"]

    def test_a_full_one_waits_for_itself_behind_selective_ones(self, site: Jobs) -> None:
        selective = self.waiting(site, "A")
        full = site.wait_for_the_flow(site.start())
        assert full.state is RunState.WAITING
        assert site.stored(selective.id) == selective

    def test_what_was_woken_or_waits_for_a_moment_absorbs_nobody(self, site: Jobs) -> None:
        woken = self.waiting(site)
        site.run(wake_next, WakeNext(holder=FLOW))
        site.end(site.begun(site.start()), temporary="not now")
        assert site.wait_for_the_flow(site.start()).state is RunState.WAITING
        assert site.stored(woken.id).state is RunState.WAITING

    def test_runs_of_another_tenant_are_nobody_s_business(self, site: Jobs) -> None:
        foreign = site.start(administration=BETA)
        begun = site.run(begin_run, BeginRun(id=foreign.id, holder="one"), BETA)
        assert isinstance(begun, Begun)
        site.run(end_run, EndRun(begun=begun, busy=FLOW), BETA)
        assert self.waiting(site).state is RunState.WAITING

    @staticmethod
    def waiting(site: Jobs, *codes: str) -> JobRun:
        run = site.wait_for_the_flow(site.start(*codes))
        site.lose(QUEUED_JOBS)
        assert run.state is RunState.WAITING
        return run


def many(count: int) -> list[str]:
    return [f"{n:04}" for n in range(count)]


class TestCancel:
    def test_a_run_that_waits_or_is_queued_ends_at_once(self, site: Jobs) -> None:
        queued, waiting = site.start(), site.start()
        site.end(site.begun(waiting), temporary="not now")
        for run in (queued, waiting):
            cancelled = site.run(cancel_run, CancelRun(id=run.id))
            assert (cancelled.state, cancelled.reason) == (RunState.CANCELLED, "cancelled by a person")
            assert (cancelled.ended_at, cancelled.ticket_at) == (NOON, None)
            with pytest.raises(Conflict, match="has ended: Cancelled"):
                site.run(cancel_run, CancelRun(id=run.id))
        site.pass_time(HOUR)
        assert site.send_owed() == 0

    def test_nobody_cancels_another_tenant_s(self, site: Jobs) -> None:
        run = site.start()
        with pytest.raises(NotFound):
            site.run(cancel_run, CancelRun(id=run.id), BETA)


class TestFailed:
    def test_a_run_that_failed_is_found_by_the_message_it_was_taken_up_for(self, site: Jobs) -> None:
        failed, succeeded, foreign = site.start(), site.start(), site.start(administration=BETA)
        for run, outcome in ((failed, {"failure": "no luck"}), (succeeded, {"result": {}})):
            begun = site.run(begin_run, BeginRun(id=run.id, holder="one", message="the first"))
            assert isinstance(begun, Begun)
            site.end(begun, **outcome)
        assert site.run(find_failed, FindFailed(id=failed.id, message="the first")) == site.stored(failed.id)
        assert site.run(find_failed, FindFailed(id=failed.id, message="the second")) is None
        assert site.run(find_failed, FindFailed(id=succeeded.id, message="the first")) is None
        with pytest.raises(NotFound):
            site.run(find_failed, FindFailed(id=foreign.id, message="the first"))


class TestResubmit:
    def test_a_failed_run_tries_again_with_all_its_tries(self, site: Jobs) -> None:
        run = site.start()
        for minutes in (1, 2, 4, 8, 16):
            site.end(site.begun(run), temporary="away")
            site.pass_time(minutes * MINUTE)
        site.end(site.begun(run), temporary="away")
        site.lose(QUEUED_JOBS)

        again = site.run(resubmit_run, ResubmitRun(id=run.id))

        assert (again.state, again.tries, again.ticket_at) == (RunState.QUEUED, 0, site.clock.now())
        assert site.send_owed() == 1
        assert sent_for(site.tickets()) == [run.id]
        assert site.end(site.begun(run), temporary="away").state is RunState.WAITING

    def test_one_that_has_not_failed_any_more_stays_as_it_is(self, site: Jobs) -> None:
        """Somebody else has resubmitted it, or the process died before it completed the dead letter."""
        failed, succeeded = site.start(), site.start()
        site.end(site.begun(failed), failure="no luck")
        again = site.run(resubmit_run, ResubmitRun(id=failed.id))
        assert site.run(resubmit_run, ResubmitRun(id=failed.id)) == again
        ended = site.end(site.begun(succeeded), result={})
        assert site.run(resubmit_run, ResubmitRun(id=succeeded.id)) == ended

    def test_nobody_resubmits_another_tenant_s(self, site: Jobs) -> None:
        run = site.start()
        site.end(site.begun(run), failure="no luck")
        with pytest.raises(NotFound):
            site.run(resubmit_run, ResubmitRun(id=run.id), BETA)


def test_two_processes_that_begin_at_once_do_the_work_once() -> None:
    site = Jobs()
    run = site.start()
    barrier = threading.Barrier(4)

    def begin(number: int) -> Begun | JobRun | None:
        barrier.wait(PATIENCE)
        return site.begin(run, f"process {number}")

    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(begin, range(4)))
    assert sum(each is not None for each in begun) == 1
