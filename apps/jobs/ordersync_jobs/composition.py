"""Builds the Jobs shell: the only module here that names adapters and knows the container."""

from punq import Container

from ordersync_adapters.wiring import make_application, register_adapters
from ordersync_connectors.wiring import register_connectors
from ordersync_core.kernel.application import Application
from ordersync_jobs.settings import JobsSettings


def build_application(settings: JobsSettings) -> Application:
    container = Container()
    register_adapters(container, settings)
    register_connectors(container, allow_private_targets=settings.allow_private_targets)
    return make_application(container)
