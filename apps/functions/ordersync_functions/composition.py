"""Builds the Functions shell: the only module here that names adapters and knows the container."""

import secrets
from datetime import timedelta
from functools import cache
from pathlib import Path

from punq import Container

from ordersync_adapters.settings import load
from ordersync_adapters.system import make_once
from ordersync_adapters.wake.notifier import WakeNotifier
from ordersync_adapters.wake.watcher import watch
from ordersync_adapters.webhook_sender.process import ProcessWebhookSender
from ordersync_adapters.webhook_sender.sender import AiohttpWebhookSender
from ordersync_adapters.wiring import make_application, register_adapters
from ordersync_connectors.wiring import register_connectors
from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.ports import WebhookSender
from ordersync_functions.administrations import ActiveAdministrations
from ordersync_functions.parts import Parts
from ordersync_functions.publish import Publisher
from ordersync_functions.settings import FunctionsSettings

FUNCTION_KEY_FILE = "functions.key"


@cache
def parts() -> Parts:
    """Those of this process, by its environment; InvalidInput for settings that make no sense."""
    return build_parts(load(FunctionsSettings))


def build_parts(settings: FunctionsSettings) -> Parts:
    container = Container()
    register_adapters(container, settings)
    register_connectors(container, allow_private_targets=settings.allow_private_targets)
    application = make_application(container)
    clock: Clock = container.resolve(Clock)
    notifier: WakeNotifier = container.resolve(WakeNotifier)
    sender: AiohttpWebhookSender | ProcessWebhookSender = container.resolve(WebhookSender)
    administrations = ActiveAdministrations(application)
    publisher = Publisher(application, administrations, clock, sweep=settings.sweep)

    def close() -> None:
        publisher.close()
        notifier.close()

    return Parts(
        application=application,
        queues=container.resolve(Queues),
        sender=sender,
        clock=clock,
        administrations=administrations,
        publisher=publisher,
        watcher=lambda: watch(settings.admin_database_url),
        wake=notifier.notify,
        dead_letters_kept=timedelta(days=settings.retention.dead_letters),
        open_sender=sender.open,
        close_sender=sender.close,
        close=close,
    )


def function_key(folder: Path) -> str:
    """What HTTP functions of auth level `function` want, as on Azure: in `x-functions-key` or `?code=`. Made the first
    time, readable by its owner only."""
    path = folder / FUNCTION_KEY_FILE
    make_once(path, lambda: secrets.token_urlsafe(32).encode())
    return path.read_text().strip()
