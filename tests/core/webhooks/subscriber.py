"""Webhooks of one administration as a test drives them: step by step, with the receiver's answers in its hand."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from ordersync_core.kernel.paging import PageRequest
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.envelope import EVENTS, WEBHOOKS, Envelope
from ordersync_core.messaging.handlers import relay
from ordersync_core.testing.contracts.databases import ALPHA, all_rows, context
from ordersync_core.testing.contracts.examples import SECOND
from ordersync_core.webhooks.commands import CreateWebhook, FanOut, Prepare, Record, Replay, SendOwedDeliveries
from ordersync_core.webhooks.handlers.again import replay
from ordersync_core.webhooks.handlers.attempts import Recorded, prepare, record
from ordersync_core.webhooks.handlers.fan_out import fan_out
from ordersync_core.webhooks.handlers.subscriptions import create_webhook
from ordersync_core.webhooks.handlers.tickets import send_owed_deliveries
from ordersync_core.webhooks.model import Attempt, Delivery, DeliveryState, EventTypePattern, Webhook
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse
from tests.core.embedded import Embedded

URL = "https://receiver.example/hook"


class Subscriber(Embedded):
    """What the functions do with webhooks, one call at a time; `told` numbers the items that are put."""

    told = 0

    def subscribe(self, *event_types: str) -> Webhook:
        types = tuple(map(EventTypePattern, event_types or ("*",)))
        webhook, _ = self.run(create_webhook, CreateWebhook(url=URL, event_types=types))
        return webhook

    # from changes to deliveries

    def tell(self, count: int = 1) -> list[Envelope]:
        """So many new items, numbered: the messages that stand for their events."""
        first, self.told = self.told + 1, self.told + count
        self.put(*(f"I-{number:04}" for number in range(first, first + count)))
        return self.numbered()

    def numbered(self) -> list[Envelope]:
        self.run(relay, Relay())
        return self.take(EVENTS)

    def fan_out(self, messages: Sequence[Envelope], *, window: int = 100) -> int:
        return self.run(fan_out, FanOut(messages=tuple(messages), window=window))

    def deliver(self, count: int = 1) -> None:
        """So many new events, with their deliveries."""
        self.fan_out(self.tell(count))

    def replay(self, command: Replay, administration: str = ALPHA) -> int:
        return replay(self.application, command, context(administration))

    # from deliveries to attempts

    def send_owed(self, *, window: int = 100) -> int:
        return self.run(send_owed_deliveries, SendOwedDeliveries(window=window))

    def tickets(self) -> list[Envelope]:
        return self.take(WEBHOOKS)

    def prepare(self, messages: Iterable[Envelope]) -> list[WebhookRequest]:
        return self.run(prepare, Prepare(messages=tuple(messages)))

    def requests(self) -> list[WebhookRequest]:
        """What is sent now: the tickets that are owed, and those that lie in the queue."""
        self.send_owed()
        return self.prepare(self.tickets())

    def answer(self, request: WebhookRequest, status: int | None = 200, **fields: Any) -> WebhookResponse:
        error = None if status is not None else "no answer within 15 s"
        now = self.clock.now()
        return WebhookResponse(
            **{"request": request, "started_at": now, "ended_at": now, "status": status, "error": error, **fields}
        )

    def record(self, *responses: WebhookResponse) -> list[Recorded]:
        return self.run(record, Record(responses=responses))

    def attempt(self, status: int | None = 200, **fields: Any) -> list[Recorded]:
        """Send all that is to be sent now; the receiver answers each request in the same way."""
        return self.record(*(self.answer(request, status, **fields) for request in self.requests()))

    def fail_in_a_row(self, times: int = 10) -> None:
        """So many new deliveries, each of which has failed once."""
        self.deliver(times)
        assert len(self.attempt(500)) == times

    def wait_for_ticket(self, delivery: Delivery) -> None:
        """Let time pass until the delivery owes a ticket."""
        ticket_at = self.delivery(delivery.id).ticket_at
        assert ticket_at is not None
        self.pass_time(max(ticket_at - self.clock.now(), timedelta(0)))

    def pass_seconds(self, seconds: int = 1) -> None:
        self.pass_time(seconds * SECOND)

    # what is there

    def webhook(self, id: UUID) -> Webhook:
        found: Webhook | None = self.queries().webhook(id)
        assert found is not None
        return found

    def deliveries(self, webhook: Webhook) -> list[Delivery]:
        """By position."""
        return all_rows(lambda page: self.queries().deliveries(webhook.id, page), limit=PageRequest().limit)

    def states(self, webhook: Webhook) -> list[DeliveryState]:
        return [delivery.state for delivery in self.deliveries(webhook)]

    def delivery(self, id: UUID) -> Delivery:
        delivery, _ = self._with_attempts(id)
        return delivery

    def attempts(self, id: UUID) -> list[Attempt]:
        _, attempts = self._with_attempts(id)
        return attempts

    def only(self, webhook: Webhook) -> Delivery:
        [delivery] = self.deliveries(webhook)
        return delivery

    def _with_attempts(self, id: UUID) -> tuple[Delivery, list[Attempt]]:
        found: tuple[Delivery, list[Attempt]] | None = self.queries().delivery(id)
        assert found is not None
        return found
