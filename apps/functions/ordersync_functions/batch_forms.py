"""The queue functions in the form that takes many messages at once, which the local host runs in their place."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ordersync_core.messaging.queue import Queue
from ordersync_functions import delivery_pool, events_consumer
from ordersync_functions.claims import Intake
from ordersync_functions.parts import Parts

EVENTS_THREADS: Final = 8
DELIVERY_THREADS: Final = 32
"""More than a few, for each administration whose database does not answer holds one of them up."""


async def handle_events(parts: Parts, queue: Queue, stop: asyncio.Event) -> None:
    intake = Intake(queue, parts.administrations, name="events", capacity=events_consumer.CAPACITY)
    with ThreadPoolExecutor(EVENTS_THREADS, thread_name_prefix="events") as threads:
        await events_consumer.EventsConsumer(parts.application, intake, threads, stop, parts.wake).run()


async def deliver_webhooks(parts: Parts, queue: Queue, stop: asyncio.Event) -> None:
    intake = Intake(queue, parts.administrations, name="webhooks", capacity=delivery_pool.CAPACITY)
    with ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="webhooks") as threads:
        pool = delivery_pool.DeliveryPool(
            parts.application, intake, parts.sender, parts.clock, threads, stop, parts.wake
        )
        await pool.run()


BATCH_FORMS: Final[Mapping[str, Callable[[Parts, Queue, asyncio.Event], Coroutine[Any, Any, None]]]] = {
    "handle_event": handle_events,
    "deliver_webhook": deliver_webhooks,
}
