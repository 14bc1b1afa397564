"""Deletions and their guard as laws over whole runs: laws 11 to 16. Each run is `run_flow` on databases in memory."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ordersync_core.connections.ports import SourcePage, SourceRecord, Tombstone
from ordersync_core.flows.handlers import running
from ordersync_core.flows.model import Guard
from ordersync_core.kernel.errors import TemporaryFailure
from ordersync_core.kernel.notification import Effect
from ordersync_core.testing.contracts.examples import new_id
from ordersync_core.testing.strategies import guards
from tests.core.flows.supplier import Killed, Pages, Site, Step, Supplier, code_of, raw, several, steps, take

few = settings(max_examples=40)

GUARDS = st.builds(Guard, floor=st.integers(0, 5), ratio=st.sampled_from([Decimal(n) / 10 for n in range(11)]))
NO_GUARD = Guard(floor=1_000)


@pytest.fixture(autouse=True, params=[5_000, 1], ids=["one batch", "a batch for each page"])
def _batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BATCH", request.param)


class Forgetful(Supplier):
    """It never tells what it removed."""

    def remove(self, key: str) -> None:
        self.records.pop(key, None)


def stocked(supplier: Supplier, count: int, *, guard: Guard = NO_GUARD) -> Site:
    """A site that has read so many records: k0, k1, ..."""
    for number in range(count):
        supplier.put(f"k{number}", raw(code_of(f"k{number}")))
    site = Site(supplier, guard=guard)
    site.sync()
    return site


def remove(supplier: Supplier, count: int) -> None:
    for number in range(count):
        supplier.remove(f"k{number}")


def deleted(site: Site) -> list[str]:
    return [row.key for row in site.told if row.effect is Effect.DELETE]


# 11


@few
@given(history=several(steps()), changes=several(steps()), named=st.booleans())
def test_a_read_of_changes_or_of_named_items_never_deletes_by_absence(
    history: list[Step], changes: list[Step], named: bool
) -> None:
    supplier = Forgetful()
    take(supplier, history)
    site = Site(supplier, guard=NO_GUARD)
    site.sync()
    before = site.state.items.keys()
    take(supplier, changes)
    execution = site.sync(codes=tuple(sorted(before)) or ("none",)) if named else site.sync()
    assert (execution.counts.deleted, execution.held, deleted(site)) == (0, 0, [])
    assert site.state.items.keys() >= before


# 12


@few
@given(count=st.integers(1, 8), gone=st.integers(1, 8), page=st.integers(1, 5), resumed=st.booleans())
def test_a_complete_read_that_was_broken_off_deletes_nothing_by_absence(
    count: int, gone: int, page: int, resumed: bool
) -> None:
    """Whether another run follows or the same one goes on."""
    supplier = Forgetful()
    site = stocked(supplier, count)
    remove(supplier, min(gone, count))
    broken_off = new_id()
    pages_left = [page]

    def fail_at_the_page() -> None:
        pages_left[0] -= 1
        if pages_left[0] == 0:
            raise TemporaryFailure("the supplier is away")

    cursor = site.cursor
    supplier.handed_out.clear()
    supplier.before_page = fail_at_the_page
    try:
        site.sync(complete=True, run_id=broken_off)
    except TemporaryFailure:
        assert (deleted(site), site.cursor) == ([], cursor)
        began = supplier.handed_out != []
        execution = site.sync(run_id=broken_off if resumed else None)
        if resumed and not began:
            assert execution.complete_read, "nothing was read before: this is a read of everything"
        else:
            assert not execution.complete_read
            assert (execution.counts.deleted, execution.held, deleted(site)) == (0, 0, [])
            assert site.cursor == cursor
    else:
        assume(False)


class Reticent(Supplier):
    """Whoever reads everything is not told of what it removed before."""

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        return super().pages({"records": 0, "removed": self.version} if cursor is None else cursor)


@few
@given(
    count=st.integers(3, 8),
    gone=st.integers(1, 3),
    meanwhile=several(steps()),
    dies=st.integers(1, 8),
    resumed=st.booleans(),
    again=st.booleans(),
)
def test_a_complete_read_that_was_broken_off_loses_no_deletion(
    count: int, gone: int, meanwhile: list[Step], dies: int, resumed: bool, again: bool
) -> None:
    """What was removed before it began, and was not told of yet, is told of by the next read of changes; whether the
    read goes on, is given up, or another one begins."""
    supplier = Reticent()
    site = stocked(supplier, count)
    remove(supplier, gone)
    run_id = new_id()
    try:
        site.sync_until(dies, run_id=run_id, complete=True)
    except Killed:
        take(supplier, meanwhile)
        if resumed:
            site.sync(run_id=run_id, complete=True)
        if again:
            site.sync(complete=True)
    site.sync(confirm_deletions=True)
    assert site.state.records.keys() == supplier.records.keys()


@few
@given(count=st.integers(3, 8), gone=st.integers(1, 3), dies=st.integers(1, 8), resumed=st.booleans())
def test_a_first_read_that_was_broken_off_loses_no_deletion_of_what_was_named_before(
    count: int, gone: int, dies: int, resumed: bool
) -> None:
    supplier = Reticent()
    site = Site(supplier, guard=NO_GUARD)
    for number in range(count):
        supplier.put(f"k{number}", raw(code_of(f"k{number}")))
    site.sync(codes=tuple(code_of(f"k{number}") for number in range(count)))
    remove(supplier, gone)
    run_id = new_id()
    try:
        site.sync_until(dies, run_id=run_id)
    except Killed:
        if resumed:
            site.sync(run_id=run_id)
    site.sync(confirm_deletions=True)
    assert site.state.records.keys() == supplier.records.keys()


# 13


@few
@given(count=st.integers(0, 20), gone=st.integers(0, 20), guard=guards() | GUARDS, told=st.booleans())
def test_all_deletions_of_a_run_are_applied_or_held_and_all_else_is_done(
    count: int, gone: int, guard: Guard, told: bool
) -> None:
    """Told of by tombstones, or found by absence."""
    supplier = Supplier() if told else Forgetful()
    site = stocked(supplier, count, guard=guard)
    gone = min(gone, count)
    remove(supplier, gone)
    supplier.put("new", raw("new"))
    execution = site.sync(complete=not told)
    # the new one is known by then
    allowed = gone <= max(Decimal(guard.floor), guard.ratio * (count + 1))
    assert execution.counts.created == 1
    assert (execution.counts.deleted, execution.held) == ((gone, 0) if allowed else (0, gone))
    assert sorted(deleted(site)) == (sorted(code_of(f"k{number}") for number in range(gone)) if allowed else [])
    assert len(site.state.items) == count + 1 - execution.counts.deleted

    confirmed = site.sync(confirm_deletions=True)
    assert (confirmed.counts.deleted, confirmed.held) == (execution.held, 0)
    assert site.state.items.keys() == {record.raw["code"] for record in supplier.records.values()}


@few
@given(count=st.integers(0, 12), gone=st.integers(0, 12), guard=GUARDS, other=GUARDS)
def test_a_stricter_guard_never_applies_more_deletions(count: int, gone: int, guard: Guard, other: Guard) -> None:
    stricter = Guard(floor=min(guard.floor, other.floor), ratio=min(guard.ratio, other.ratio))
    applied = []
    for chosen in (stricter, guard):
        supplier = Supplier()
        site = stocked(supplier, count, guard=chosen)
        remove(supplier, min(gone, count))
        applied.append(site.sync().counts.deleted)
    assert applied[0] <= applied[1]


# 14


@few
@given(count=st.integers(1, 12), guard=guards(), told=st.booleans(), later=st.lists(st.booleans(), max_size=2))
def test_a_complete_read_of_nothing_deletes_nothing_until_a_person_confirms(
    count: int, guard: Guard, told: bool, later: list[bool]
) -> None:
    """Nor does a read of changes that follows it."""
    supplier = Supplier() if told else Forgetful()
    site = stocked(supplier, count, guard=guard)
    remove(supplier, count)
    for complete in (True, *later):
        execution = site.sync(complete=complete)
        assert (execution.counts.deleted, execution.held, deleted(site)) == (0, count, [])
    assert site.sync(complete=True, confirm_deletions=True).counts.deleted == count
    assert site.state.items == {}


# 15


@few
@given(count=st.integers(1, 8), gone=st.integers(1, 8), back=st.integers(0, 8), changed=st.booleans())
def test_what_comes_back_while_its_deletion_is_held_is_the_same_item_still(
    count: int, gone: int, back: int, changed: bool
) -> None:
    """Nobody is told of a deletion, nor of a creation: only of what changed."""
    supplier = Supplier()
    site = stocked(supplier, count, guard=Guard(floor=0, ratio=Decimal(0)))
    gone = min(gone, count)
    back = min(back, gone)
    remove(supplier, gone)
    assert site.sync().held == gone
    told = len(site.told)
    for number in range(back):
        supplier.put(f"k{number}", raw(code_of(f"k{number}"), "two" if changed else "one"))
    assert site.sync().held == gone - back
    effects = [row.effect for row in site.told[told:]]
    assert effects == ([Effect.UPDATE] * back if changed else [])
    assert len(site.state.items) == count


# 16


@few
@given(
    known=st.none() | st.integers(1, 9),
    records=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    tombstones=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_in_one_batch_the_highest_version_decides_whatever_came_first(
    known: int | None, records: list[int], tombstones: list[int]
) -> None:
    page = SourcePage(
        records=[record_of(version) for version in records],
        tombstones=[Tombstone(key="k", version=version) for version in tombstones],
    )
    assert name_after(known, [page]) == expected_name(known, max(records), max(tombstones))


@few
@given(known=st.none() | st.integers(1, 9), record=st.integers(1, 9), tombstone=st.integers(1, 9))
def test_a_tombstone_that_comes_after_its_record_removes_it_unless_it_is_older(
    known: int | None, record: int, tombstone: int
) -> None:
    """In whatever batches they come."""
    pages = [SourcePage(records=[record_of(record)]), SourcePage(tombstones=[Tombstone(key="k", version=tombstone)])]
    assert name_after(known, pages) == expected_name(known, record, tombstone)


@few
@given(
    told=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6, unique_by=lambda one: one[0]),
    held=st.booleans(),
    data=st.data(),
)
def test_across_batches_and_runs_the_highest_version_decides_whatever_came_first(
    told: list[tuple[int, bool]], held: bool, data: st.DataObject
) -> None:
    """Of records and tombstones; whether the deletion is held meanwhile or was applied long ago."""
    site = Site(Supplier(), guard=Guard(floor=0, ratio=Decimal(0)) if held else NO_GUARD)
    another = SourceRecord.of(key="another", version=1, raw=raw("ANOTHER"))
    site.sync(Pages([SourcePage(records=[another], cursor={"page": 0})]))
    pages = [page_of(version, removed=removed) for version, removed in told]
    runs = sorted(data.draw(st.lists(st.integers(0, len(pages)), max_size=3)))
    for begin, end in pairwise([0, *runs, len(pages)]):
        site.sync(Pages(pages[begin:end]))
    site.sync(Pages([]), confirm_deletions=True)

    version, removed = max(told)
    item = site.state.items.get("K")
    assert (None if item is None else item["name"]["en"]) == (None if removed else f"version {version}")


def page_of(version: int, *, removed: bool) -> SourcePage:
    cursor = {"page": version}
    if removed:
        return SourcePage(tombstones=[Tombstone(key="k", version=version)], cursor=cursor)
    return SourcePage(records=[record_of(version)], cursor=cursor)


def record_of(version: int) -> SourceRecord:
    return SourceRecord.of(key="k", version=version, raw=raw("K", f"version {version}"))


def name_after(known: int | None, pages: Sequence[SourcePage]) -> str | None:
    site = Site(Supplier(), guard=NO_GUARD)
    before = [SourceRecord.of(key="another", version=1, raw=raw("ANOTHER"))]
    if known is not None:
        before.append(record_of(known))
    site.sync(Pages([SourcePage(records=before, cursor={"page": 0})]))
    site.sync(Pages([evolve(page, cursor={"page": number}) for number, page in enumerate(pages)]))
    item = site.state.items.get("K")
    return None if item is None else item["name"]["en"]


def expected_name(known: int | None, record: int, tombstone: int) -> str | None:
    """An equal version is the same news, and a removal of what is known so far."""
    latest = max(record, known or 0)
    return None if tombstone >= latest else f"version {latest}"
