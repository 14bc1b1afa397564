"""Flows: how one kind of data moves, and what one run of it did."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from attrs import evolve, field, frozen

from ordersync_core.kernel.errors import InvalidInput, Violation
from ordersync_core.kernel.moments import rfc3339


class FlowKind(StrEnum):
    """The entity that a flow moves; an administration has one flow of each kind."""

    ITEM = "item"


@frozen(kw_only=True)
class Guard:
    """How many deletions one run may apply without a person's confirmation: max(floor, ratio x known).

    Raises:
        InvalidInput: the floor is below 0, or the ratio is no share from 0 to 1.
    """

    floor: int = 10
    ratio: Decimal = Decimal("0.10")

    def __attrs_post_init__(self) -> None:
        violations = []
        if self.floor < 0:
            violations.append(Violation("/floor", "must be at least 0"))
        if not (self.ratio.is_finite() and 0 <= self.ratio <= 1):
            violations.append(Violation("/ratio", "must be a share from 0 to 1, such as 0.10"))
        if violations:
            rules = "; ".join(f"{violation.pointer[1:]} {violation.message}" for violation in violations)
            raise InvalidInput(f"of the guard {rules}", tuple(violations))

    def allows(self, deletions: int, *, known: int) -> bool:
        return deletions <= max(Decimal(self.floor), self.ratio * known)


@frozen(kw_only=True)
class Step:
    """A connection and the aspects that it supplies."""

    connection_id: UUID
    aspects: tuple[str, ...]


@frozen(kw_only=True)
class Flow:
    """version: rises with each change of the flow, so that every record is built anew."""

    kind: FlowKind
    source: Step
    guard: Guard = field(factory=Guard)
    version: int = 1

    @property
    def lease_name(self) -> str:
        return f"flow:{self.kind.value}"


@frozen(kw_only=True)
class Counts:
    """What a run did so far. read = created + updated + unchanged + quarantined."""

    read: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    quarantined: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(
            read=self.read + other.read,
            created=self.created + other.created,
            updated=self.updated + other.updated,
            deleted=self.deleted + other.deleted,
            unchanged=self.unchanged + other.unchanged,
            quarantined=self.quarantined + other.quarantined,
        )


@frozen(kw_only=True)
class Execution:
    """The entry of one run in the execution log; written with each batch, so a killed run goes on counting.

    complete_read: whether the run reads everything from the beginning, in one go so far.
    cursor: where a read of everything goes on that leaves the flow's cursor where it is, so that what the source
        removed before is still told of when this read is broken off; empty: at the beginning. None: the run goes on
        at the flow's cursor.
    answered: the codes that a read of named items is through with; it goes on with the others.
    held: deletions that wait for a person's confirmation.
    """

    run_id: UUID
    kind: FlowKind
    started_at: datetime
    ended_at: datetime | None = None
    complete_read: bool = False
    cursor: Mapping[str, Any] | None = None
    answered: tuple[str, ...] = ()
    counts: Counts = field(factory=Counts)
    held: int = 0

    def begin_complete_read(self, *, nothing_is_stored: bool = False) -> "Execution":
        """Into an empty store it may move the flow's cursor: there is nothing that the source could have removed."""
        return evolve(self, complete_read=True, cursor=None if nothing_is_stored else {})

    def go_on(self, flow_cursor: Mapping[str, Any] | None) -> "Execution":
        """The rest of a run that was broken off. What it saw is forgotten, so that it deletes nothing by absence,
        unless it has read nothing yet."""
        return evolve(self, complete_read=self.complete_read and self.goes_on_at(flow_cursor) is None)

    def goes_on_at(self, flow_cursor: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """None: at the beginning."""
        return flow_cursor if self.cursor is None else self.cursor or None

    def add(self, counts: Counts) -> "Execution":
        return evolve(self, counts=self.counts.plus(counts))

    def result(self) -> dict[str, Any]:
        """What the run's row keeps of it. Each change is one event."""
        counts = self.counts
        return {
            "read": counts.read,
            "created": counts.created,
            "updated": counts.updated,
            "deleted": counts.deleted,
            "unchanged": counts.unchanged,
            "quarantined": counts.quarantined,
            "held_deletions": self.held,
        }


class KnownRecord(NamedTuple):
    """What is stored of a source record: a tuple, as it comes from the database, because a read of everything makes one
    for each record, most of which have not changed.

    code: the key of the entity it was last built into; None while it never was.
    applied_hash, applied_version: content hash and flow version last built or quarantined; None: never.
    dropped: the source no longer has it; its entity is deleted when the guard allows.
    """

    key: str
    content_hash: str
    source_version: int | None
    code: str | None = None
    applied_hash: str | None = None
    applied_version: int | None = None
    quarantined: bool = False
    dropped: bool = False

    def is_applied(self, flow_version: int) -> bool:
        return self.applied_hash == self.content_hash and self.applied_version == flow_version

    def is_settled(self, flow_version: int) -> bool:
        """Nothing is to be done for it when the source sends it again as it was."""
        return self.is_applied(flow_version) and not self.quarantined and not self.dropped

    @property
    def is_waiting(self) -> bool:
        """The source has it, and it is in quarantine or its content was not built yet."""
        return not self.dropped and (self.quarantined or self.applied_hash != self.content_hash)


@frozen(kw_only=True)
class RawRecord:
    """A row of a connector's schema: what is known of it, and the record itself."""

    known: KnownRecord
    raw: Mapping[str, Any]


@frozen(kw_only=True)
class Stored:
    """What is stored of some records, by key.

    spelled: how the raw record was spelled when it was saved.
    """

    known: Mapping[str, KnownRecord]
    spelled: Mapping[str, str]


@frozen(kw_only=True)
class Quarantined:
    """A record that could not be built. `key` is the source's."""

    key: str
    reason: str
    raw: Any
    since: datetime


def deletions_allowed(dropped: int, *, known: int, confirmed: bool, guard: Guard) -> bool:
    """Whether a run may delete what the source dropped, tombstones included.

    known: stored records, the dropped ones included. All of them, however few, are deleted with confirmation only:
    a source that seems to be empty may be the wrong one, and later runs know no more of it than the first.
    """
    return confirmed or (dropped < known and guard.allows(dropped, known=known))


def shown(flow: Flow) -> dict[str, Any]:
    return {
        "kind": flow.kind.value,
        "source": {"connection_id": str(flow.source.connection_id), "aspects": list(flow.source.aspects)},
        "guard": {"floor": flow.guard.floor, "ratio": format(flow.guard.ratio, "f")},
        "version": flow.version,
    }


def shown_quarantined(entries: Sequence[Quarantined]) -> list[dict[str, Any]]:
    return [{"key": e.key, "reason": e.reason, "raw": e.raw, "since": rfc3339(e.since)} for e in entries]
