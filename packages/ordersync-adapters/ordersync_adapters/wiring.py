"""Which adapter stands behind which port. Only wiring and composition modules know the container."""

from punq import Container, Scope

from ordersync_adapters.blobs.file import FileBlobs
from ordersync_adapters.queues.sql import SqlQueues
from ordersync_adapters.secrets.fernet import FernetSecrets, make_key_file
from ordersync_adapters.settings import Settings
from ordersync_adapters.sql.tenants import SqlTenantDatabases
from ordersync_adapters.sql.unit_of_work import SqlDatabases
from ordersync_adapters.system import SystemClock, SystemIds, ThreadHeartbeat
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
