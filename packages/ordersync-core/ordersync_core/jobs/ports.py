from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ordersync_core.jobs.model import JobDefinition, JobRun, Progress, RunState, UnknownJob
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import AdminQueries, AdminUnitOfWork
from ordersync_core.messaging.tickets import Ticketed


class JobDefinitionRepository(Protocol):
    def add(self, definition: JobDefinition) -> None: ...

    def find(self, id: UUID) -> JobDefinition | None: ...

    def due(self, now: datetime, limit: int) -> Sequence[JobDefinition | UnknownJob]:
        """Those whose `next_due` has come, the most overdue first; locked, what others hold is passed over."""
        ...

    def move_on(self, definitions: Sequence[JobDefinition | UnknownJob]) -> None:
        """Write their `next_due`, and nothing else of them."""
        ...

    def delete(self, id: UUID) -> bool: ...


class JobRunRepository(Protocol):
    def add(self, runs: Sequence[JobRun]) -> list[JobRun]:
        """Add those that are not there yet (by id, and by definition and due moment); answers them."""
        ...

    def find(self, id: UUID) -> JobRun | None:
        """Locked."""
        ...

    def save(self, run: JobRun) -> None: ...

    def owed(self, now: datetime, limit: int) -> list[JobRun]:
        """Runs that have not ended and whose `ticket_at` has come."""
        ...

    def stuck(self, tickets: int, limit: int) -> list[JobRun]:
        """Runs that have not ended although at least so many tickets were sent for them, by `ticket_at`."""
        ...

    def ticketed(self, tickets: Sequence[Ticketed]) -> None: ...

    def waiting_for(self, administration: str, holder: str) -> list[JobRun]:
        """The oldest first, locked."""
        ...


class JobsUnitOfWork(AdminUnitOfWork, Protocol):
    @property
    def definitions(self) -> JobDefinitionRepository: ...

    @property
    def runs(self) -> JobRunRepository: ...


class JobQueries(AdminQueries, Protocol):
    """Every read names the administration: the admin database holds those of all."""

    def runs(self, administration: str, page: PageRequest, *, state: RunState | None = None) -> Page[JobRun]:
        """The newest first, by (created_at, id): the ids of scheduled runs do not rise."""
        ...

    def run(self, administration: str, id: UUID) -> JobRun | None: ...

    def definitions(self, administration: str) -> Sequence[JobDefinition]: ...


class RunProgress(Protocol):
    """How a job tells how far it is. It may be called often; it writes at most every second or so."""

    def tell(self, progress: Progress) -> None:
        """Raises RunCancelled when somebody cancelled the run, LeaseLost when another process took it over."""
        ...
