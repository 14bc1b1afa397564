"""The domain rules of change detection, deletions and their guard, as laws over `flows/plan.py` and `flows/model.py`.

A small pure world stands for the database: what the raw tables and the item table would hold.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve, field, frozen
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ordersync_core.connections.ports import SourceRecord
from ordersync_core.flows.model import Counts, Guard, KnownRecord, Quarantined, RawRecord, Stored, deletions_allowed
from ordersync_core.flows.plan import (
    Drafts,
    build,
    codes_touched,
    detect,
    latest,
    plan,
    refuse_taken_codes,
)
from ordersync_core.items.model import Item, ItemCode, version_of
from ordersync_core.kernel.canonical import content_hash, spelling
from ordersync_core.kernel.change import Change
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.localised import localised_text
from ordersync_core.testing.strategies import guards, item_codes, items, known_records, names, source_records

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ALL_ASPECTS = ("name", "unit")
SETTINGS: Mapping[str, Any] = {}


def to_item(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> Item:
    if raw["broken"]:
        raise InvalidInput("the record is broken")
    return Item(code=ItemCode(raw["code"]), name=localised_text({"en": raw["name"]}), unit=raw["unit"])


@frozen(kw_only=True)
class World:
    """What is stored: the source's records by key, and the items by code."""

    records: Mapping[str, RawRecord] = field(factory=dict)
    items: Mapping[ItemCode, Item] = field(factory=dict)

    @property
    def known(self) -> dict[str, KnownRecord]:
        return {key: record.known for key, record in self.records.items()}

    @property
    def stored(self) -> Stored:
        return Stored(known=self.known, spelled={key: spelling(record.raw) for key, record in self.records.items()})

    def holders(self) -> dict[str, str]:
        return {known.code: key for key, known in self.known.items() if known.code is not None}


@frozen(kw_only=True)
class Synced:
    """The world after one batch, and what the batch says of itself."""

    world: World
    counts: Counts
    changes: Sequence[Change[Item]]
    quarantined: Sequence[Quarantined]


def sync(
    world: World, records: Sequence[SourceRecord], *, flow_version: int = 1, aspects: Sequence[str] = ALL_ASPECTS
) -> Synced:
    """One batch, in the steps of `flows.handlers.applying`."""
    one_a_key = latest(records)
    detected = detect(one_a_key, world.stored, flow_version=flow_version)
    drafts = refuse_taken_codes(build(detected.changed, to_item, SETTINGS), world.holders())
    kept = {code: world.items[code] for code in codes_touched(drafts) if code in world.items}
    planned = plan(drafts, kept, aspects=aspects, flow_version=flow_version, at=NOON)
    stored = dict(world.records)
    stored |= {record.known.key: record for record in planned.records}
    stored |= {known.key: evolve(stored[known.key], known=known) for known in detected.newer}
    kept_items = {code: item for code, item in world.items.items() if code not in planned.deleted}
    return Synced(
        world=World(records=stored, items=kept_items | {item.code: item for item in planned.saved}),
        counts=planned.counts.plus(
            Counts(read=len(one_a_key), unchanged=detected.unchanged, quarantined=len(detected.quarantined))
        ),
        changes=planned.changes,
        quarantined=planned.quarantined,
    )


def sync_all(world: World, batches: Sequence[Sequence[SourceRecord]]) -> Synced:
    synced = Synced(world=world, counts=Counts(), changes=(), quarantined=())
    for batch in batches:
        after = sync(synced.world, batch)
        synced = Synced(
            world=after.world,
            counts=synced.counts.plus(after.counts),
            changes=[*synced.changes, *after.changes],
            quarantined=[*synced.quarantined, *after.quarantined],
        )
    return synced


KEYS = st.sampled_from(("k1", "k2", "k3", "k4"))
CODES = st.sampled_from(("A", " A", "B", "C", "caf\u00e9", "cafe\u0301"))


def raws(codes: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Mapping[str, Any]]:
    """Few contents, so that the same ones come back; the codes collide, some only once they are trimmed."""
    return st.fixed_dictionaries(
        {
            "code": codes if codes is not None else CODES,
            "name": st.sampled_from(("one", "two")),
            "unit": st.none() | st.just("piece"),
            "broken": st.sampled_from((False, False, False, True)),
        }
    )


def batches(
    *,
    versions: st.SearchStrategy[int | None] = st.integers(1, 6),  # noqa: B008 - a strategy is a value
) -> st.SearchStrategy[list[SourceRecord]]:
    return st.lists(source_records(keys=KEYS, versions=versions, raws=raws()), max_size=8)


def histories() -> st.SearchStrategy[list[list[SourceRecord]]]:
    return st.lists(batches() | batches(versions=st.none()), max_size=4)


