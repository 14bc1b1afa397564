"""Change detection as laws over whole runs: laws 1, 3, 4 and 6 to 10. Each run is `run_flow` on databases in memory."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ordersync_core.connections.ports import SourcePage, SourceRecord
from ordersync_core.flows.handlers import running
from ordersync_core.flows.model import Counts, Execution, Guard
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.model import ItemCode
from ordersync_core.kernel.canonical import content_hash
from ordersync_core.kernel.localised import localised_text
from ordersync_core.kernel.notification import Effect
from ordersync_core.testing.contracts.databases import ALPHA
from ordersync_core.testing.contracts.examples import an_item
from ordersync_core.testing.memory.items import ITEMS
from tests.core.flows.supplier import (
    ASPECTS,
    KEYS,
    Pages,
    Site,
    Step,
    Supplier,
    code_of,
    raw,
    raws_of,
    several,
    steps,
    take,
    version_of,
)

few = settings(max_examples=40)

COLLIDING = st.sampled_from(("caf\u00e9", " cafe\u0301 ", "B"))
ANY_STEP = steps() | steps(codes=COLLIDING)
HISTORIES = st.lists(several(ANY_STEP, most=5), max_size=4)


@pytest.fixture(autouse=True, params=[5_000, 1], ids=["one batch", "a batch for each page"])
def _batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BATCH", request.param)


def synced(history: Sequence[Sequence[Step]], supplier: Supplier | None = None) -> Site:
    """After some changes at the supplier, a run; and so on. It deletes whatever it may."""
    site = Site(supplier or Supplier(), guard=Guard(floor=1_000))
    for changes in history:
        take(site.supplier, changes)
        site.sync()
    return site


def nothing_but(execution: Execution, **expected: int) -> bool:
    return execution.counts == Counts(**expected)


# 1


@few
@given(history=HISTORIES)
def test_reading_everything_again_changes_and_tells_nothing(history: list[list[Step]]) -> None:
    site = synced(history)
    site.sync(complete=True)
    before, told = site.state, site.told
    again = site.sync(complete=True)
    assert site.state == before
    assert site.told == told
    assert (again.counts.created, again.counts.updated, again.counts.deleted) == (0, 0, 0)


@few
@given(history=HISTORIES)
def test_a_run_with_nothing_new_reads_nothing(history: list[list[Step]]) -> None:
    site = synced(history)
    before = site.state
    assert nothing_but(site.sync())
    assert (site.state, site.cursor) == (before, before.cursor)


# 3


@few
@given(history=HISTORIES, changes=several(ANY_STEP), complete=st.booleans())
def test_the_report_of_a_run_adds_up(history: list[list[Step]], changes: list[Step], complete: bool) -> None:
    site = synced(history)
    take(site.supplier, changes)
    counts = site.sync(complete=complete).counts
    assert counts.read == counts.created + counts.updated + counts.unchanged + counts.quarantined


@few
@given(history=HISTORIES, changes=several(ANY_STEP), complete=st.booleans())
def test_each_record_that_was_read_counts_once(history: list[list[Step]], changes: list[Step], complete: bool) -> None:
    """Also one that is refused, because another one holds its code, and is built in the same run. So does one that
    leaves quarantine without being read."""
    site = synced(history)
    supplier = site.supplier
    take(supplier, changes)
    supplier.handed_out.clear()
    before = site.state.quarantine.keys()
    execution = site.sync(complete=complete)
    read = [record.key for page in supplier.handed_out for record in page.records]
    assert len(set(read)) == len(read)
    records = site.state.records
    built = {key for key in before - site.state.quarantine.keys() if key in records}
    assert execution.counts.read == len(built.union(read))
    dropped = [key for key, (known, _) in records.items() if known.dropped]
    assert execution.held == len(dropped)
    assert records.keys() == supplier.records.keys() | set(dropped)


def test_a_record_that_is_refused_and_then_built_counts_once() -> None:
    """Its code becomes free in the same batch, or in a later one of the same run."""
    site = Site(Supplier(size=1))
    site.supplier.put("k1", raw("A"))
    site.supplier.put("k3", raw("C"))
    site.sync()
    site.supplier.put("k2", raw("A", "two"))
    site.supplier.put("k1", raw("B"))
    site.supplier.put("k4", raw("C"))
    counts = site.sync().counts
    assert site.state.items.keys() == {"A", "B", "C"}
    assert (counts.read, counts.created + counts.updated, counts.quarantined) == (3, 2, 1)


@few
@given(history=HISTORIES, changes=several(ANY_STEP))
def test_what_is_in_quarantine_is_what_the_records_say(history: list[list[Step]], changes: list[Step]) -> None:
    site = synced([*history, changes])
    state = site.state
    assert state.quarantine.keys() == {key for key, (known, _) in state.records.items() if known.quarantined}


# 4


@few
@given(history=HISTORIES)
def test_each_event_goes_on_from_the_one_before_it_and_each_change_has_one(history: list[list[Step]]) -> None:
    site = synced([])
    content: dict[str, Any] = {}
    for changes in history:
        take(site.supplier, changes)
        before = len(site.told)
        counts = site.sync().counts
        told = site.told[before:]
        assert len(told) == counts.created + counts.updated + counts.deleted
        for row in told:
            earlier = content.pop(row.key, None)
            assert (earlier is None) is (row.effect is Effect.CREATE)
            if row.effect is Effect.UPDATE:
                assert row.after is not None
                assert row.before
                assert row.before == {name: earlier[name] for name in row.before}
                changed = {name for name in earlier if content_hash(earlier[name]) != content_hash(row.after[name])}
                assert row.before.keys() == changed
            if row.effect is Effect.DELETE:
                assert row.before == earlier
            if row.after is not None:
                content[row.key] = row.after
        assert content == site.state.items


# 6, 7, 9


@st.composite
def versions_of_records(draw: st.DrawFn) -> list[SourceRecord]:
    """Several versions of each key, each version once, none of them broken."""
    pairs = draw(st.lists(st.tuples(KEYS, st.integers(1, 9)), max_size=10, unique=True))
    whole = st.just(False)
    return [SourceRecord.of(key=key, version=version, raw=draw(raws_of(key, broken=whole))) for key, version in pairs]


@st.composite
def cut(draw: st.DrawFn, records: Sequence[SourceRecord]) -> list[SourcePage]:
    """The records in any order, each perhaps more than once, cut into pages anywhere."""
    arriving = draw(
        st.permutations([*records, *draw(st.lists(st.sampled_from(records), max_size=3) if records else st.just([]))])
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(arriving)), max_size=4)))
    edges = [0, *cuts, len(arriving)]
    return [SourcePage(records=arriving[start:end], cursor={"page": end}) for start, end in pairwise(edges)]


@few
@given(records=versions_of_records(), data=st.data())
def test_whatever_the_order_and_the_pages_the_highest_versions_stand(
    records: list[SourceRecord], data: st.DataObject
) -> None:
    site = Site(Supplier())
    for _ in range(data.draw(st.integers(1, 2))):
        site.sync(Pages(data.draw(cut(records))))
    newest = {record.key: record for record in sorted(records, key=version_of)}
    state = site.state
    assert {key: raw for key, (_, raw) in state.records.items()} == {key: dict(r.raw) for key, r in newest.items()}
    assert {key: known.source_version for key, (known, _) in state.records.items()} == {
        key: record.version for key, record in newest.items()
    }
    assert {code: content["name"]["en"] for code, content in state.items.items()} == {
        code_of(key): record.raw["name"] for key, record in newest.items()
    }


@few
@given(history=HISTORIES, data=st.data())
def test_what_was_read_before_and_arrives_late_changes_nothing(history: list[list[Step]], data: st.DataObject) -> None:
    """A stale poll after a fresh one; also of what the source has removed since."""
    site = synced(history)
    supplier = site.supplier
    stale = [
        evolve(page, records=[record for record in page.records if record != supplier.records.get(record.key)])
        for page in supplier.handed_out
    ]
    before, told = site.state, site.told
    site.sync(Pages(data.draw(st.permutations(stale))))
    assert site.state == before
    assert site.told == told


@few
@given(records=st.lists(st.tuples(KEYS, st.integers(0, 3), st.integers(0, 2)), max_size=10))
def test_duplicates_in_one_batch_count_once_and_the_highest_then_the_last_stands(
    records: list[tuple[str, int, int]],
) -> None:
    page = SourcePage(
        records=[
            SourceRecord.of(
                key=key, version=version, raw={"code": code_of(key), "name": f"{name}", "unit": None, "broken": False}
            )
            for key, version, name in records
        ]
    )
    site = Site(Pages([page]))
    counts = site.sync().counts
    best: dict[str, tuple[int, int]] = {}
    for place, (key, version, _) in enumerate(records):
        best[key] = max(best.get(key, (-1, -1)), (version, place))
    assert counts == Counts(read=len(best), created=len(best))
    assert {code: content["name"]["en"] for code, content in site.state.items.items()} == {
        code_of(key): f"{records[place][2]}" for key, (_, place) in best.items()
    }


# 8


@few
@given(
    history=HISTORIES,
    supplied=st.sets(st.sampled_from(ASPECTS), min_size=1),
    data=st.data(),
)
def test_what_the_flow_does_not_supply_is_never_overwritten(
    history: list[list[Step]], supplied: set[str], data: st.DataObject
) -> None:
    """A person owns the other fields; a further run of the flow leaves them alone."""
    site = synced(history)
    site.set_up(aspects=sorted(supplied), guard=Guard(floor=1_000))
    site.sync()
    kept = site.databases.tenants.of(ALPHA).rows(ITEMS)
    own = an_item().stocks
    for code, item in kept.items():
        by_hand = evolve(
            item, name=localised_text({"nl": "met de hand"}), unit="by hand", family_code="hand", stocks=own, code=code
        )
        site.run(put_item, PutItem(item=by_hand))
    take(site.supplier, data.draw(several(steps(broken=st.just(False)))))
    site.sync(complete=True)
    for code, item in site.databases.tenants.of(ALPHA).rows(ITEMS).items():
        if code in kept and len([row for row in site.told if row.key == code and row.effect is Effect.DELETE]) == 0:
            assert (item.family_code, item.stocks) == ("hand", own)
            if "name" not in supplied:
                assert item.name == {"nl": "met de hand"}
            if "unit" not in supplied:
                assert item.unit == "by hand"


# 10


@few
@given(history=HISTORIES)
def test_records_whose_codes_collide_are_reported_and_never_merged(history: list[list[Step]]) -> None:
    site = synced(history)
    state = site.state
    # one that was dropped while it was in quarantine was never built: the guard may hold it
    records = {key: known for key, (known, _) in state.records.items() if not (known.dropped and known.code is None)}
    built = {key: known.code for key, known in records.items() if not known.quarantined}
    assert len(set(built.values())) == len(built)
    assert all(built[key] == ItemCode(state.records[key][1]["code"]) for key in built)
    assert set(built.values()) <= state.items.keys()
    for key, (known, told) in state.records.items():
        if known.quarantined and not told["broken"]:
            assert state.quarantine[key].startswith(f"item code {ItemCode(told['code'])} is taken by record ")


CONTENDED = st.lists(several(steps(codes=st.sampled_from("AB"), broken=st.just(False)), most=3), min_size=3, max_size=8)


@settings(max_examples=200)
@given(history=CONTENDED, held=st.booleans())
def test_what_a_record_was_built_into_is_its_own(history: list[list[Step]], held: bool) -> None:
    """Also when its code was another's before: of one that changed its code, or that the source removed and perhaps
    brings back while its deletion is held."""
    site = Site(Supplier(), guard=Guard(floor=0 if held else 1_000, ratio=Decimal(0)))
    for changes in history:
        take(site.supplier, changes)
        site.sync()
        present = {key: (known, told) for key, (known, told) in site.state.records.items() if not known.dropped}
        built = {f"{known.code}": told for known, told in present.values() if not known.quarantined}
        assert len(built) == sum(not known.quarantined for known, _ in present.values())
        for code, told in built.items():
            content = site.state.items[code]
            assert (content["name"]["en"], content["unit"]) == (told["name"], told["unit"])


@few
@given(history=HISTORIES, changes=several(ANY_STEP))
def test_who_is_refused_holds_no_code_that_another_one_waits_for(
    history: list[list[Step]], changes: list[Step]
) -> None:
    """Otherwise the two could be built: whoever holds the code of one that waits has it by right."""
    state = synced([*history, changes]).state
    whole = {key: raw for key, (_, raw) in state.records.items() if not raw["broken"]}
    wanted = {key: ItemCode(raw["code"]) for key, raw in whole.items()}
    holders = {known.code: key for key, (known, _) in state.records.items() if known.code is not None}
    for key in state.quarantine.keys() & wanted.keys():
        seen = {key}
        while (key := holders[wanted[key]]) in state.quarantine.keys() & wanted.keys():
            assert key not in seen, "they could exchange their codes"
            seen.add(key)


THREE = ("k1", "k2", "k3")


@few
@given(holders=st.permutations(THREE), order=st.permutations(THREE))
def test_records_may_exchange_their_codes(holders: list[str], order: list[str]) -> None:
    """Two of them, or three in a round; in one batch or in several. Each item is told to be updated, and no more."""
    site = Site(Supplier(size=1))
    for key in THREE:
        site.supplier.put(key, raw(code_of(key), f"of {key}"))
    site.sync()
    told = len(site.told)
    of = dict(zip(THREE, holders, strict=True))
    moving = [key for key in order if of[key] != key]
    for key in moving:
        site.supplier.put(key, raw(code_of(of[key]), f"of {key}"))
    execution = site.sync()
    assert site.state.quarantine == {}
    names = {code: content["name"]["en"] for code, content in site.state.items.items()}
    assert names == {code_of(of[key]): f"of {key}" for key in THREE}
    assert execution.counts == Counts(read=len(moving), updated=len(moving))
    events = sorted((row.key, row.effect.value) for row in site.told[told:])
    assert events == sorted((code_of(key), Effect.UPDATE.value) for key in moving)
