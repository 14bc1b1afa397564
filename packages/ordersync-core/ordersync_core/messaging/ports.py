from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from attrs import frozen

from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import AdminUnitOfWork, Queries, UnitOfWork
from ordersync_core.messaging.model import Numbering, OutboxRow
from ordersync_core.messaging.tickets import Ticketed


@frozen(kw_only=True)
class Feed:
    """Where an administration's numbering stands.

    epoch: changes when its database is restored, so that an old place in the feed is known as such.
    """

    epoch: UUID
    last_number: int


class OutboxRepository(Protocol):
    def lock_numbering(self) -> int:
        """The last number given; held by this transaction alone until it ends."""
        ...

    def unfinished(self, limit: int) -> int:
        """How many numbered rows have no outcome yet, counted up to `limit`: the part of the window that is taken."""
        ...

    def unnumbered(self, limit: int) -> list[OutboxRow]:
        """The oldest visible rows without a number, in order of insertion."""
        ...

    def number(self, numbering: Numbering, *, ticket_at: datetime) -> None:
        """Write the survivors as they are now, and mark the absorbed."""
        ...

    def owed(self, now: datetime, limit: int) -> list[OutboxRow]:
        """Numbered rows without outcome whose `ticket_at` has come, by number."""
        ...

    def ticketed(self, tickets: Sequence[Ticketed]) -> None: ...

    def find(self, ids: Sequence[UUID]) -> list[OutboxRow]:
        """Numbered rows by id, by number; locked."""
        ...

    def handled(self, ids: Sequence[UUID], at: datetime) -> None:
        """Every handler has run: no further ticket is owed."""
        ...

    def owe_again(self, ids: Sequence[UUID], at: datetime) -> None:
        """Forget the outcome and owe a ticket at `at`: a resubmission."""
        ...

    def earliest_ticket_at(self) -> datetime | None:
        """The next moment at which any row of the tenant (outbox or delivery) owes a ticket; None when none does.

        A row without a number owes one at once.
        """
        ...


class MessagingUnitOfWork(UnitOfWork, Protocol):
    @property
    def outbox(self) -> OutboxRepository: ...


class EventQueries(Queries, Protocol):
    def feed(self) -> Feed: ...

    def events(self, page: PageRequest, *, types: Collection[str] = ()) -> Page[dict[str, Any]]:
        """Numbered events after `page.after[0]`, as their webhook bodies.

        types: exact event types, or none for all.
        """
        ...

    def oldest_number(self) -> int | None:
        """The lowest number that is still kept; None when the feed is empty."""
        ...

    def trace(self, event_id: UUID) -> dict[str, Any] | None:
        """One event's whole way: the outbox row, what absorbed it, its deliveries and their attempts."""
        ...


class WakeRepository(Protocol):
    """The admin table that names who has work. A hint: losing a row costs a wait until the sweep."""

    def wake(self, due: dict[str, datetime]) -> None:
        """Keep for each administration the earlier of the moment given and the one already there."""
        ...

    def take_due(self, now: datetime) -> list[str]:
        """The administrations that are due; their rows are gone once this is committed. A row that another transaction
        holds is passed over: who takes it does the work, and who writes it makes it due again."""
        ...


class WakeUnitOfWork(AdminUnitOfWork, Protocol):
    @property
    def wake(self) -> WakeRepository: ...
