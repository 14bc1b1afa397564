from datetime import datetime
from uuid import UUID

from ordersync_core.audit.model import AuditEntry
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.testing.memory.pages import page_of
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table

AUDIT = Table[UUID, AuditEntry]("audit_entries")


class MemoryAuditQueries:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def audit_entries(
        self, page: PageRequest, *, entity_type: str | None = None, key: str | None = None
    ) -> Page[AuditEntry]:
        wanted = [
            entry
            for entry in self._database.rows(AUDIT).values()
            if entity_type in (None, entry.entity_type) and key in (None, entry.key)
        ]
        return page_of(wanted, page, lambda entry: (entry.at, entry.id), datetime.fromisoformat, UUID, descending=True)
