"""Webhooks themselves: created, disabled, enabled, deleted."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ordersync_core.kernel.errors import NotFound
from ordersync_core.testing.contracts.databases import BETA
from ordersync_core.testing.contracts.examples import NOON, new_id
from ordersync_core.webhooks.commands import (
    Backlog,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    RotateSecret,
    SendTest,
)
from ordersync_core.webhooks.handlers.subscriptions import (
    create_webhook,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    prepare_test,
    rotate_secret,
)
from ordersync_core.webhooks.health import Health
from ordersync_core.webhooks.model import DeliveryState, EventTypePattern, WebhookState, shown
from ordersync_core.webhooks.ports import TargetRefused
from tests.core.embedded import sqlite_databases
from tests.core.webhooks.subscriber import URL, Subscriber

DELIVERED, WAITING, PARKED, CANCELLED = (
    DeliveryState.DELIVERED,
    DeliveryState.WAITING,
    DeliveryState.PARKED,
    DeliveryState.CANCELLED,
)
EVERYTHING = (EventTypePattern("*"),)


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subscriber]:
    if request.param == "memory":
        yield Subscriber()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Subscriber(databases)


class TestCreate:
    def test_gives_the_secret_once_and_keeps_it_encrypted(self, site: Subscriber) -> None:
        webhook, secret = site.run(create_webhook, CreateWebhook(url=URL, event_types=EVERYTHING))
        assert site.webhook(webhook.id) == webhook
        assert (webhook.state, webhook.last_position, webhook.created_at) == (WebhookState.ENABLED, 0, NOON)
        assert secret.startswith("whsec_")
        [sealed] = webhook.secrets
        assert secret.encode() not in sealed
        assert site.secrets.decrypt(sealed) == secret.encode()
        assert "secret" not in str(shown(webhook))
        assert repr(sealed) not in repr(webhook)

    def test_no_two_secrets_are_the_same(self, site: Subscriber) -> None:
        command = CreateWebhook(url=URL, event_types=EVERYTHING)
        assert len({site.run(create_webhook, command)[1] for _ in range(5)}) == 5

    def test_a_refused_address_leaves_nothing(self, site: Subscriber) -> None:
        with pytest.raises(TargetRefused):
            site.run(create_webhook, CreateWebhook(url="http://localhost/hook", event_types=EVERYTHING))
        site.deliver()
        assert site.requests() == []

    def test_takes_at_least_one_event_type(self) -> None:
        with pytest.raises(ValueError, match="event_types"):
            CreateWebhook(url=URL, event_types=())


class TestDisable:
    def test_parks_what_waits_and_creates_nothing_new(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(3)
        one, *_ = site.requests()
        site.record(site.answer(one))

        disabled = site.run(disable_webhook, DisableWebhook(id=webhook.id, reason="moving house"))
        site.deliver(2)

        assert disabled == site.webhook(webhook.id)
        assert (disabled.state, disabled.disabled_because) == (WebhookState.DISABLED, "moving house")
        assert site.states(webhook) == [DELIVERED, PARKED, PARKED]
        site.pass_time(timedelta(days=1))
        assert site.requests() == []

    def test_twice_changes_nothing_more(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        once = site.run(disable_webhook, DisableWebhook(id=webhook.id))
        assert site.run(disable_webhook, DisableWebhook(id=webhook.id)) == once
        assert site.states(webhook) == [PARKED]


class TestEnable:
    def test_and_send_what_was_parked_in_order(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(3)
        site.attempt(500)
        site.run(disable_webhook, DisableWebhook(id=webhook.id))

        enabled = site.run(enable_webhook, EnableWebhook(id=webhook.id, backlog=Backlog.SEND_PARKED))

        assert (enabled.state, enabled.disabled_because, enabled.health) == (WebhookState.ENABLED, None, Health())
        requests = site.requests()
        assert [(request.headers["X-Webhook-Position"], request.attempt) for request in requests] == [
            ("1", 2),
            ("2", 2),
            ("3", 2),
        ]
        site.record(*(site.answer(request) for request in requests))
        assert site.states(webhook) == [DELIVERED] * 3

    def test_and_send_within_the_window(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(7)
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(enable_webhook, EnableWebhook(id=webhook.id))
        assert site.send_owed(window=5) == 5

    def test_and_forget_what_was_parked(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver(2)
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(enable_webhook, EnableWebhook(id=webhook.id, backlog=Backlog.CANCEL_PARKED))
        assert site.states(webhook) == [CANCELLED, CANCELLED]
        assert {d.finished_at for d in site.deliveries(webhook)} == {NOON}
        assert site.requests() == []
        site.deliver()
        assert [d.position for d in site.deliveries(webhook) if d.state is WAITING] == [3]

    def test_a_request_that_was_under_way_all_along_may_end_it(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.deliver()
        [request] = site.requests()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(enable_webhook, EnableWebhook(id=webhook.id))
        site.record(site.answer(request))
        assert site.states(webhook) == [DELIVERED]
        assert site.requests() == []

    def test_one_that_is_in_service_stays_as_it_is(self, site: Subscriber) -> None:
        """With its health forgotten, nobody would let in again what its breaker holds back."""
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        broken = site.webhook(webhook.id)
        assert broken.health.is_open

        assert site.run(enable_webhook, EnableWebhook(id=webhook.id)) == broken

        assert site.webhook(webhook.id) == broken
        site.wait_for_ticket(site.deliveries(webhook)[0])
        while site.attempt(200):
            pass
        assert site.states(webhook) == [DELIVERED] * 10

    def test_starts_with_a_closed_breaker(self, site: Subscriber) -> None:
        webhook = site.subscribe()
        site.fail_in_a_row(10)
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(enable_webhook, EnableWebhook(id=webhook.id))
        assert len(site.requests()) == 10


def test_a_deleted_one_takes_its_deliveries_along(site: Subscriber) -> None:
    webhook, other = site.subscribe(), site.subscribe()
    site.deliver(2)
    site.run(delete_webhook, DeleteWebhook(id=webhook.id))
    assert site.queries().webhook(webhook.id) is None
    assert site.deliveries(webhook) == []
    assert {request.webhook_id for request in site.requests()} == {other.id}


@pytest.mark.parametrize(
    ("handler", "command"),
    [
        (delete_webhook, DeleteWebhook),
        (rotate_secret, RotateSecret),
        (disable_webhook, DisableWebhook),
        (enable_webhook, EnableWebhook),
        (prepare_test, SendTest),
    ],
)
def test_there_is_no_unknown_one_and_none_of_another_tenant(handler: object, command: type) -> None:
    site = Subscriber()
    webhook = site.subscribe()
    run = site.run
    with pytest.raises(NotFound):
        run(handler, command(id=new_id()))  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        run(handler, command(id=webhook.id), BETA)  # type: ignore[arg-type]
    assert site.webhook(webhook.id) == webhook
