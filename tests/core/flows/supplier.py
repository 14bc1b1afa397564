"""An administration in memory whose item flow reads a supplier that a test writes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from attrs import field, frozen
from hypothesis import strategies as st

from ordersync_core.connections.commands import CreateConnection
from ordersync_core.connections.handlers import create_connection
from ordersync_core.connections.ports import ConnectorDescription, Connectors, SourcePage, SourceRecord, Tombstone
from ordersync_core.flows.commands import RunFlow, SetUpFlow
from ordersync_core.flows.handlers.running import run_flow
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import Execution, FlowKind, Guard, KnownRecord
from ordersync_core.flows.ports import ItemMapping, Mappings
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.jobs.model import Progress
from ordersync_core.jobs.ports import RunProgress
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.lease import LEASE
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.testing.contracts.databases import ALPHA, context
from ordersync_core.testing.contracts.examples import CONNECTOR, ENTITY, SECOND, new_id
from ordersync_core.testing.memory.flows import CURSORS, QUARANTINE, raw_records
from ordersync_core.testing.memory.items import ITEMS
from ordersync_core.testing.memory.outbox import OUTBOX
from tests.core.embedded import Embedded

Raw = Mapping[str, Any]

ASPECTS = ("name", "unit")


class Reads(Protocol):
    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]: ...

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]: ...


def version_of(record: SourceRecord) -> int:
    return record.version or 0


class Supplier:
    """Its records have keys and a history: each change and each removal takes the next version.

    size: records in a page. before_page: called before each page is put together; may change the supplier, or raise.
    handed_out: what was read so far, page by page.
    """

    def __init__(self, *, size: int = 2) -> None:
        self.size = size
        self.before_page: Callable[[], None] = lambda: None
        self.handed_out: list[SourcePage] = []
        self.records: dict[str, SourceRecord] = {}
        self.removed: dict[str, int] = {}
        self.version = 0

    def put(self, key: str, raw: Raw) -> None:
        self.version += 1
        self.removed.pop(key, None)
        self.records[key] = SourceRecord.of(key=key, version=self.version, raw=raw)

    def remove(self, key: str) -> None:
        if self.records.pop(key, None) is not None:
            self.version += 1
            self.removed[key] = self.version

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        """Changes first, then removals, each in the order of their versions."""
        place = {"records": 0, "removed": 0, **(cursor or {})}
        while True:
            self.before_page()
            later = [r for r in self.records.values() if version_of(r) > place["records"]]
            page = sorted(later, key=version_of)[: self.size]
            if not page:
                break
            place["records"] = page[-1].version
            yield self._handed_out(SourcePage(records=page, cursor=dict(place)))
        while True:
            self.before_page()
            gone = sorted((version, key) for key, version in self.removed.items() if version > place["removed"])
            if not gone:
                return
            tombstones = [Tombstone(key=key, version=version) for version, key in gone[: self.size]]
            place["removed"] = tombstones[-1].version
            yield self._handed_out(SourcePage(tombstones=tombstones, cursor=dict(place)))

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        """As named reads are: without versions."""
        for code in codes:
            self.before_page()
            found = [record._replace(version=None) for record in self.records.values() if record.raw["code"] == code]
            yield self._handed_out(SourcePage(records=found, answered=[code]))

    def _handed_out(self, page: SourcePage) -> SourcePage:
        self.handed_out.append(page)
        return page


@frozen
class Pages:
    """Brings these pages, whatever the cursor."""

    brought: Sequence[SourcePage]

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        yield from self.brought

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        yield from ()


@frozen(kw_only=True)
class State:
    """What runs leave, apart from moments: items and records by key, reasons of what is in quarantine."""

    items: Mapping[str, Any]
    records: Mapping[str, tuple[KnownRecord, Any]]
    quarantine: Mapping[str, str]
    cursor: Mapping[str, Any] | None = field(eq=False)


class Killed(BaseException):
    """The process ends here: no handler of errors sees it, and nothing after it is written."""


class Site(Embedded):
    """The administration and its flow."""

    def __init__(self, source: Reads, *, aspects: Sequence[str] = ASPECTS, guard: Guard | None = None) -> None:
        self.source_ = source
        self._broken_off: UUID | None = None
        super().__init__(ports={Connectors: self, Mappings: self, RunProgress: self})
        command = CreateConnection(connector=CONNECTOR, name="Ours", settings={})
        self.connection_id = self.run(create_connection, command).id
        self.set_up(aspects=aspects, guard=guard)

    def set_up(self, *, aspects: Sequence[str] = ASPECTS, guard: Guard | None = None) -> None:
        command = SetUpFlow(
            kind=FlowKind.ITEM, connection_id=self.connection_id, aspects=tuple(aspects), guard=guard or Guard()
        )
        self.run(set_up_flow, command)

    # the connector, its mapping and the progress of its runs

    description = ConnectorDescription(
        name=CONNECTOR, title="A supplier", settings_schema={}, secrets_schema={}, entities={ENTITY: ASPECTS}
    )

    def check(self, *_: Any) -> None: ...

    def __getitem__(self, name: str) -> "Site":
        return {CONNECTOR: self}[name]

    def source(self, *_: Any) -> Reads:
        return self.source_

    def item(self, connector: str) -> ItemMapping:
        return to_item

    def tell(self, progress: Progress) -> None: ...

    # what happens

    def sync(self, source: Reads | None = None, *, run_id: UUID | None = None, **how: Any) -> Execution:
        """A run, or the rest of one that broke off; it reads `source`, once it is given."""
        if source is not None:
            self.source_ = source
        return self.run(run_flow, self._command(run_id, **how))

    def sync_until(self, commit: int, *, run_id: UUID | None = None, **how: Any) -> Execution:
        """A run whose process dies in place of its n-th commit. Raises Killed; the lease of the flow runs still."""
        dying = Application(self.ports.__getitem__, _Dying(self.databases, commit))
        command = self._command(run_id, **how)
        try:
            return dying.run(run_flow, command, context(ALPHA))
        except Killed:
            self._broken_off = command.run_id
            raise

    def _command(self, run_id: UUID | None, **how: Any) -> RunFlow:
        """Another run than the one that was broken off comes when the lease of that one has run out."""
        command = RunFlow(kind=FlowKind.ITEM, run_id=run_id or new_id(), holder=f"process {new_id()}", **how)
        if self._broken_off not in (None, command.run_id):
            self.pass_time(LEASE + SECOND)
        return command

    # what is there

    @property
    def supplier(self) -> Supplier:
        assert isinstance(self.source_, Supplier)
        return self.source_

    @property
    def state(self) -> State:
        rows = self.databases.tenants.of(ALPHA).rows
        records = rows(raw_records(CONNECTOR, self.connection_id, ENTITY))
        return State(
            items={str(code): item.content() for code, item in rows(ITEMS).items()},
            records={key: (record.known, record.raw) for key, record in records.items()},
            quarantine={key: entry.reason for (_, key), entry in rows(QUARANTINE).items()},
            cursor=self.cursor,
        )

    @property
    def cursor(self) -> Mapping[str, Any] | None:
        cursor: Mapping[str, Any] | None = self.databases.tenants.of(ALPHA).row(CURSORS, (self.connection_id, ENTITY))
        return cursor

    @property
    def told(self) -> list[OutboxRow]:
        """All facts told so far, in order."""
        return sorted(self.databases.tenants.of(ALPHA).rows(OUTBOX).values(), key=lambda row: row.order)


class _Dying:
    """Databases whose n-th commit ends the process and keeps nothing."""

    def __init__(self, databases: Any, commit: int) -> None:
        self._databases = databases
        self._commits_left = commit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._databases, name)

    def unit_of_work(self, why: Context) -> Any:
        uow = self._databases.unit_of_work(why)
        real_commit = uow.commit

        def commit() -> None:
            self._commits_left -= 1
            if self._commits_left == 0:
                raise Killed
            real_commit()

        uow.commit = commit
        return uow


def to_item(raw: Raw, settings: Mapping[str, Any]) -> Item:
    if raw["broken"]:
        raise InvalidInput("the record is broken")
    return Item(code=ItemCode(raw["code"]), name=localised_text({"en": raw["name"]}), unit=raw["unit"])


def raw(code: str, name: str = "one", *, unit: str | None = None, broken: bool = False) -> Raw:
    return {"code": code, "name": name, "unit": unit, "broken": broken}


# strategies

KEYS = st.sampled_from(("k1", "k2", "k3", "k4"))


def raws(codes: st.SearchStrategy[str], *, broken: st.SearchStrategy[bool] | None = None) -> st.SearchStrategy[Raw]:
    """Few contents, so that the same ones come back."""
    return st.builds(
        raw,
        codes,
        st.sampled_from(("one", "two")),
        unit=st.none() | st.just("piece"),
        broken=st.sampled_from((False, False, False, True)) if broken is None else broken,
    )


def code_of(key: str) -> str:
    """A code that no other key has."""
    return f"code of {key}"


def raws_of(key: str, **narrowed: Any) -> st.SearchStrategy[Raw]:
    return raws(st.just(code_of(key)), **narrowed)


@frozen
class Put:
    key: str
    raw: Raw

    def at(self, supplier: Supplier) -> None:
        supplier.put(self.key, self.raw)


@frozen
class Remove:
    key: str

    def at(self, supplier: Supplier) -> None:
        supplier.remove(self.key)


Step = Put | Remove


def steps(*, codes: st.SearchStrategy[str] | None = None, **narrowed: Any) -> st.SearchStrategy[Step]:
    """One change at the supplier; unless `codes` are given, no two records have the same code."""

    def put(key: str) -> st.SearchStrategy[Step]:
        told = raws_of(key, **narrowed) if codes is None else raws(codes, **narrowed)
        return st.builds(Put, st.just(key), told)

    return st.one_of(KEYS.flatmap(put), KEYS.flatmap(put), KEYS.flatmap(put), st.builds(Remove, KEYS))


def several(step: st.SearchStrategy[Step], *, most: int = 8) -> st.SearchStrategy[Sequence[Step]]:
    return st.lists(step, max_size=most)


def take(supplier: Supplier, history: Sequence[Step]) -> None:
    for step in history:
        step.at(supplier)
