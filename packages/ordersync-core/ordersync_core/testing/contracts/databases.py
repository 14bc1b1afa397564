"""What the suites over databases share: how to open, to number, to overlap."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from time import sleep
from typing import Any, TypeVar

import orjson
import pytest

from ordersync_core.items.model import Item, put
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.messaging.deduplication import collapse
from ordersync_core.messaging.model import OutboxRow, number_rows
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.examples import NOON, an_item

T = TypeVar("T")

ALPHA = "alpha"
BETA = "beta"

PATIENCE = 60.0
"""Seconds for a thread to end; only a database that breaks its promise takes so long."""


class DatabasesContract:
    """A subclass gives `make_databases`, or overrides the fixture `databases`.

    The two tenants exist, and all else is empty. What is told is stamped by `clock`.
    """

    def make_databases(self, clock: ManualClock) -> Databases:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(NOON)

    @pytest.fixture
    def databases(self, clock: ManualClock) -> Databases:
        return self.make_databases(clock)

    def pass_time(self, clock: ManualClock, duration: timedelta) -> None:
        """Let that much time pass by the databases' own clock; one that cannot be set is waited for."""
        clock.advance(duration)


def context(
    administration: str | None = ALPHA,
    *,
    triggered_by: str = "somebody",
    correlation_id: str = "a correlation",
    traceparent: str | None = None,
) -> Context:
    return Context(
        administration=administration,
        triggered_by=triggered_by,
        correlation_id=correlation_id,
        traceparent=traceparent,
    )


def open_tenant(databases: Databases, administration: str = ALPHA) -> Any:
    """A new unit of work on the tenant's database."""
    return databases.unit_of_work(context(administration))


def open_admin(databases: Databases) -> Any:
    """A new unit of work on the admin database."""
    return databases.admin_unit_of_work(context(None))


def queries(databases: Databases, administration: str = ALPHA) -> Any:
    return databases.queries(context(administration))


def put_items(
    databases: Databases,
    *codes: str,
    administration: str = ALPHA,
    at: datetime = NOON,
    correlation_id: str = "a correlation",
    **fields: Any,
) -> None:
    """Create or change items, and tell it."""
    with databases.unit_of_work(context(administration, correlation_id=correlation_id)) as uow:
        for code in codes:
            put_item(uow, an_item(code, **fields), at=at)
        uow.commit()


def put_item(uow: Any, item: Item, *, at: datetime = NOON) -> None:
    change = put(uow.items.find(item.code), item, at=at)
    if change is not None and change.after is not None:
        uow.items.save([change.after])
        uow.tell(change)


def told(databases: Databases, administration: str = ALPHA) -> list[OutboxRow]:
    """What waits for its number, in order."""
    with open_tenant(databases, administration) as uow:
        rows: list[OutboxRow] = uow.outbox.unnumbered(10_000)
        return rows


def number(
    databases: Databases,
    *,
    administration: str = ALPHA,
    limit: int = 10_000,
    ticket_at: datetime = NOON,
) -> list[OutboxRow]:
    """Number the oldest waiting rows as the relay does, in one transaction; answers the survivors as they are kept."""
    with open_tenant(databases, administration) as uow:
        last_number = uow.outbox.lock_numbering()
        collapsed = collapse(uow.outbox.unnumbered(limit))
        numbering = number_rows(
            collapsed.survivors, collapsed.absorbed, last_number=last_number, administration=administration
        )
        uow.outbox.number(numbering, ticket_at=ticket_at)
        uow.commit()
    return numbered(databases, [row.id for row in numbering.numbered], administration)


def numbered(databases: Databases, ids: Sequence[Any], administration: str = ALPHA) -> list[OutboxRow]:
    with open_tenant(databases, administration) as uow:
        rows: list[OutboxRow] = uow.outbox.find(ids)
        return rows


def all_rows(read: Callable[[PageRequest], Page[T]], *, limit: int) -> list[T]:
    """Every row of a list, page by page; the position travels as a cursor does."""
    rows: list[T] = []
    after: tuple[Any, ...] | None = None
    while True:
        page = read(PageRequest(limit=limit, after=after))
        assert len(page.rows) <= limit
        rows += page.rows
        if page.next is None:
            return rows
        after = tuple(orjson.loads(orjson.dumps(list(page.next))))


def together(*jobs: Callable[[], T]) -> list[T]:
    """Run them in threads of their own that begin at the same time; answers what they gave, in order."""
    barrier = Barrier(len(jobs))

    def run(job: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, job) for job in jobs]]


def retried(job: Callable[[], T], *, tries: int = 20) -> T:
    """As `application.run` does, with more patience: the suites are about what is kept, not about how soon."""
    for _ in range(tries - 1):
        try:
            return job()
        except ChangedMeanwhile:
            continue
    return job()


def hesitate() -> None:
    """Give the others a chance to come in between; what is asserted holds whether they do or not."""
    sleep(0.005)
