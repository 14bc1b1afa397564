"""Which adapter stands behind which port. Only wiring and composition modules know the container."""

import atexit
from typing import Any

from punq import Container, Scope

from ordersync_adapters.blobs.file import FileBlobs
from ordersync_adapters.queues.sql import SqlQueues, create_queue_tables
from ordersync_adapters.secrets.fernet import FernetSecrets, make_key_file
from ordersync_adapters.settings import Settings
from ordersync_adapters.sql.tenants import AdminDatabase, SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds, ThreadHeartbeat
from ordersync_adapters.wake.notifier import WakeNotifier
from ordersync_adapters.webhook_sender.process import ProcessWebhookSender
from ordersync_adapters.webhook_sender.sender import AiohttpWebhookSender, UrlTargetPolicy
from ordersync_core.administrations.ports import TenantDatabases
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.blobs import Blobs
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Heartbeat
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.ports import RetryPolicy, TargetPolicy, WebhookSender

_SECRET_KEY_FILE = "secrets.key"


def register_adapters(container: Container, settings: Settings) -> None:
    """Everything that the core asks for but connectors. Nothing is opened before it is used.

    Raises:
        InvalidInput: the settings name a secret key that is none.
    """
    clock, ids = SystemClock(), SystemIds()
    notifier = WakeNotifier(clock)
    tenants = SqlTenantDatabases(settings.tenant_databases_url)
    databases = SqlDatabases(
        AdminDatabase(settings.admin_database_url), tenants, clock=clock, ids=ids, on_commit=notifier.notify
    )
    adapters: dict[Any, Any] = {
        Clock: clock,
        Ids: ids,
        Heartbeat: ThreadHeartbeat(),
        Databases: databases,
        TenantDatabases: tenants,
        WakeNotifier: notifier,
        Queues: SqlQueues(settings.queues_url),
        RetryPolicy: RetryPolicy(delays=settings.retry_delays),
        TargetPolicy: UrlTargetPolicy(settings.allow_private_targets),
        WebhookSender: (ProcessWebhookSender if settings.sender_process else AiohttpWebhookSender)(
            clock, settings.allow_private_targets
        ),
    }
    for port, adapter in adapters.items():
        container.register(port, instance=adapter)
    # these make their folder or key file, which whoever needs neither must not
    container.register(Blobs, factory=lambda: FileBlobs(settings.blobs_folder), scope=Scope.singleton)
    container.register(Secrets, factory=lambda: FernetSecrets(secret_keys(settings)), scope=Scope.singleton)
    if settings.secret_keys:
        container.resolve(Secrets)  # settings that name something else than keys stop the start


def make_application(container: Container) -> Application:
    """The application of a process; its wake-up hints are written beside its work until the process ends."""
    application = Application(resolve=container.resolve, databases=container.resolve(Databases))
    notifier: WakeNotifier = container.resolve(WakeNotifier)
    notifier.start(application)
    atexit.register(notifier.close)
    return application


def prepare_stores(settings: Settings) -> None:
    """Make the state folder, the admin database and the queues, as far as they are not there or not up to date."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    admin = AdminDatabase(settings.admin_database_url)
    admin.create()
    admin.migrate()
    admin.close()
    create_queue_tables(settings.queues_url)
    secret_keys(settings)


def secret_keys(settings: Settings) -> tuple[str, ...]:
    """Those of the settings, or the one of the state folder, made once."""
    return settings.secret_keys or (make_key_file(settings.keys_folder / _SECRET_KEY_FILE),)
