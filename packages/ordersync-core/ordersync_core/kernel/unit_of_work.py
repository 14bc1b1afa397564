"""One transaction on one database, and how a handler asks for it.

A feature's slice inherits from `UnitOfWork` (tenant database) or `AdminUnitOfWork` (admin database) and adds
the repositories that its handlers need. Reads without a transaction of their own inherit from `Queries`.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar
from uuid import UUID

from ordersync_core.kernel.change import Change
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.lease import LeaseRepository

T_co = TypeVar("T_co", covariant=True)


class Transaction(Protocol):
    """Leaving the block without `commit()` undoes everything."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def commit(self) -> None:
        """Keep everything done since the block began.

        Raises:
            ChangedMeanwhile: another transaction came first (a deadlock, a serialization failure, or a
                unique key taken by a twin). Nothing was kept; the handler may run again.
        """
        ...

    @property
    def leases(self) -> LeaseRepository: ...


class UnitOfWork(Transaction, Protocol):
    """A transaction on the tenant database of the context's administration.

    What repositories hand out with `find` or `get` is locked until the end of the transaction.
    """

    def tell(self, *changes: Change[Any]) -> None:
        """Keep what is to be told (outbox) and what is to be audited, beside the changes themselves.

        The rows are written last, at `commit`; a change has one id in both.
        """
        ...

    def processed(self, handler: str, message_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Enter the messages into the inbox of `handler`; answers those that stood there already.

        Their effects have happened: the caller leaves them out.
        """
        ...


class AdminUnitOfWork(Transaction, Protocol):
    """A transaction on the admin database."""


class Queries(Protocol):
    """Reads of the tenant database of the context's administration; each call sees a moment of its own."""


class AdminQueries(Protocol):
    """Reads of the admin database."""


class Opens(Protocol[T_co]):
    """For a handler that needs several units of work one after another: each call opens a new one."""

    def __call__(self) -> T_co: ...


class Databases(Protocol):
    """Opens what is bound to a context. One object serves all slices of its kind."""

    def unit_of_work(self, context: Context) -> Any: ...

    def admin_unit_of_work(self, context: Context) -> Any: ...

    def queries(self, context: Context) -> Any: ...

    def admin_queries(self) -> Any: ...
