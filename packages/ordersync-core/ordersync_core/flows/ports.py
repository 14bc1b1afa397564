from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from uuid import UUID

from ordersync_core.connections.ports import ConnectionRepository
from ordersync_core.flows.model import Execution, Flow, FlowKind, KnownRecord, Quarantined, RawRecord, Stored
from ordersync_core.items.model import Item
from ordersync_core.items.ports import ItemRepository
from ordersync_core.kernel.paging import Page, PageRequest
from ordersync_core.kernel.unit_of_work import Queries, UnitOfWork


class FlowRepository(Protocol):
    def find(self, kind: FlowKind) -> Flow | None:
        """Locked."""
        ...

    def save(self, flow: Flow) -> None: ...


class ExecutionRepository(Protocol):
    """The execution log."""

    def find(self, run_id: UUID) -> Execution | None:
        """Locked."""
        ...

    def save(self, execution: Execution) -> None: ...


class RawRepository(Protocol):
    """The records of one connection as its source sent them, in the connector's own schema, and the cursor.

    Of what the source removed, the version of the tombstone is kept also when the record is gone.
    """

    def cursor(self) -> Mapping[str, Any] | None: ...

    def save_cursor(self, cursor: Mapping[str, Any] | None) -> None: ...

    def stored(self, keys: Sequence[str]) -> Stored: ...

    def save(self, records: Sequence[RawRecord]) -> None:
        """Add or replace them."""
        ...

    def mark(self, records: Sequence[KnownRecord]) -> None:
        """Replace what is known of stored records, and leave their raw record as it is."""
        ...

    def tombstones(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The version in which the source removed each of them; a key that it never removed is left out."""
        ...

    def save_tombstones(self, versions: Mapping[str, int]) -> None:
        """Add or replace them, by key."""
        ...

    def waiting(self, keys: Sequence[str]) -> list[RawRecord]:
        """Those of the stored records, not dropped, that are in quarantine, or whose content was not built yet."""
        ...

    def unapplied(self, flow_version: int, limit: int) -> list[RawRecord]:
        """Stored records, not dropped, whose last build was of other content or for another version of the flow."""
        ...

    def holders(self, codes: Sequence[str]) -> Mapping[str, str]:
        """For each of the codes that stored records were built into: the key of that record. What the source dropped
        holds no code any more."""
        ...

    def drop(self, keys: Sequence[str]) -> int:
        """Mark stored records as dropped by the source; answers how many were not so already."""
        ...

    def dropped(self, limit: int) -> list[KnownRecord]: ...

    def count(self) -> tuple[int, int]:
        """Stored records, and how many of them are dropped."""
        ...

    def delete(self, keys: Sequence[str]) -> None: ...

    def reset_applied(self, keys: Sequence[str]) -> int:
        """Forget that they were built or quarantined, so that the next run builds them; answers how many."""
        ...


class QuarantineRepository(Protocol):
    def save(self, kind: FlowKind, entries: Sequence[Quarantined]) -> None:
        """Add or replace; `since` of an entry that is there already stays."""
        ...

    def clear(self, kind: FlowKind, keys: Sequence[str]) -> None: ...

    def keys(self, kind: FlowKind) -> list[str]: ...


class FlowsUnitOfWork(UnitOfWork, Protocol):
    @property
    def flows(self) -> FlowRepository: ...

    @property
    def connections(self) -> ConnectionRepository: ...

    @property
    def executions(self) -> ExecutionRepository: ...

    @property
    def quarantine(self) -> QuarantineRepository: ...

    @property
    def items(self) -> ItemRepository: ...

    def raw(self, connector: str, connection_id: UUID, entity: str) -> RawRepository: ...


class KeysSeen(Protocol):
    """The keys that one complete read has brought so far. It vanishes with its block, committed or not."""

    def add(self, keys: Sequence[str]) -> None: ...

    def missing(self, limit: int) -> Iterator[list[str]]:
        """Stored, undropped records whose key was not seen, at most `limit` at a time."""
        ...


class FlowReads(Queries, Protocol):
    def keys_seen(self, connector: str, connection_id: UUID, entity: str) -> AbstractContextManager[KeysSeen]: ...


class FlowQueries(Queries, Protocol):
    def flow(self, kind: FlowKind) -> Flow | None: ...

    def quarantine(self, kind: FlowKind, page: PageRequest) -> Page[Quarantined]:
        """By key."""
        ...

    def executions(self, kind: FlowKind, page: PageRequest) -> Page[Execution]:
        """The newest first, by (started_at, run id): the ids of scheduled runs do not rise."""
        ...

    def execution(self, run_id: UUID) -> Execution | None: ...


class ItemMapping(Protocol):
    def __call__(self, raw: Mapping[str, Any], settings: Mapping[str, Any]) -> Item:
        """An item from a source record; InvalidInput naming what is wrong with it."""
        ...


class Mappings(Protocol):
    def item(self, connector: str) -> ItemMapping:
        """KeyError when the connector supplies no items."""
        ...
