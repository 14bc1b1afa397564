"""Builds the Admin shell: the only module here that names adapters and knows the container."""

import asyncio
from contextlib import closing
from datetime import timedelta

from punq import Container

from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.system import SystemClock
from ordersync_adapters.tokens.jwks import JwksKeys
from ordersync_adapters.tokens.local_issuer import KEY_FILE, LOCAL_AUDIENCE, LocalIssuer, LocalKeys
from ordersync_adapters.tokens.verifier import make_verifier
from ordersync_adapters.webhook_sender.sender import AiohttpWebhookSender
from ordersync_adapters.wiring import make_application, prepare_stores, register_adapters
from ordersync_admin.settings import AdminSettings
from ordersync_connectors.wiring import register_connectors
from ordersync_core.kernel.application import Application
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse


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


def send(settings: AdminSettings, request: WebhookRequest) -> WebhookResponse:
    """Send one webhook request and wait for its answer."""

    async def send_and_close() -> WebhookResponse:
        sender = AiohttpWebhookSender(SystemClock(), settings.allow_private_targets)
        try:
            return await sender.send(request)
        finally:
            await sender.close()

    return asyncio.run(send_and_close())


def check_issuer(settings: AdminSettings) -> None:
    """Raises InvalidInput for settings that make no sense, ExternalFailure when the issuer's keys cannot be had."""
    make_verifier(
        issuer=settings.auth_issuer,
        audience=settings.auth_audience,
        jwks=settings.auth_jwks,
        folder=settings.keys_folder,
        clock=SystemClock(),
    )
    if settings.auth_jwks is not None:
        JwksKeys(settings.auth_jwks).current()
    elif (settings.keys_folder / KEY_FILE).exists():
        LocalKeys(settings.keys_folder).current()


def admin_database_is_current(settings: AdminSettings) -> bool:
    """Whether it is at the present revision; NotFound when it is not there."""
    with closing(AdminDatabase(settings.admin_database_url)) as database:
        return database.is_current()


def tenant_database_is_current(settings: AdminSettings, code: str) -> bool:
    """Whether it is at the present revision; NotFound when it is not there."""
    with closing(SqlTenantDatabases(settings.tenant_databases_url)) as databases:
        return databases.is_current(code)