@st.composite
def versioned_records(draw: st.DrawFn) -> list[SourceRecord]:
    """Several versions of each key, each version once; the code goes with the key, so that none collide."""
    pairs = draw(st.lists(st.tuples(KEYS, st.integers(1, 6)), max_size=12, unique=True))
    return [
        SourceRecord.of(key=key, version=version, raw=draw(raws(st.just(f"code of {key}")))) for key, version in pairs
    ]


# 1, 3, 4: what a run says of itself


@given(history=histories(), batch=batches())
def test_reading_the_same_again_changes_and_tells_nothing(
    history: list[list[SourceRecord]], batch: list[SourceRecord]
) -> None:
    once = sync(sync_all(World(), history).world, batch)
    again = sync(once.world, batch)
    assert again.world == once.world
    assert again.changes == []
    assert (again.counts.created, again.counts.updated, again.counts.deleted) == (0, 0, 0)


@given(history=histories())
def test_the_counts_of_a_run_add_up(history: list[list[SourceRecord]]) -> None:
    counts = sync_all(World(), history).counts
    assert counts.read == sum(len({record.key for record in batch}) for batch in history)
    assert counts.created + counts.updated + counts.unchanged + counts.quarantined == counts.read


@given(history=histories())
def test_each_change_is_one_event_that_goes_on_from_the_one_before(history: list[list[SourceRecord]]) -> None:
    synced = sync_all(World(), history)
    assert len(synced.changes) == synced.counts.created + synced.counts.updated + synced.counts.deleted
    latest_content: dict[str, Any] = {}
    for change in synced.changes:
        key = change.notification.key
        before = None if change.before is None else change.before.content()
        after = None if change.after is None else change.after.content()
        assert before == latest_content.get(key)
        assert change.notification.after == after
        latest_content[key] = after
        if before is not None and after is not None:
            changed = {name for name in after if before[name] != after[name]}
            assert changed
            assert change.notification.before == {name: before[name] for name in changed}
    assert {key: content for key, content in latest_content.items() if content is not None} == {
        str(code): item.content() for code, item in synced.world.items.items()
    }


@given(history=histories())
def test_a_change_of_the_flow_builds_every_record_once_more(history: list[list[SourceRecord]]) -> None:
    world = sync_all(World(), history).world
    records = [
        SourceRecord.of(key=key, version=record.known.source_version, raw=record.raw)
        for key, record in world.records.items()
    ]
    after = sync(world, records, flow_version=2)
    assert all(known.is_applied(2) for known in after.world.known.values())
    assert sync(after.world, records, flow_version=2).changes == []


# 2: round trip


def distinct(entries: st.SearchStrategy[Item]) -> st.SearchStrategy[list[Item]]:
    return st.lists(entries, max_size=4, unique_by=lambda item: item.code)


POOLED = items(codes=st.sampled_from([ItemCode(code) for code in "ABCD"]))


@given(before=distinct(POOLED), wanted=distinct(POOLED))
def test_the_changes_lead_from_what_is_to_what_is_wanted_and_back(before: list[Item], wanted: list[Item]) -> None:
    every_aspect = [name for name in before[0].content() if name != "code"] if before else []
    drafts = Drafts(built=[(record_of(item), item) for item in wanted])
    kept = {item.code: item for item in before}
    planned = plan(drafts, kept, aspects=every_aspect, flow_version=1, at=NOON)

    after = kept | {item.code: item for item in planned.saved}
    assert all(after[item.code] == item for item in wanted)
    assert {code: item for code, item in after.items() if code not in {w.code for w in wanted}} == {
        code: item for code, item in kept.items() if code not in {w.code for w in wanted}
    }
    undone = dict(after)
    for change in planned.changes:
        assert change.after is not None
        del undone[change.after.code]
        if change.before is not None:
            undone[change.before.code] = change.before
    assert undone == kept
    assert plan(drafts, after, aspects=every_aspect, flow_version=1, at=NOON).changes == []


def record_of(item: Item) -> RawRecord:
    known = KnownRecord(key=f"key of {item.code}", content_hash=version_of(item), source_version=None)
    return RawRecord(known=known, raw={})


@given(before=POOLED, draft=POOLED, aspects=st.lists(st.sampled_from(("name", "unit", "stocks")), unique=True))
def test_a_step_writes_its_own_aspects_only(before: Item, draft: Item, aspects: list[str]) -> None:
    draft = evolve(draft, code=before.code)
    drafts = Drafts(built=[(record_of(draft), draft)])
    planned = plan(drafts, {before.code: before}, aspects=aspects, flow_version=1, at=NOON)
    after = planned.saved[0] if planned.saved else before
    for name in before.content():
        assert getattr(after, name) == getattr(draft if name in aspects else before, name)


