"""One message, one run, exit: whatever a process dies at, a run that fails ends as one dead letter."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, frozen

from ordersync_core.dispatch import resubmit, start_command
from ordersync_core.jobs.commands import SendOwedRuns
from ordersync_core.jobs.handlers import end_run, send_owed_runs, start_run
from ordersync_core.jobs.model import RunState
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import PermanentFailure, Stopping, TemporaryFailure
from ordersync_core.messaging.envelope import QUEUED_JOBS
from ordersync_core.messaging.queue import Depth, Message, Queues
from ordersync_core.testing.contracts.databases import context
from ordersync_core.testing.contracts.examples import MINUTE, SECOND
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_jobs.run_one import run_one
from tests.core.shelf import Site, raising

LOCK_AND_LEASE = 61 * SECOND


class Killed(BaseException):
    """The process is gone: nothing of ours catches this."""


class DyingAtTheDeadLetter:
    """Queues whose first dead letter is never made: its process dies before."""

    def __init__(self, queues: MemoryQueues) -> None:
        self._queues = queues
        self._dies = True

    def __getitem__(self, name: str) -> "DyingAtTheDeadLetter":
        self._queue = self._queues[name]
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def dead_letter(self, *arguments: Any, **named: Any) -> bool:
        if self._dies:
            self._dies = False
            raise Killed
        return self._queue.dead_letter(*arguments, **named)


@frozen
class DyingAtTheEnd(Application):
    """Its process dies before a run's outcome is kept."""

    def run(self, handler: Any, command: Any, context: Context) -> Any:
        if handler is end_run:
            raise Killed
        return Application.run(self, handler, command, context)


class JobsSite(Site):
    """Its scheduler and its job processes; `killed` counts those that died."""

    killed = 0

    def start_job(self) -> UUID:
        """A run whose ticket lies in the queue."""
        return self.run(start_run, start_command("ItemSync", {})).id

    def process(self) -> bool:
        try:
            return run_one(self.application)
        except Killed:
            self.killed += 1
            return True

    def go_on(self, rounds: int) -> None:
        """So many times: what is owed is sent, everything in the queue gets its process, and locks and leases end."""
        for _ in range(rounds):
            self.run(send_owed_runs, SendOwedRuns(), None)
            while self.process():
                pass
            self.pass_time(LOCK_AND_LEASE)

    def dead(self) -> list[tuple[str, str]]:
        return [(letter.reason, letter.description) for letter in self.queues[QUEUED_JOBS].dead_letters()]

    def resubmit_all(self) -> None:
        for letter in self.queues[QUEUED_JOBS].dead_letters():
            resubmit(self.application, QUEUED_JOBS, letter.id, context(None))


@pytest.fixture
def site() -> JobsSite:
    made = JobsSite()
    made.set_up()
    return made


class Away:
    """Something of `real` that does not answer as long as `is_away`."""

    def __init__(self, real: Any, *names: str, what: str = "the database") -> None:
        self._real = real
        self._names = names
        self._what = what
        self.is_away = True

    def __getattr__(self, name: str) -> Any:
        if self.is_away and name in self._names:
            raise TemporaryFailure(f"{self._what} does not answer")
        return getattr(self._real, name)


def always(error: Callable[[], BaseException]) -> Callable[[int], None]:
    def fail(number: int) -> None:
        raise error()

    return fail


def test_there_may_be_no_message(site: JobsSite) -> None:
    assert not site.process()


def test_a_run_that_succeeds_leaves_nothing(site: JobsSite) -> None:
    run_id = site.start_job()
    assert site.process()
    assert site.stored_run(run_id).state is RunState.SUCCEEDED
    assert not site.process()
    assert site.dead() == []


def test_a_run_that_fails_is_a_dead_letter(site: JobsSite) -> None:
    run_id = site.start_job()
    site.shelf.before_page = raising(PermanentFailure("the shelf is gone"))
    site.process()
    assert site.stored_run(run_id).state is RunState.FAILED
    assert site.dead() == [("JobFailed", "ItemSync: the shelf is gone")]


