"""In-memory adapters of the core's database ports, with the rules of the real ones and without durability."""

from ordersync_core.testing.memory.databases import MemoryDatabases, MemoryTenantDatabases
from ordersync_core.testing.memory.heartbeat import MemoryHeartbeat, NoHeartbeat
from ordersync_core.testing.memory.locks import Locks
from ordersync_core.testing.memory.secrets import MemorySecrets

__all__ = ["Locks", "MemoryDatabases", "MemoryHeartbeat", "MemorySecrets", "MemoryTenantDatabases", "NoHeartbeat"]