# 5 to 7, 16: content, order and versions


@given(record=source_records(keys=KEYS))
def test_the_spelling_of_a_record_is_no_matter(record: SourceRecord) -> None:
    stored = RawRecord(
        known=KnownRecord(
            key=record.key,
            content_hash=content_hash(record.raw),
            source_version=record.version,
            applied_hash=content_hash(record.raw),
            applied_version=1,
        ),
        raw=record.raw,
    )
    respelled = record._replace(spelled=spelling({name: record.raw[name] for name in reversed(list(record.raw))}))
    world = World(records={record.key: stored})
    assert detect([respelled], world.stored, flow_version=1).changed == []


@given(records=versioned_records(), data=st.data())
def test_the_order_of_arrival_and_the_cut_into_pages_are_no_matter(
    records: list[SourceRecord], data: st.DataObject
) -> None:
    """Given a version per record. An item whose latest record is in quarantine keeps its last good content, whichever
    that was: it is left out."""
    worlds = []
    for _ in range(2):
        shuffled = data.draw(st.permutations(records))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
        edges = [0, *cuts, len(records)]
        worlds.append(sync_all(World(), [shuffled[start:end] for start, end in pairwise(edges)]).world)
    one, other = worlds

    newest = {record.key: record for record in sorted(records, key=lambda record: record.version or 0)}
    assert one.records.keys() == newest.keys()
    for key, record in newest.items():
        for world in worlds:
            stored = world.records[key]
            assert stored.raw == record.raw
            assert stored.known.source_version == record.version
            assert stored.known.quarantined == record.raw["broken"]
            assert stored.known.is_applied(1)
        if not record.raw["broken"]:
            code = ItemCode(f"code of {key}")
            assert one.items[code] == other.items[code] == to_item(record.raw, SETTINGS)


@given(history=histories(), older=source_records(keys=KEYS, versions=st.integers(0, 5), raws=raws()))
def test_an_older_version_that_arrives_late_changes_nothing(
    history: list[list[SourceRecord]], older: SourceRecord
) -> None:
    world = sync_all(World(), history).world
    assume(older.key in world.records and older.version is not None)
    stored = world.records[older.key]
    assume(stored.known.source_version is not None)
    newer = evolve(stored, known=stored.known._replace(source_version=6))
    world = evolve(world, records={**world.records, older.key: newer})
    for dropped, applied_version in ((False, 1), (True, 1), (False, None)):
        known = newer.known._replace(dropped=dropped, applied_version=applied_version)
        before = evolve(world, records={**world.records, older.key: evolve(newer, known=known)})
        after = sync(before, [older])
        assert after.world == before
        assert after.changes == []


def test_content_that_changed_and_changed_back_is_not_outdone_by_what_was_in_between() -> None:
    one, two = ({"code": "A", "name": name, "unit": None, "broken": False} for name in ("one", "two"))
    world = sync(World(), [SourceRecord.of(key="k", version=1, raw=one)]).world
    world = sync(world, [SourceRecord.of(key="k", version=3, raw=one)]).world
    assert sync(world, [SourceRecord.of(key="k", version=2, raw=two)]).world == world


@given(stored=known_records(keys=KEYS, flow_versions=st.just(1)), version=st.none() | st.integers(0, 20))
def test_a_dropped_record_returns_unless_the_news_of_it_is_old(stored: KnownRecord, version: int | None) -> None:
    raw: dict[str, Any] = {"name": "one"}
    hashed = content_hash(raw)
    dropped = stored._replace(content_hash=hashed, applied_hash=hashed, applied_version=1, dropped=True)
    world = World(records={stored.key: RawRecord(known=dropped, raw=raw)})
    detected = detect([SourceRecord.of(key=stored.key, version=version, raw=raw)], world.stored, flow_version=1)
    is_old = version is not None and dropped.source_version is not None and version < dropped.source_version
    assert [record.known.key for record in detected.changed] == ([] if is_old else [stored.key])
    assert detected.newer == []
    assert detected.unchanged + len(detected.quarantined) == is_old


# 9: duplicates in one batch


@given(records=batches() | batches(versions=st.none()))
def test_duplicates_collapse_to_the_highest_version_and_then_to_the_last_one_read(
    records: list[SourceRecord],
) -> None:
    best: dict[str, tuple[int, int]] = {}
    for place, record in enumerate(records):
        best[record.key] = max(best.get(record.key, (-1, -1)), (record.version or 0, place))
    assert {record.key: record for record in latest(records)} == {
        key: records[place] for key, (_, place) in best.items()
    }
    assert len(latest(records)) == len(best)
    assert latest(latest(records)) == latest(records)


# 10: keys


