"""Names, schedules, queues and auth levels are a promise to whoever deploys the functions."""

from ordersync_core.messaging.envelope import QUEUES
from ordersync_functions.batch_forms import BATCH_FORMS
from ordersync_functions.declarations import HttpTrigger, QueueTrigger, Timer, declarations
from ordersync_functions.functions import ON_WAKE_UP


def test_the_nine_functions() -> None:
    told = {
        each.name: (
            each.schedule
            if isinstance(each, Timer)
            else (each.queue, each.connection, each.one_at_a_time)
            if isinstance(each, QueueTrigger)
            else (each.route, tuple(each.methods), each.auth_level)
        )
        for each in declarations()
    }

    assert told == {
        "publish_outbox": "* * * * * *",
        "schedule_jobs": "0 * * * * *",
        "renew_connections": "0 17 * * * *",
        "watch_health": "30 */5 * * * *",
        "housekeeping": "0 30 2 * * *",
        "handle_event": ("events", "ORDERSYNC_QUEUES", True),
        "deliver_webhook": ("webhooks", "ORDERSYNC_QUEUES", True),
        "receive_connector_webhook": ("connector-webhooks/{connector}", ("GET", "POST"), "function"),
        "complete_authorisation": ("complete-authorisation", ("GET",), "anonymous"),
    }


def test_each_is_called_by_its_own_name() -> None:
    assert [each.call.__name__ for each in declarations()] == [each.name for each in declarations()]


def test_every_queue_function_has_a_batch_form_and_a_queue() -> None:
    triggers = [each for each in declarations() if isinstance(each, QueueTrigger)]

    assert {each.name for each in triggers} == set(BATCH_FORMS)
    assert all(each.queue in QUEUES for each in triggers)


def test_what_runs_on_wake_up_is_a_timer() -> None:
    assert set(ON_WAKE_UP) <= {each.name for each in declarations() if isinstance(each, Timer)}


def test_the_kinds_are_five_timers_two_queues_and_two_http_triggers() -> None:
    kinds = [type(each) for each in declarations()]

    assert [kinds.count(kind) for kind in (Timer, QueueTrigger, HttpTrigger)] == [5, 2, 2]
