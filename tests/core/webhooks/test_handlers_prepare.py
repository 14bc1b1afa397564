"""From messages to requests: what is sent, signed how, and what is not sent any more."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import evolve

from ordersync_core.messaging.envelope import Envelope
from ordersync_core.testing.contracts.databases import ALPHA, BETA, context
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, new_id
from ordersync_core.webhooks.commands import (
    Backlog,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    Prepare,
    RotateSecret,
    SendTest,
)
from ordersync_core.webhooks.handlers.attempts import prepare
from ordersync_core.webhooks.handlers.subscriptions import (
    create_webhook,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    prepare_test,
    rotate_secret,
)
from ordersync_core.webhooks.model import DeliveryState, EventTypePattern, Webhook
from ordersync_core.webhooks.ports import WebhookRequest
from ordersync_core.webhooks.signing import SignatureRefused, verify
from tests.core.embedded import sqlite_databases
from tests.core.webhooks.subscriber import URL, Subscriber


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subscriber]:
    if request.param == "memory":
        yield Subscriber()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Subscriber(databases)


def subscribe(site: Subscriber) -> tuple[Webhook, str]:
    """The webhook and its secret."""
    return site.run(create_webhook, CreateWebhook(url=URL, event_types=(EventTypePattern("*"),)))


def accepts(request: WebhookRequest, secret: str, site: Subscriber) -> bool:
    """What a receiver that holds this one secret says of the request."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        verify([secret], headers, request.body, now=site.clock.now())
    except SignatureRefused:
        return False
    return True


