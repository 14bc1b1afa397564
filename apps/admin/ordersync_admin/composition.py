"""Builds the Admin shell: the only module here that names adapters and knows the container."""

from datetime import timedelta

from punq import Container

from ordersync_adapters.tokens.local_issuer import LOCAL_AUDIENCE, LocalIssuer
from ordersync_adapters.wiring import make_application, prepare_stores, register_adapters
from ordersync_admin.settings import AdminSettings
from ordersync_connectors.wiring import register_connectors
from ordersync_core.kernel.application import Application


def build_application(settings: AdminSettings) -> Application:
    container = Container()
    register_adapters(container, settings)
    register_connectors(container, allow_private_targets=settings.allow_private_targets)
    return make_application(container)


def prepare(settings: AdminSettings) -> None:
    """Make the state folder, the admin database and the queues, as far as they are not there or not up to date."""
    prepare_stores(settings)


def issue_token(settings: AdminSettings, subject: str, *, lifetime: timedelta) -> str:
    issuer = LocalIssuer(settings.keys_folder)
    return issuer.issue(subject, lifetime=lifetime, audience=settings.auth_audience or LOCAL_AUDIENCE)
