from typing import Protocol

from ordersync_core.audit.model import AuditEntry
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import Queries


class AuditQueries(Queries, Protocol):
    def audit_entries(
        self, page: PageRequest, *, entity_type: str | None = None, key: str | None = None
    ) -> Page[AuditEntry]:
        """The newest first, by (moment, id)."""
        ...