def test_a_run_that_kills_its_processes_kills_three_and_is_a_dead_letter(site: JobsSite) -> None:
    run_id = site.start_job()
    site.shelf.before_page = always(Killed)

    site.go_on(100)

    assert site.killed == 3
    run = site.stored_run(run_id)
    assert (run.state, run.reason) == (RunState.FAILED, "3 processes died while they worked on it")
    assert site.dead() == [("KilledItsProcess", "ItemSync: 3 processes died while they worked on it")]


def test_it_kills_no_more_though_each_death_has_a_message_of_its_own(site: JobsSite) -> None:
    """The queue was emptied after each, or the message was completed while the dead process's lease went on."""
    site.start_job()
    site.shelf.before_page = always(Killed)
    for _ in range(20):
        site.process()
        site.pass_time(LOCK_AND_LEASE)
        site.lose(QUEUED_JOBS)
        site.run(send_owed_runs, SendOwedRuns(), None)
    assert site.killed == 3
    assert [reason for reason, _ in site.dead()] == ["KilledItsProcess"]


def test_processes_that_die_before_they_touch_the_run_count_too(site: JobsSite) -> None:
    run_id = site.start_job()
    for _ in range(3):
        assert site.queues[QUEUED_JOBS].claim(1)
        site.pass_time(LOCK_AND_LEASE)
    site.process()
    assert site.stored_run(run_id).state is RunState.FAILED
    assert [reason for reason, _ in site.dead()] == ["KilledItsProcess"]
    site.go_on(100)
    assert len(site.dead()) == 1


def test_once_resubmitted_it_runs_and_may_kill_three_again(site: JobsSite) -> None:
    run_id = site.start_job()
    site.shelf.before_page = always(Killed)
    site.go_on(10)
    site.resubmit_all()
    site.go_on(10)
    assert site.killed == 6
    assert len(site.dead()) == 1

    site.shelf.before_page = lambda number: None
    site.resubmit_all()
    site.go_on(10)

    assert site.stored_run(run_id).state is RunState.SUCCEEDED
    assert site.dead() == []


@pytest.mark.parametrize(
    ("error", "reason"), [(Killed, "KilledItsProcess"), (lambda: PermanentFailure("gone"), "JobFailed")]
)
def test_a_process_that_dies_between_the_failure_and_the_dead_letter_leaves_one(
    site: JobsSite, error: Callable[[], BaseException], reason: str
) -> None:
    run_id = site.start_job()
    site.shelf.before_page = always(error)
    site.ports[Queues] = DyingAtTheDeadLetter(site.queues)

    site.go_on(100)

    assert site.stored_run(run_id).state is RunState.FAILED
    assert [each for each, _ in site.dead()] == [reason]
    site.shelf.before_page = lambda number: None
    site.resubmit_all()
    site.go_on(10)
    assert site.stored_run(run_id).state is RunState.SUCCEEDED


def test_further_tickets_of_a_run_that_failed_are_no_further_dead_letters(site: JobsSite) -> None:
    """They lay in the queue for so long that the row owed the next."""
    site.start_job()
    for minutes in (1, 5, 30):
        site.pass_time(minutes * MINUTE)
        site.run(send_owed_runs, SendOwedRuns(), None)
    assert site.queues[QUEUED_JOBS].depth().ready == 4
    site.shelf.before_page = always(lambda: PermanentFailure("gone"))
    site.go_on(3)
    assert len(site.dead()) == 1


def test_a_process_that_is_asked_to_end_gives_run_and_message_back(site: JobsSite) -> None:
    run_id = site.start_job()
    site.shelf.before_page = raising(Stopping())
    for _ in range(5):
        with pytest.raises(Stopping):
            run_one(site.application)
        assert site.stored_run(run_id).state is RunState.QUEUED
    site.shelf.before_page = lambda number: None
    site.process()
    assert site.stored_run(run_id).state is RunState.SUCCEEDED