class TestRequest:
    def test_says_what_happened_to_whom_and_why(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.put("A", triggered_by="auth0|7", traceparent="00-abc-def-01")
        site.put("A", name="another name", triggered_by="auth0|8", traceparent="00-abc-fed-01")
        [message] = site.numbered()
        site.fan_out([message])

        [request] = site.requests()

        delivery = site.only(webhook)
        assert (request.delivery_id, request.webhook_id, request.attempt) == (delivery.id, webhook.id, 1)
        assert request.url == URL
        body = orjson.loads(request.body)
        assert body == {
            "type": "item.created",
            "timestamp": "2026-03-02T12:00:00.000000Z",
            "id": str(message.id),
            "sequence": 1,
            "administration": "alpha",
            "triggered_by": "auth0|8",
            "data": {"code": "A", "item": body["data"]["item"], "changed": [], "before": {}},
        }
        assert body["data"]["item"]["name"] == {"en": "another name"}
        signature = request.headers["webhook-signature"]
        assert dict(request.headers) == {
            "content-type": "application/json",
            "webhook-id": str(message.id),
            "webhook-timestamp": str(int(NOON.timestamp())),
            "webhook-signature": signature,
            "X-Event-Id": str(message.id),
            "X-Event-Type": "item.created",
            "X-Webhook-Position": "1",
            "X-Administration-Code": "alpha",
            "X-TriggeredBy-Id": "auth0|8",
            "traceparent": "00-abc-fed-01",
        }
        assert signature.startswith("v1,")

    def test_has_no_traceparent_where_nobody_traced(self, site: Subscriber) -> None:
        subscribe(site)
        site.deliver()
        [request] = site.requests()
        assert "traceparent" not in request.headers

    def test_has_the_same_id_and_the_same_bytes_on_every_attempt(self, site: Subscriber) -> None:
        webhook, secret = subscribe(site)
        site.deliver()
        sent = []
        for _ in range(16):
            [request] = site.requests()
            sent.append(request)
            assert accepts(request, secret, site)
            site.record(site.answer(request, 500))
            if site.only(webhook).ticket_at is not None:
                site.wait_for_ticket(site.only(webhook))

        assert [request.attempt for request in sent] == list(range(1, 17))
        assert len({request.headers["webhook-id"] for request in sent}) == 1
        assert len({request.headers["X-Webhook-Position"] for request in sent}) == 1
        assert len({request.body for request in sent}) == 1
        assert len({request.headers["webhook-timestamp"] for request in sent}) == 16
        assert len({request.headers["webhook-signature"] for request in sent}) == 16

    def test_has_the_same_bytes_for_every_webhook(self, site: Subscriber) -> None:
        secrets = [secret for _, secret in (subscribe(site), subscribe(site))]
        site.deliver()
        first, second = site.requests()
        assert first.body == second.body
        signed_by = sorted([accepts(request, secret, site) for secret in secrets] for request in (first, second))
        assert signed_by == [[False, True], [True, False]]

    def test_carries_the_bytes_of_its_event_though_the_item_has_changed_since(self, site: Subscriber) -> None:
        subscribe(site)
        site.deliver()
        site.put("I-0001", name="changed since")
        [request] = site.requests()
        assert orjson.loads(request.body)["data"]["item"]["name"] == {"en": "Item I-0001"}


class TestRotation:
    def test_both_secrets_hold_until_the_next_one(self, site: Subscriber) -> None:
        webhook, first = subscribe(site)
        rotated, second = site.run(rotate_secret, RotateSecret(id=webhook.id))
        assert len(rotated.secrets) == 2
        site.deliver()
        [request] = site.requests()
        assert request.headers["webhook-signature"].count("v1,") == 2
        assert accepts(request, first, site)
        assert accepts(request, second, site)

        _, third = site.run(rotate_secret, RotateSecret(id=webhook.id))
        site.deliver()
        *_, request = site.requests()
        assert [accepts(request, secret, site) for secret in (first, second, third)] == [False, True, True]

    def test_a_retry_is_signed_with_what_holds_by_then(self, site: Subscriber) -> None:
        webhook, first = subscribe(site)
        site.deliver()
        site.attempt(500)
        _, second = site.run(rotate_secret, RotateSecret(id=webhook.id))
        _, third = site.run(rotate_secret, RotateSecret(id=webhook.id))
        site.wait_for_ticket(site.only(webhook))
        [request] = site.requests()
        assert [accepts(request, secret, site) for secret in (first, second, third)] == [False, True, True]

    def test_a_body_of_another_is_refused(self, site: Subscriber) -> None:
        _, secret = subscribe(site)
        site.deliver(2)
        one, other = site.requests()
        assert accepts(one, secret, site)
        assert not accepts(evolve(one, body=other.body), secret, site)
        site.pass_time(6 * MINUTE)
        assert not accepts(one, secret, site)


class TestNothingToDo:
    """A message whose delivery has moved on is completed without work."""

    def test_for_an_attempt_that_was_made(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.deliver()
        tickets = site.tickets()
        site.record(*(site.answer(request, 500) for request in site.prepare(tickets)))
        before = site.only(webhook)

        assert site.prepare(tickets) == []

        assert site.only(webhook) == before

    def test_for_an_attempt_that_is_not_due_yet(self, site: Subscriber) -> None:
        subscribe(site)
        site.deliver()
        [ticket] = site.tickets()
        assert site.prepare([evolve(ticket, body={**ticket.body, "attempt": 2})]) == []

    @pytest.mark.parametrize("status", [200, 413])
    def test_for_one_that_has_ended(self, site: Subscriber, status: int) -> None:
        subscribe(site)
        site.deliver()
        tickets = site.tickets()
        site.record(*(site.answer(request, status) for request in site.prepare(tickets)))
        assert site.prepare(at_attempt(2, tickets)) == []

    def test_for_a_parked_one_and_it_is_no_attempt(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.deliver()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        assert site.prepare(site.tickets()) == []
        delivery = site.only(webhook)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PARKED, 0)

    def test_for_a_cancelled_one(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.deliver()
        site.run(disable_webhook, DisableWebhook(id=webhook.id))
        site.run(enable_webhook, EnableWebhook(id=webhook.id, backlog=Backlog.CANCEL_PARKED))
        assert site.prepare(site.tickets()) == []

    def test_for_one_whose_webhook_is_gone(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.deliver()
        site.run(delete_webhook, DeleteWebhook(id=webhook.id))
        assert site.prepare(site.tickets()) == []

    def test_for_one_that_never_was(self, site: Subscriber) -> None:
        subscribe(site)
        site.deliver()
        [ticket] = site.tickets()
        assert site.prepare([evolve(ticket, body={"delivery": str(new_id()), "attempt": 1})]) == []

    def test_for_another_tenant_s(self, site: Subscriber) -> None:
        subscribe(site)
        site.deliver()
        assert site.run(prepare, Prepare(messages=tuple(site.tickets())), BETA) == []

    def test_the_others_of_the_batch_are_sent(self, site: Subscriber) -> None:
        subscribe(site)
        site.deliver(3)
        first, *others = site.tickets()
        site.record(*(site.answer(request) for request in site.prepare([first])))
        assert [request.delivery_id for request in site.prepare([first, *others])] == [t.id for t in others]

    def test_while_the_breaker_is_open_and_it_is_no_attempt(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.deliver(12)
        tickets = site.tickets()
        site.record(*(site.answer(request, 500) for request in site.prepare(tickets[:10])))
        assert site.webhook(webhook.id).health.is_open

        assert site.prepare(tickets[10:]) == []

        late = site.deliveries(webhook)[10:]
        assert [(d.state, d.attempts, d.ticket_at, d.tickets) for d in late] == [
            (DeliveryState.WAITING, 0, None, 0),
            (DeliveryState.WAITING, 0, None, 0),
        ]

    def test_of_tickets_from_before_the_breaker_opened_only_the_probe_s_counts(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        site.deliver(11)
        tickets = site.tickets()
        site.record(*(site.answer(request, 500) for request in site.prepare(tickets[1:])))
        assert site.webhook(webhook.id).health.is_open

        [probe] = site.prepare(tickets)

        assert probe.headers["X-Webhook-Position"] == "1"
        assert [d.ticket_at is not None for d in site.deliveries(webhook)] == [True] + [False] * 10


class TestBetweenReadingAndLocking:
    """A breaker is open, so the deliveries are looked at once more under locks."""

    def test_a_probe_that_was_parked_is_not_sent(self, site: Subscriber) -> None:
        webhook, tickets = with_open_breaker(site)

        sent = prepare_while(site, tickets, lambda: site.run(disable_webhook, DisableWebhook(id=webhook.id)))

        assert sent == []
        assert set(site.states(webhook)) == {DeliveryState.PARKED}

    def test_a_probe_whose_ticket_was_noted_is_sent(self, site: Subscriber) -> None:
        webhook, tickets = with_open_breaker(site)
        site.pass_time(MINUTE)

        [probe] = prepare_while(site, tickets, site.send_owed)

        assert probe.headers["X-Webhook-Position"] == "1"
        assert site.deliveries(webhook)[0].tickets == 2


def with_open_breaker(site: Subscriber) -> tuple[Webhook, list[Envelope]]:
    """A webhook whose first delivery is to probe, and the tickets of all from before."""
    webhook, _ = subscribe(site)
    site.deliver(11)
    tickets = site.tickets()
    site.record(*(site.answer(request, 500) for request in site.prepare(tickets[1:])))
    return webhook, tickets


def prepare_while(site: Subscriber, tickets: Sequence[Envelope], act: Callable[[], object]) -> list[WebhookRequest]:
    """Prepare them; once the waiting deliveries were read, `act` happens."""
    return prepare(
        Prepare(messages=tuple(tickets)),
        queries=Interrupted(site.queries(), act),
        uow=site.databases.unit_of_work(context(ALPHA)),
        secrets=site.secrets,
        clock=site.clock,
        context=context(ALPHA),
    )


class Interrupted:
    def __init__(self, queries: Any, act: Callable[[], object]) -> None:
        self._queries = queries
        self._act = act

    def waiting(self, ids: Sequence[UUID]) -> Any:
        found = self._queries.waiting(ids)
        self._act()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queries, name)


def at_attempt(number: int, tickets: Sequence[Envelope]) -> list[Envelope]:
    return [evolve(ticket, body={**ticket.body, "attempt": number}) for ticket in tickets]


class TestTest:
    def test_is_signed_and_outside_the_webhook_s_count(self, site: Subscriber) -> None:
        webhook, secret = subscribe(site)

        request = site.run(prepare_test, SendTest(id=webhook.id))

        assert accepts(request, secret, site)
        assert (request.webhook_id, request.url) == (webhook.id, URL)
        assert request.headers["X-Event-Type"] == "webhook.test"
        assert "X-Webhook-Position" not in request.headers
        body = orjson.loads(request.body)
        assert (body["type"], body["id"]) == ("webhook.test", request.headers["webhook-id"])
        assert site.deliveries(webhook) == []
        assert site.webhook(webhook.id) == webhook

    def test_has_an_id_of_its_own_each_time(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        ids = {site.run(prepare_test, SendTest(id=webhook.id)).headers["webhook-id"] for _ in range(3)}
        assert len(ids) == 3

    def test_is_made_for_a_disabled_one_too_and_its_result_changes_nothing(self, site: Subscriber) -> None:
        webhook, _ = subscribe(site)
        disabled = site.run(disable_webhook, DisableWebhook(id=webhook.id))
        request = site.run(prepare_test, SendTest(id=webhook.id))
        [recorded] = site.record(site.answer(request, 410, ended_at=NOON + timedelta(days=1) + SECOND))
        assert recorded.dead is None
        assert site.webhook(webhook.id) == disabled