@given(text=st.text(max_size=10) | names())
def test_tidying_an_item_code_twice_is_tidying_it_once(text: str) -> None:
    try:
        code = ItemCode(text)
    except ValueError:
        assume(False)
    assert ItemCode(code) == code


@given(history=histories())
def test_an_item_code_never_belongs_to_two_records(history: list[list[SourceRecord]]) -> None:
    world = World()
    for batch in history:
        synced = sync(world, batch)
        for entry in synced.quarantined:
            if not entry.raw["broken"]:
                holder = entry.reason.rpartition(" ")[2]
                assert holder != entry.key
                assert synced.world.known[holder].code == ItemCode(entry.raw["code"])
        world = synced.world
        codes = [known.code for known in world.known.values() if known.code is not None]
        assert len(codes) == len(set(codes))
        assert set(codes) == {str(code) for code in world.items}


@given(
    drafts=st.lists(
        st.tuples(st.sampled_from(("k1", "k2", "k3")), item_codes(alphabet=st.sampled_from("ab"))), max_size=6
    ),
    holders=st.dictionaries(
        item_codes(alphabet=st.sampled_from("ab")).map(str), st.sampled_from(("k1", "k4")), max_size=3
    ),
)
def test_each_draft_is_built_or_refused_with_the_one_that_has_its_code(
    drafts: list[tuple[str, ItemCode]], holders: dict[str, str]
) -> None:
    built = [
        (RawRecord(known=KnownRecord(key=key, content_hash="", source_version=None), raw={}), Item(code=code))
        for key, code in drafts
    ]
    settled = refuse_taken_codes(Drafts(built=built), holders)
    assert sorted(r.known.key for r, _ in [*settled.built, *settled.refused]) == sorted(key for key, _ in drafts)
    owners = dict(holders)
    for record, draft in settled.built:
        assert owners.setdefault(draft.code, record.known.key) == record.known.key
    assert all(reason.rpartition(" ")[2] != record.known.key for record, reason in settled.refused)


# 11 to 14: deletions and their guard


@given(history=histories(), batch=batches())
def test_what_a_batch_does_not_name_is_not_deleted(
    history: list[list[SourceRecord]], batch: list[SourceRecord]
) -> None:
    """The only item that a batch may delete is the one that a record of the batch was before its code changed."""
    before = sync_all(World(), history).world
    after = sync(before, batch)
    assert before.records.keys() <= after.world.records.keys()
    read = {record.key for record in batch}
    gone = before.items.keys() - after.world.items.keys()
    assert gone <= {ItemCode(code) for code, key in before.holders().items() if key in read}
    assert after.counts.deleted == len([change for change in after.changes if change.after is None])


@given(guard=guards(), stricter=guards(), known=st.integers(0, 10_000), dropped=st.integers(0, 10_000))
def test_a_stricter_guard_never_applies_more_deletions(guard: Guard, stricter: Guard, known: int, dropped: int) -> None:
    stricter = Guard(floor=min(guard.floor, stricter.floor), ratio=min(guard.ratio, stricter.ratio))
    if allowed(dropped, known=known, guard=stricter):
        assert allowed(dropped, known=known, guard=guard)


@given(guard=guards(), kept=st.integers(1, 10_000), dropped=st.integers(0, 10_000))
def test_the_guard_allows_what_does_not_exceed_floor_and_ratio(guard: Guard, kept: int, dropped: int) -> None:
    known = kept + dropped
    exceeds = dropped > guard.floor and dropped > guard.ratio * known
    assert allowed(dropped, known=known, guard=guard) is not exceeds


@pytest.mark.parametrize(
    ("dropped", "known", "expected"),
    [(10, 11, True), (11, 109, False), (11, 110, True), (100, 1_000, True), (101, 1_000, False), (0, 1, True)],
)
def test_the_usual_guard_lets_ten_or_a_tenth_pass(dropped: int, known: int, expected: bool) -> None:
    assert allowed(dropped, known=known, guard=Guard()) is expected


@given(guard=guards(), known=st.integers(1, 10_000))
@example(guard=Guard(floor=1_000, ratio=Decimal(1)), known=1)
def test_an_empty_source_deletes_nothing_unless_a_person_confirmed(guard: Guard, known: int) -> None:
    assert not allowed(known, known=known, guard=guard)
    assert allowed(known, known=known, guard=guard, confirmed=True)


@given(guard=guards(), known=st.integers(0, 10_000), dropped=st.integers(0, 10_000))
def test_a_person_who_confirms_outdoes_the_guard(guard: Guard, known: int, dropped: int) -> None:
    assert allowed(dropped, known=known, guard=guard, confirmed=True)


def allowed(dropped: int, *, known: int, guard: Guard, confirmed: bool = False) -> bool:
    return deletions_allowed(dropped, known=known, confirmed=confirmed, guard=guard)