def test_an_outage_of_the_admin_database_is_no_death_of_the_run(site: JobsSite) -> None:
    run_id = site.start_job()
    away = Away(site.databases, "admin_unit_of_work")
    outage = evolve(site.application, databases=away)
    for _ in range(5):
        with pytest.raises(TemporaryFailure):
            run_one(outage)
        assert site.queues[QUEUED_JOBS].depth() == Depth(ready=1, locked=0, dead=0)
        site.pass_time(LOCK_AND_LEASE)
    away.is_away = False
    run_one(outage)
    run = site.stored_run(run_id)
    assert (run.state, run.deaths) == (RunState.SUCCEEDED, 0)
    assert site.dead() == []


def test_an_outage_that_begins_while_it_works_leaves_the_run_to_go_on(site: JobsSite) -> None:
    run_id = site.start_job()
    away = Away(site.databases, "admin_unit_of_work")
    away.is_away = False
    outage = evolve(site.application, databases=away)

    def begin(number: int) -> None:
        away.is_away = number >= 1

    site.shelf.before_page = begin
    with pytest.raises(TemporaryFailure):
        run_one(outage)
    assert site.queues[QUEUED_JOBS].depth().ready == 1
    site.shelf.before_page = lambda number: None
    site.go_on(3)
    assert site.stored_run(run_id).state is RunState.SUCCEEDED
    assert site.dead() == []


def test_the_error_of_the_run_is_told_also_when_the_queue_is_away(site: JobsSite) -> None:
    site.start_job()
    site.ports[Queues] = {QUEUED_JOBS: Away(site.queues[QUEUED_JOBS], "abandon", what="the queue")}
    outage = evolve(site.application, databases=Away(site.databases, "admin_unit_of_work"))
    with pytest.raises(TemporaryFailure, match="the database does not answer"):
        run_one(outage)


@pytest.mark.parametrize("flow_is_busy", [False, True])
def test_a_process_that_dies_between_the_work_and_its_end_leaves_no_work(site: JobsSite, flow_is_busy: bool) -> None:
    """Nor does the run wait for the flow then: another one that was merged into it meanwhile would not be done."""
    run_id = site.start_job()
    with pytest.raises(Killed):
        run_one(DyingAtTheEnd(resolve=site.ports.__getitem__, databases=site.databases))
    site.pass_time(LOCK_AND_LEASE)
    if flow_is_busy:
        site.occupy_the_flow()

    site.go_on(2)

    run = site.stored_run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.result is not None
    assert (run.result["read"], run.result["created"], run.result["unchanged"]) == (3, 3, 0)
    assert site.shelf.read == ["all"]


def test_a_process_that_is_asked_to_end_says_so_also_when_the_tenants_database_is_away(site: JobsSite) -> None:
    run_id = site.start_job()
    away = Away(site.databases, "unit_of_work")
    away.is_away = False

    def stop(number: int) -> None:
        away.is_away = True
        raise Stopping

    site.shelf.before_page = stop
    with pytest.raises(Stopping):
        run_one(evolve(site.application, databases=away))
    assert site.stored_run(run_id).state is RunState.QUEUED
    assert site.queues[QUEUED_JOBS].depth() == Depth(ready=1, locked=0, dead=0)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": 7}'])
def test_a_message_that_cannot_be_read_is_a_dead_letter(site: JobsSite, body: bytes) -> None:
    site.queues[QUEUED_JOBS].send([Message(send_id="1", body=body)])
    site.process()
    assert [reason for reason, _ in site.dead()] == ["Malformed"]


def test_a_message_for_no_run_is_a_dead_letter(site: JobsSite) -> None:
    site.start_job()
    [message] = site.take_messages(QUEUED_JOBS)
    site.queues[QUEUED_JOBS].send([Message(send_id="1", body=message.body.replace(b'"alpha"', b'"beta"'))])
    site.process()
    assert [reason for reason, _ in site.dead()] == ["UnknownRun"]
    site.pass_time(timedelta(days=1))
    assert not site.process()
