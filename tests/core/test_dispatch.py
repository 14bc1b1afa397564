"""What arrives by wire: a job from its message to its end, events, and dead letters that are resubmitted."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from ordersync_core.dispatch import handle_events, resubmit, start_command
from ordersync_core.jobs.commands import CancelRun
from ordersync_core.jobs.handlers import cancel_run, start_run
from ordersync_core.jobs.model import JobType, Progress, RunState
from ordersync_core.kernel.errors import (
    ChangedMeanwhile,
    Conflict,
    InvalidInput,
    LeaseLost,
    NotFound,
    PermanentFailure,
    Stopping,
    TemporaryFailure,
)
from ordersync_core.messaging.commands import GiveUpEvents, Relay
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, WEBHOOKS, encode
from ordersync_core.messaging.handlers import give_up_events, relay
from ordersync_core.testing.contracts.databases import ALPHA, BETA, context, open_admin
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, new_id
from ordersync_core.webhooks.commands import DisableWebhook, EnableWebhook
from ordersync_core.webhooks.handlers.subscriptions import disable_webhook, enable_webhook
from ordersync_core.webhooks.model import DeliveryState
from tests.core.embedded import sqlite_databases
from tests.core.shelf import FLOW, Site, raising


@pytest.fixture
def site() -> Site:
    made = Site()
    made.set_up()
    return made


class TestStartCommand:
    def test_is_checked_and_keeps_what_was_given(self) -> None:
        command = start_command("ItemSync", {"complete": True})
        assert (command.type, command.parameters) == (JobType.ITEM_SYNC, {"complete": True})
        assert start_command("ItemSelectiveSync", {"codes": ["A"]}).parameters == {"codes": ["A"]}
        assert start_command("ItemSync", {}).parameters == {}

    @pytest.mark.parametrize("type", ["Nonsense", "itemsync", "", "OrderExport", "PriceListSync"])
    def test_an_unknown_type_is_refused_and_the_known_ones_are_named(self, type: str) -> None:
        with pytest.raises(InvalidInput, match="there are ItemSync, ItemSelectiveSync") as refused:
            start_command(type, {})
        assert [violation.pointer for violation in refused.value.violations] == ["/type"]

    @pytest.mark.parametrize(
        ("type", "parameters", "pointers"),
        [
            ("ItemSync", {"complete": "yes"}, ["/parameters/complete"]),
            (
                "ItemSync",
                {"complete": 1, "confirm_deletions": None},
                ["/parameters/complete", "/parameters/confirm_deletions"],
            ),
            ("ItemSync", {"codes": ["A"]}, ["/parameters/codes"]),
            ("ItemSelectiveSync", {}, ["/parameters/codes"]),
            ("ItemSelectiveSync", {"codes": []}, ["/parameters/codes"]),
            ("ItemSelectiveSync", {"codes": "A"}, ["/parameters/codes"]),
            ("ItemSelectiveSync", {"codes": ["A", "", 7]}, ["/parameters/codes/1", "/parameters/codes/2"]),
            ("ItemSelectiveSync", {"codes": [str(n) for n in range(1_001)]}, ["/parameters/codes"]),
        ],
    )
    def test_parameters_that_do_not_fit_are_all_named(
        self, type: str, parameters: dict[str, Any], pointers: list[str]
    ) -> None:
        with pytest.raises(InvalidInput, match="parameters") as refused:
            start_command(type, parameters)
        assert sorted(violation.pointer for violation in refused.value.violations) == pointers

    def test_a_thousand_codes_are_taken(self) -> None:
        codes = [str(n) for n in range(1_000)]
        assert start_command("ItemSelectiveSync", {"codes": codes}).parameters["codes"] == codes


class TestRunJob:
    def test_does_the_work_from_beginning_to_end(self, site: Site) -> None:
        run = site.worked(site.start())
        assert run == site.stored_run(run.id)
        assert (run.state, run.started_at, run.ended_at) == (RunState.SUCCEEDED, NOON, NOON)
        assert run.result is not None
        assert (run.result["read"], run.result["created"]) == (3, 3)
        assert site.names() == {"A": "a name", "B": "a name", "C": "a name"}

    def test_on_sqlite_too(self, tmp_path: Path) -> None:
        with sqlite_databases(tmp_path) as databases:
            site = Site(databases)
            site.set_up()
            assert site.worked(site.start()).state is RunState.SUCCEEDED
            assert len(site.names()) == 3

    def test_of_named_codes_only(self, site: Site) -> None:
        run = site.worked(site.start("ItemSelectiveSync", codes=["B", "X"]))
        assert run.state is RunState.SUCCEEDED
        assert list(site.names()) == ["B"]

    def test_of_named_codes_it_tells_how_many_there_are(self, site: Site) -> None:
        run_id = site.start("ItemSelectiveSync", codes=["A", "B", "X"])
        site.shelf.before_page = raising(TemporaryFailure("away"), at_page=1)
        assert site.worked(run_id).progress == Progress(done=1, total=3, text="items read")
        site.shelf.before_page = lambda number: None
        site.pass_time(MINUTE)
        assert site.worked(run_id).progress == Progress(done=2, total=3, text="items read")

    def test_of_changes_nobody_knows_how_many_there_are(self, site: Site) -> None:
        assert site.worked(site.start()).progress == Progress(done=3, total=None, text="items read")

    def test_with_what_it_was_asked_to_do_besides(self, site: Site) -> None:
        site.worked(site.start())
        site.worked(site.start())
        site.worked(site.start(complete=True))
        assert site.shelf.read == ["all", "changes", "all"]

    def test_the_changes_say_which_run_made_them(self, site: Site) -> None:
        """The context is the one of the message, which the queue's envelope gives."""
        run_id = site.start()
        site.worked(run_id)
        site.run(relay, Relay())
        messages = site.take(EVENTS)
        assert {(message.administration, message.triggered_by) for message in messages} == {(ALPHA, "somebody")}

    def test_a_message_for_a_run_that_has_ended_needs_none(self, site: Site) -> None:
        run_id = site.start()
        ended = site.worked(run_id)
        site.stock("D")
        assert site.work(run_id) is None
        assert site.stored_run(run_id) == ended
        assert "D" not in site.names()

    def test_a_permanent_failure_is_its_end(self, site: Site) -> None:
        site.shelf.before_page = raising(PermanentFailure("the shelf is gone"))
        run = site.worked(site.start())
        assert (run.state, run.reason) == (RunState.FAILED, "the shelf is gone")

    def test_without_a_flow_it_fails_and_says_so(self) -> None:
        site = Site()
        run = site.worked(site.start())
        assert (run.state, run.reason) == (RunState.FAILED, "the item flow is not set up")

    def test_a_fault_of_ours_is_on_the_run_and_in_the_log(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.shelf.before_page = raising(ZeroDivisionError("by zero"))
        run = site.worked(site.start())
        assert (run.state, run.reason) == (RunState.FAILED, "unexpected ZeroDivisionError: by zero")
        assert "ZeroDivisionError" in caplog.text

    def test_temporary_failures_wait_and_the_sixth_is_the_last(self, site: Site) -> None:
        run_id = site.start()
        site.shelf.before_page = raising(TemporaryFailure("the shelf is away"))
        for minutes in (1, 2, 4, 8, 16):
            assert site.worked(run_id).state is RunState.WAITING
            site.pass_time(minutes * MINUTE)
            assert site.sent_for() == [run_id]
        assert site.worked(run_id).state is RunState.FAILED

    def test_it_waits_as_long_as_the_source_asks(self, site: Site) -> None:
        site.shelf.before_page = raising(TemporaryFailure("over budget", timedelta(hours=3)))
        run = site.worked(site.start())
        assert (run.state, run.ticket_at) == (RunState.WAITING, NOON + timedelta(hours=3))

    def test_it_is_the_same_run_when_it_goes_on(self, site: Site) -> None:
        run_id = site.start()
        site.shelf.before_page = raising(TemporaryFailure("away"), at_page=2)
        site.worked(run_id)
        assert list(site.names()) == ["A", "B"]
        site.shelf.before_page = lambda number: None
        site.pass_time(MINUTE)
        run = site.worked(run_id)
        assert (run.id, run.state, run.tries) == (run_id, RunState.SUCCEEDED, 1)
        assert len(site.names()) == 3

    def test_who_always_comes_second_to_the_database_tries_later(self, site: Site) -> None:
        """`ChangedMeanwhile` is worth another attempt, here as everywhere."""
        site.shelf.before_page = raising(ChangedMeanwhile("a deadlock"))
        run = site.worked(site.start())
        assert (run.state, run.tries) == (RunState.WAITING, 1)
        assert site.shelf.read == ["all"] * 3

    def test_a_cancelled_run_stops_at_its_next_report(self, site: Site) -> None:
        run_id = site.start()

        def cancel(number: int) -> None:
            if number == 1:
                site.run(cancel_run, CancelRun(id=run_id))

        site.shelf.before_page = cancel
        run = site.worked(run_id)
        assert run == site.stored_run(run_id)
        assert (run.state, run.result) == (RunState.CANCELLED, None)
        assert site.work(run_id) is None

    def test_whoever_lost_the_run_leaves_it_to_the_other(self, site: Site) -> None:
        run_id = site.start()

        def lose(number: int) -> None:
            if number == 1:
                site.pass_time(61 * SECOND)
                with open_admin(site.databases) as uow:
                    assert uow.leases.take(f"run:{run_id}", "another process") is not None
                    uow.commit()

        site.shelf.before_page = lose
        with pytest.raises(LeaseLost):
            site.work(run_id)
        assert site.stored_run(run_id).state is RunState.RUNNING

    def test_whoever_lost_the_flow_alone_tries_again_a_minute_later(self, site: Site) -> None:
        """Its process stood still, and another run took the flow while nobody took the run itself."""
        run_id = site.start()

        def lose(number: int) -> None:
            if number == 1:
                site.pass_time(61 * SECOND)
                site.occupy_the_flow()

        site.shelf.before_page = lose
        run = site.worked(run_id)
        assert (run.state, run.waits_for, run.tries) == (RunState.WAITING, None, 1)
        assert run == site.stored_run(run_id)

        site.shelf.before_page = lambda number: None
        site.pass_time(61 * SECOND)
        assert site.sent_for() == [run_id]
        run = site.worked(run_id)
        assert (run.state, run.deaths) == (RunState.SUCCEEDED, 0)

    def test_a_process_that_is_asked_to_stop_gives_the_run_back(self, site: Site) -> None:
        run_id = site.start()
        site.shelf.before_page = raising(Stopping())
        with pytest.raises(Stopping):
            site.work(run_id)
        run = site.stored_run(run_id)
        assert (run.state, run.tries) == (RunState.QUEUED, 0)
        site.shelf.before_page = lambda number: None
        assert site.sent_for() == [run_id]
        assert site.work(run_id, "another process") is not None
        assert site.stored_run(run_id).state is RunState.SUCCEEDED

    def test_a_run_that_is_slow_to_report_keeps_its_lease_by_the_heartbeat(self, site: Site) -> None:
        run_id = site.start()

        def dawdle(number: int) -> None:
            for _ in range(10):
                site.pass_time(15 * SECOND)
                site.heartbeat.beat_due()
                assert site.work(run_id, "another process") is None

        site.shelf.before_page = dawdle
        assert site.worked(run_id).state is RunState.SUCCEEDED


class TestOverlap:
    def test_a_busy_flow_makes_the_run_wait_and_nobody_wakes_it_while_it_is_busy(self, site: Site) -> None:
        """Least of all the run itself: its process would be started over and over."""
        site.occupy_the_flow()
        run = site.worked(site.start())
        assert (run.state, run.waits_for) == (RunState.WAITING, FLOW)
        assert site.stored_run(run.id) == run
        assert site.sent_for() == []
        assert site.shelf.read == []

    def test_the_run_that_ends_wakes_it(self, site: Site) -> None:
        first, second = site.start(), site.start()
        site.shelf.before_page = lambda number: self.meanwhile(site, second) if number == 0 else None

        assert site.worked(first).state is RunState.SUCCEEDED

        assert site.stored_run(second).waits_for is None
        assert site.sent_for() == [second]
        site.shelf.before_page = lambda number: None
        assert site.worked(second).state is RunState.SUCCEEDED

    @pytest.mark.parametrize("error", [TemporaryFailure("away"), PermanentFailure("gone")])
    def test_whatever_it_ends_with(self, site: Site, error: Exception) -> None:
        first, second = site.start(), site.start()

        def fail(number: int) -> None:
            site.shelf.before_page = lambda number: None
            self.meanwhile(site, second)
            raise error

        site.shelf.before_page = fail
        site.worked(first)
        assert site.sent_for() == [second]

    def test_a_wake_up_that_was_lost_costs_five_minutes(self, site: Site) -> None:
        site.occupy_the_flow()
        run_id = site.start()
        site.worked(run_id)
        site.pass_time(5 * MINUTE - SECOND)
        assert site.sent_for() == []
        site.pass_time(SECOND)
        assert site.sent_for() == [run_id]
        assert site.worked(run_id).state is RunState.SUCCEEDED

    def test_runs_that_come_while_one_waits_are_merged_into_it(self, site: Site) -> None:
        site.occupy_the_flow()
        waiting = site.worked(site.start("ItemSelectiveSync", codes=["A"]))
        merged = site.worked(site.start("ItemSelectiveSync", codes=["C"]))
        assert (merged.state, merged.merged_into) == (RunState.MERGED, waiting.id)
        assert site.sent_for() == []
        site.pass_time(5 * MINUTE)
        assert site.worked(waiting.id).state is RunState.SUCCEEDED
        assert list(site.names()) == ["A", "C"]

    @staticmethod
    def meanwhile(site: Site, run_id: UUID) -> None:
        """Another process takes up a run of the same flow."""
        run = site.work(run_id, "another process")
        assert run is not None
        assert run.state is RunState.WAITING


class TestEvents:
    def test_reach_the_webhooks_of_their_administration(self, site: Site) -> None:
        webhook = site.subscribe()
        handle_events(site.application, site.tell(2), context(ALPHA))
        assert [d.position for d in site.deliveries(webhook)] == [1, 2]

    def test_of_an_unknown_type_are_refused_and_nothing_happens(self, site: Site) -> None:
        webhook = site.subscribe()
        known, unknown = site.tell(2)
        with pytest.raises(InvalidInput, match=r"event type 'item\.exploded' is not known here"):
            handle_events(site.application, [known, evolve(unknown, type="item.exploded")], context(ALPHA))
        assert site.deliveries(webhook) == []


class TestResubmit:
    def test_an_event_is_handled_again(self, site: Site) -> None:
        webhook = site.subscribe()
        [message] = site.tell()
        site.run(give_up_events, GiveUpEvents(ids=(message.id,)))
        letter = site.dead_letter(EVENTS, encode(message))

        resubmit(site.application, EVENTS, letter, context(None))

        assert site.queues[EVENTS].dead_letters() == []
        site.fan_out(site.numbered())
        assert [d.event_id for d in site.deliveries(webhook)] == [message.id]

    def test_a_delivery_tries_again(self, site: Site) -> None:
        webhook = site.subscribe()
        site.deliver()
        [ticket] = site.tickets()
        site.record(*(site.answer(request, 413) for request in site.prepare([ticket])))
        letter = site.dead_letter(WEBHOOKS, encode(ticket))

        resubmit(site.application, WEBHOOKS, letter, context(None))

        assert site.queues[WEBHOOKS].dead_letters() == []
        site.attempt(200)
        assert site.states(webhook) == [DeliveryState.DELIVERED]

    def test_a_run_starts_again(self, site: Site) -> None:
        run = site.run(start_run, start_command("ItemSync", {}))
        [ticket] = site.take(QUEUED_JOBS)
        site.shelf.before_page = raising(PermanentFailure("gone"))
        site.worked(run.id)
        letter = site.dead_letter(QUEUED_JOBS, encode(ticket))

        resubmit(site.application, QUEUED_JOBS, letter, context(None))

        assert site.queues[QUEUED_JOBS].dead_letters() == []
        assert site.sent_for() == [run.id]
        site.shelf.before_page = lambda number: None
        assert site.worked(run.id).state is RunState.SUCCEEDED

    def test_goes_on_where_the_process_died_before_the_dead_letter_was_complete(self, site: Site) -> None:
        """The row was reset, and may even have come to its end since."""
        run = site.run(start_run, start_command("ItemSync", {}))
        [job_ticket] = site.take(QUEUED_JOBS)
        site.worked(run.id)
        site.numbered()
        webhook = site.subscribe()
        site.deliver()
        [ticket] = site.tickets()
        for queue, message in ((QUEUED_JOBS, job_ticket), (WEBHOOKS, ticket)):
            resubmit(site.application, queue, site.dead_letter(queue, encode(message)), context(None))
            assert site.queues[queue].dead_letters() == []
        assert site.stored_run(run.id).state is RunState.SUCCEEDED
        assert [d.attempts for d in site.deliveries(webhook)] == [0]

    def test_a_delivery_whose_webhook_is_disabled_stays_dead(self, site: Site) -> None:
        webhook = site.subscribe()
        site.deliver()
        [ticket] = site.tickets()
        site.record(*(site.answer(request, 413) for request in site.prepare([ticket])))
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        letter = site.dead_letter(WEBHOOKS, encode(ticket))

        with pytest.raises(Conflict, match="enable it first"):
            resubmit(site.application, WEBHOOKS, letter, context(None))
        assert site.queues[WEBHOOKS].find_dead_letter(letter) is not None

        site.run(enable_webhook, EnableWebhook(id=webhook.id))
        resubmit(site.application, WEBHOOKS, letter, context(None))
        assert site.queues[WEBHOOKS].find_dead_letter(letter) is None

    @pytest.mark.parametrize("queue", [EVENTS, WEBHOOKS, QUEUED_JOBS])
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"\xff", b'{"id": 7}'])
    def test_a_malformed_message_cannot_be_and_stays(self, site: Site, queue: str, body: bytes) -> None:
        letter = site.dead_letter(queue, body)
        with pytest.raises(InvalidInput):
            resubmit(site.application, queue, letter, context(None))
        assert site.queues[queue].find_dead_letter(letter) is not None

    @pytest.mark.parametrize("queue", [EVENTS, WEBHOOKS, QUEUED_JOBS])
    def test_there_is_no_unknown_one(self, site: Site, queue: str) -> None:
        with pytest.raises(NotFound):
            resubmit(site.application, queue, "4711", context(None))

    def test_whose_run_is_gone_stays(self, site: Site) -> None:
        site.run(start_run, start_command("ItemSync", {}))
        [ticket] = site.take(QUEUED_JOBS)
        letter = site.dead_letter(QUEUED_JOBS, encode(evolve(ticket, id=new_id())))
        with pytest.raises(NotFound):
            resubmit(site.application, QUEUED_JOBS, letter, context(None))
        foreign = site.dead_letter(QUEUED_JOBS, encode(evolve(ticket, administration=BETA)))
        with pytest.raises(NotFound):
            resubmit(site.application, QUEUED_JOBS, foreign, context(None))
        assert len(site.queues[QUEUED_JOBS].dead_letters()) == 2
