"""Cursors and resumption as laws over whole runs: laws 17, 18, 20, 21 and 23.

Each run is `run_flow` on databases in memory, each page a batch of its own; the process dies in place of any commit,
the supplier fails at any page, and changes before any page.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordersync_core.connections.ports import CursorTooOld, SourcePage, SourceRecord
from ordersync_core.flows.handlers import running
from ordersync_core.flows.model import Guard
from ordersync_core.kernel.errors import TemporaryFailure
from ordersync_core.testing.contracts.examples import new_id
from tests.core.flows.supplier import (
    Killed,
    Raw,
    Site,
    State,
    Step,
    Supplier,
    code_of,
    raws_of,
    several,
    steps,
    take,
    version_of,
)

few = settings(max_examples=40)

NO_GUARD = Guard(floor=1_000)


@pytest.fixture(autouse=True)
def _a_batch_for_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BATCH", 1)


def site_of(history: Sequence[Step], *, size: int = 2) -> Site:
    supplier = Supplier(size=size)
    take(supplier, history)
    site = Site(supplier, guard=NO_GUARD)
    site.sync()
    return site


def place(cursor: Mapping[str, Any] | None) -> tuple[int, int]:
    return (0, 0) if cursor is None else (cursor["records"], cursor["removed"])


def is_behind(cursor: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> bool:
    return any(now < before for now, before in zip(place(cursor), place(earlier), strict=True))


def in_step(state: State, supplier: Supplier) -> bool:
    """Whether the records are those of the supplier, with their latest content and versions."""
    return {key: (known.source_version, raw) for key, (known, raw) in state.records.items()} == {
        key: (record.version, dict(record.raw)) for key, record in supplier.records.items()
    }


# 17, 18, 21


@few
@given(
    history=several(steps()),
    changes=several(steps(), most=10),
    dies=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    size=st.integers(1, 3),
    complete=st.booleans(),
)
def test_a_run_that_is_killed_at_any_commit_ends_like_a_clean_one(
    history: list[Step], changes: list[Step], dies: list[int], size: int, complete: bool
) -> None:
    """Several times, even; with at most one batch read again for each death, and a cursor that is never behind.

    Reading everything leaves the cursor where it is until the end; there it moves if nothing broke the reading off.
    """
    clean, killed = (site_of(history, size=size) for _ in range(2))
    for site in (clean, killed):
        take(site.supplier, changes)
        site.supplier.handed_out.clear()
    how: Mapping[str, Any] = {"complete": complete, "confirm_deletions": True}
    clean.sync(**how)

    run_id, deaths = new_id(), 0
    before = killed.cursor
    for commit in dies:
        cursor = killed.cursor
        try:
            killed.sync_until(commit, run_id=run_id, **how)
            break
        except Killed:
            deaths += 1
            moved_at_the_end = complete and before is not None and killed.cursor == clean.cursor
            assert moved_at_the_end or not is_behind(killed.cursor, cursor)
    else:
        killed.sync(run_id=run_id, **how)

    assert killed.cursor in ((before, clean.cursor) if complete and before is not None else (clean.cursor,))
    assert in_step(killed.state, killed.supplier)
    assert killed.state.items == clean.state.items
    assert killed.state.quarantine == clean.state.quarantine
    assert facts(killed) == facts(clean)
    pages, clean_pages = (site.supplier.handed_out for site in (killed, clean))
    # a batch is one page of records, or all pages of tombstones
    batch = max(1, sum(not page.records for page in clean_pages))
    assert len(pages) <= len(clean_pages) + deaths * batch


def facts(site: Site) -> list[tuple[str, str]]:
    return sorted((row.key, row.effect.value) for row in site.told)


@few
@given(history=several(steps()), changes=several(steps(), most=10), fails=st.lists(st.integers(1, 6), max_size=3))
def test_a_supplier_that_fails_at_any_page_is_read_on_from_there(
    history: list[Step], changes: list[Step], fails: list[int]
) -> None:
    """What was read before the failure is kept, and not read again."""
    clean, failing = (site_of(history) for _ in range(2))
    for site in (clean, failing):
        take(site.supplier, changes)
        site.supplier.handed_out.clear()
    clean.sync()
    supplier, run_id = failing.supplier, new_id()
    for page in [*fails, 0]:
        cursor, left = failing.cursor, [page]
        supplier.before_page = partial(fail_at, left)
        try:
            failing.sync(run_id=run_id)
            break
        except TemporaryFailure:
            assert not is_behind(failing.cursor, cursor)
    assert (failing.state, failing.cursor) == (clean.state, clean.cursor)
    assert facts(failing) == facts(clean)
    assert supplier.handed_out == clean.supplier.handed_out


def fail_at(left: list[int]) -> None:
    left[0] -= 1
    if left[0] == 0:
        raise TemporaryFailure("the supplier is away")


class Equal(Supplier):
    """Several records have the same version, and a page ends in the midst of them: it is handed out with all of its
    version, as whoever pages by a key that is not unique must do."""

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        reached = (cursor or {}).get("records", 0)
        while True:
            self.before_page()
            later = sorted({version_of(record) for record in self.records.values()} - set(range(reached + 1)))
            if not later:
                return
            reached = later[0]
            page = [record for record in self.records.values() if record.version == reached]
            yield self._handed_out(SourcePage(records=page, cursor={"records": reached, "removed": 0}))


@st.composite
def records_with_equal_versions(draw: st.DrawFn) -> list[tuple[str, int, Raw]]:
    versions = draw(st.lists(st.integers(1, 3), max_size=8))
    return [(f"k{number}", version, draw(raws_of(f"k{number}"))) for number, version in enumerate(versions)]


@few
@given(rows=records_with_equal_versions(), dies=st.integers(1, 6))
def test_of_records_with_equal_versions_none_is_missed(rows: list[tuple[str, int, Raw]], dies: int) -> None:
    supplier = Equal()
    supplier.records = {key: SourceRecord.of(key=key, version=version, raw=raw) for key, version, raw in rows}
    site = Site(supplier, guard=NO_GUARD)
    run_id = new_id()
    try:
        site.sync_until(dies, run_id=run_id)
    except Killed:
        site.sync(run_id=run_id)
    assert in_step(site.state, supplier)


# 17, 20: the source's own version is the watermark, and what changes during a read is read by then or by the next one


@few
@given(
    history=several(steps()),
    changes=several(steps()),
    meanwhile=st.lists(st.tuples(st.integers(1, 6), steps()), max_size=6),
    complete=st.booleans(),
)
def test_what_changes_during_a_read_is_in_step_after_the_next_one(
    history: list[Step], changes: list[Step], meanwhile: list[tuple[int, Step]], complete: bool
) -> None:
    site = site_of(history)
    supplier = site.supplier
    take(supplier, changes)
    pages = [0]

    def change() -> None:
        pages[0] += 1
        take(supplier, [step for page, step in meanwhile if page == pages[0]])

    supplier.before_page = change
    begun_at = supplier.version
    site.sync(complete=complete)
    assert place(site.cursor)[0] <= supplier.version
    seen = {record.key: version_of(record) for page in supplier.handed_out for record in page.records}
    assert all(seen[key] >= version_of(r) for key, r in supplier.records.items() if version_of(r) <= begun_at)

    supplier.before_page = lambda: None
    cursor = site.cursor
    site.sync(confirm_deletions=True)
    assert not is_behind(site.cursor, cursor)
    assert in_step(site.state, supplier)


@few
@given(history=st.lists(several(steps(), most=3), max_size=5))
def test_the_cursor_never_falls(history: list[list[Step]]) -> None:
    site = site_of([])
    for changes in history:
        take(site.supplier, changes)
        before = site.cursor
        site.sync()
        assert not is_behind(site.cursor, before)


# 19: what the source has forgotten


class Forgetting(Supplier):
    """It tells of what it removed since `forget`, and refuses whoever was away for longer."""

    forgotten = 0

    def forget(self) -> None:
        self.forgotten = self.version

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        if cursor is not None and cursor["removed"] < self.forgotten:
            raise CursorTooOld("too old")
        yield from super().pages(cursor or {"records": 0, "removed": self.forgotten})


@few
@given(
    history=several(steps()),
    changes=several(steps()),
    later=several(steps()),
    dies=st.lists(st.integers(1, 8), max_size=2),
    same_run=st.booleans(),
)
def test_a_cursor_that_is_too_old_has_everything_read(
    history: list[Step], changes: list[Step], later: list[Step], dies: list[int], same_run: bool
) -> None:
    """Whatever breaks that off."""
    supplier = Forgetting()
    take(supplier, history)
    site = Site(supplier, guard=NO_GUARD)
    site.sync()
    take(supplier, changes)
    supplier.forget()
    take(supplier, later)
    run_id = new_id()
    for commit in dies:
        try:
            site.sync_until(commit, run_id=run_id if same_run else new_id())
        except Killed:
            continue
    site.sync(run_id=run_id)
    site.sync(confirm_deletions=True)
    assert in_step(site.state, supplier)
    supplier.handed_out.clear()
    site.sync()
    assert supplier.handed_out == []


# named items


@few
@given(history=several(steps(broken=st.just(False))), fails=st.lists(st.integers(1, 4), max_size=4))
def test_a_read_of_named_items_goes_on_with_those_that_are_left(history: list[Step], fails: list[int]) -> None:
    supplier = Supplier()
    take(supplier, history)
    site = Site(supplier)
    run_id, codes = new_id(), tuple(code_of(key) for key in ("k4", "k3", "k2", "k1"))
    for page in [*fails, 0]:
        supplier.before_page = partial(fail_at, [page])
        try:
            site.sync(run_id=run_id, codes=codes)
            break
        except TemporaryFailure:
            pass
    assert [code for page in supplier.handed_out for code in page.answered] == list(codes)
    assert site.state.items.keys() == {record.raw["code"] for record in supplier.records.values()}
    assert site.cursor is None


# 23


@few
@given(history=several(steps()), runs=st.integers(1, 6), complete=st.booleans())
def test_what_is_kept_does_not_grow_with_the_number_of_runs(history: list[Step], runs: int, complete: bool) -> None:
    """But for the execution log, of which housekeeping keeps 90 days."""
    site = site_of(history)
    site.sync(complete=complete, confirm_deletions=True)
    before = sizes(site)
    for _ in range(runs):
        site.sync(complete=complete, confirm_deletions=True)
    assert sizes(site) == before


def sizes(site: Site) -> tuple[int, ...]:
    state = site.state
    cursor = repr(state.cursor)
    return (len(state.items), len(state.records), len(state.quarantine), len(cursor), len(site.told))
