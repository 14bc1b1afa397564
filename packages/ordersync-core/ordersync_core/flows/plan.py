"""From a batch of source records to what shall be written: pure, and the same for a first run, a changed flow and a
run that goes on after a crash."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve, field, frozen

from ordersync_core.connections.ports import SourcePage, SourceRecord
from ordersync_core.flows.model import Counts, KnownRecord, Quarantined, RawRecord, Stored
from ordersync_core.flows.ports import ItemMapping
from ordersync_core.items.model import Item, ItemCode, delete, put, supply
from ordersync_core.kernel.canonical import content_hash
from ordersync_core.kernel.change import Change
from ordersync_core.kernel.errors import InvalidInput


@frozen(kw_only=True)
class Detected:
    """changed: the records whose content is new, or was not built yet by this version of the flow; and those that the
        source had dropped, because another one may have been built into their code meanwhile.

    quarantined: the keys of those that stay there.
    newer: what is known now of stored records whose content is as it was: their version is later, and outdoes
        whatever arrives late.
    """

    changed: Sequence[RawRecord] = ()
    unchanged: int = 0
    quarantined: Sequence[str] = ()
    newer: Sequence[KnownRecord] = ()


def latest(records: Sequence[SourceRecord]) -> Sequence[SourceRecord]:
    """One record a key: the one with the highest version, then the last one read."""
    if len({record.key for record in records}) == len(records):
        return records
    kept: dict[str, SourceRecord] = {}
    for record in records:
        earlier = kept.get(record.key)
        if earlier is None or not _is_older(record.version, earlier.version):
            kept[record.key] = record
    return list(kept.values())


def outliving(records: Sequence[SourceRecord], removed_in: Mapping[str, int]) -> list[SourceRecord]:
    """The records without those that the source removed in the same version, or a later one.

    removed_in: the version of the tombstone, by key.
    """
    return [
        record
        for record in records
        if record.version is None or record.key not in removed_in or record.version > removed_in[record.key]
    ]


def detect(records: Sequence[SourceRecord], stored: Stored, *, flow_version: int) -> Detected:
    """What is new among the records, one a key. An older version than the stored one changes nothing."""
    changed: list[RawRecord] = []
    newer: list[KnownRecord] = []
    quarantined: list[str] = []
    unchanged = 0
    for record in records:
        known = stored.known.get(record.key)
        if (
            known is not None
            and stored.spelled[record.key] == record.spelled
            and known.source_version == record.version
            and known.is_settled(flow_version)
        ):
            unchanged += 1
            continue
        raw = record.raw
        hashed = content_hash(raw)
        if known is not None:
            older = _is_older(record.version, known.source_version)
            as_it_was = known.content_hash == hashed and known.is_applied(flow_version) and not known.dropped
            if older or as_it_was:
                if known.quarantined:
                    quarantined.append(record.key)
                else:
                    unchanged += 1
                version = _newer(record.version, known.source_version)
                if not older and known.source_version != version:
                    newer.append(known._replace(source_version=version))
                continue
        changed.append(
            RawRecord(
                known=KnownRecord(
                    key=record.key,
                    content_hash=hashed,
                    source_version=_newer(record.version, None if known is None else known.source_version),
                    code=None if known is None else known.code,
                    dropped=known is not None and known.dropped,
                ),
                raw=raw,
            )
        )
    return Detected(changed=changed, unchanged=unchanged, quarantined=quarantined, newer=newer)


@frozen(kw_only=True)
class Drafts:
    """What could be built: (record, draft); and what could not, with the reason."""

    built: Sequence[tuple[RawRecord, Item]] = ()
    refused: Sequence[tuple[RawRecord, str]] = ()


def build(records: Sequence[RawRecord], mapping: ItemMapping, settings: Mapping[str, Any]) -> Drafts:
    built: list[tuple[RawRecord, Item]] = []
    refused: list[tuple[RawRecord, str]] = []
    for record in records:
        try:
            built.append((record, mapping(record.raw, settings)))
        except InvalidInput as error:
            refused.append((record, str(error)))
    return Drafts(built=built, refused=refused)


def changing_code(drafts: Drafts) -> Drafts:
    """Of what was built: the records that leave the code which they hold."""
    return Drafts(built=[(record, draft) for record, draft in drafts.built if _leaves_its_code(record, draft)])


def codes_claimed(drafts: Drafts) -> list[str]:
    """The codes of which it must be asked who holds them. A record that is built into its own code again holds it,
    unless the source had dropped it meanwhile: then it may have lost it."""
    codes = {draft.code for record, draft in drafts.built if record.known.code != draft.code or record.known.dropped}
    return sorted(codes | {record.known.code for record in _returning(drafts) if record.known.code is not None})


def refuse_taken_codes(drafts: Drafts, holders: Mapping[str, str]) -> Drafts:
    """Two records that claim one item code are never merged: the later one is refused.

    A record that is built into another code gives up its own, so that records can exchange theirs; one that is
    refused keeps it.

    holders: for codes that stored records were built into, the key of that record.
    """
    drafts = _without_lost_codes(drafts, holders)
    held = {record.known.code: record.known.key for record in _returning(drafts) if record.known.code is not None}
    held |= holders
    leaving = {record.known.key for record, draft in drafts.built if _leaves_its_code(record, draft)}
    while True:
        settled = _refuse(drafts, {code: key for code, key in held.items() if key not in leaving})
        staying = leaving.intersection(record.known.key for record, _ in settled.refused)
        if not staying:
            return settled
        leaving -= staying


def _leaves_its_code(record: RawRecord, draft: Item) -> bool:
    return record.known.code is not None and record.known.code != draft.code


def _returning(drafts: Drafts) -> list[RawRecord]:
    """Those that the source had dropped."""
    records = [record for record, _ in drafts.built if record.known.dropped]
    return records + [record for record, _ in drafts.refused if record.known.dropped]


def _without_lost_codes(drafts: Drafts, holders: Mapping[str, str]) -> Drafts:
    """While the source had dropped them, another record may have been built into their code: the item is its now."""
    lost = {
        record.known.key
        for record in _returning(drafts)
        if record.known.code is not None and holders.get(record.known.code, record.known.key) != record.known.key
    }
    if not lost:
        return drafts

    def as_it_is(record: RawRecord) -> RawRecord:
        return evolve(record, known=record.known._replace(code=None)) if record.known.key in lost else record

    return Drafts(
        built=[(as_it_is(record), draft) for record, draft in drafts.built],
        refused=[(as_it_is(record), reason) for record, reason in drafts.refused],
    )


def _refuse(drafts: Drafts, holders: Mapping[str, str]) -> Drafts:
    built: list[tuple[RawRecord, Item]] = []
    refused = list(drafts.refused)
    claimed = dict(holders)
    for record, draft in drafts.built:
        holder = claimed.setdefault(draft.code, record.known.key)
        if holder == record.known.key:
            built.append((record, draft))
        else:
            refused.append((record, f"item code {draft.code} is taken by record {holder}"))
    return Drafts(built=built, refused=refused)


@frozen(kw_only=True)
class Plan:
    """What one batch writes."""

    changes: Sequence[Change[Item]] = ()
    saved: Sequence[Item] = ()
    deleted: Sequence[ItemCode] = ()
    records: Sequence[RawRecord] = ()
    quarantined: Sequence[Quarantined] = ()
    cleared: Sequence[str] = ()
    counts: Counts = field(factory=Counts)

    @property
    def refused(self) -> list[str]:
        """Keys of what goes to quarantine."""
        return [entry.key for entry in self.quarantined]


def codes_touched(drafts: Drafts) -> list[ItemCode]:
    """Every item code that the plan needs to look at: what is built, and what a record was built into before."""
    codes = {draft.code for _, draft in drafts.built}
    codes |= {
        ItemCode(record.known.code)
        for record, draft in drafts.built
        if record.known.code is not None and record.known.code != draft.code
    }
    return sorted(codes)


def plan(
    drafts: Drafts,
    kept: Mapping[ItemCode, Item],
    *,
    aspects: Sequence[str],
    flow_version: int,
    at: datetime,
) -> Plan:
    """Decide each record: created, updated, unchanged, quarantined. A record whose code changed deletes the item that
    it was before, unless another one takes its code."""
    changes: list[Change[Item]] = []
    counts = {"created": 0, "updated": 0, "unchanged": 0, "deleted": 0}
    records: list[RawRecord] = []
    quarantined: list[Quarantined] = []
    left: list[ItemCode] = []
    taken = {draft.code for _, draft in drafts.built}
    for record, draft in drafts.built:
        before = kept.get(draft.code)
        change = put(before, supply(before, draft, aspects), at=at)
        if change is None:
            counts["unchanged"] += 1
        else:
            counts["created" if before is None else "updated"] += 1
            changes.append(change)
        earlier = record.known.code
        if earlier is not None and earlier not in taken and ItemCode(earlier) in kept:
            left.append(ItemCode(earlier))
            changes.append(delete(kept[ItemCode(earlier)]))
            counts["deleted"] += 1
        records.append(_applied(record, code=draft.code, flow_version=flow_version, quarantined=False))
    for record, reason in drafts.refused:
        records.append(_applied(record, code=record.known.code, flow_version=flow_version, quarantined=True))
        quarantined.append(Quarantined(key=record.known.key, reason=reason, raw=record.raw, since=at))
    return Plan(
        changes=changes,
        saved=[change.after for change in changes if change.after is not None],
        deleted=left,
        records=records,
        quarantined=quarantined,
        cleared=[record.known.key for record, _ in drafts.built],
        counts=Counts(quarantined=len(quarantined), **counts),
    )


def _applied(record: RawRecord, *, code: str | None, flow_version: int, quarantined: bool) -> RawRecord:
    known = record.known
    return RawRecord(
        known=KnownRecord(
            key=known.key,
            content_hash=known.content_hash,
            source_version=known.source_version,
            code=code,
            applied_hash=known.content_hash,
            applied_version=flow_version,
            quarantined=quarantined,
        ),
        raw=record.raw,
    )


def _is_older(version: int | None, than: int | None) -> bool:
    return version is not None and than is not None and version < than


def _newer(version: int | None, stored: int | None) -> int | None:
    """A read without versions keeps the one that is known."""
    return stored if version is None else version


def tombstoned(batch: SourcePage, records: Sequence[SourceRecord], known: Mapping[str, KnownRecord]) -> list[str]:
    """Keys that the source removed, unless a record of the same batch or store is of a later version."""
    if not batch.tombstones:
        return []
    versions = [(key, record.source_version) for key, record in known.items()]
    versions += [(record.key, record.version) for record in records]
    newest: dict[str, int] = {}
    for key, version in versions:
        newest[key] = max(newest.get(key, 0), version or 0)
    return [
        tombstone.key
        for tombstone in batch.tombstones
        if tombstone.key in newest and (tombstone.version is None or newest[tombstone.key] <= tombstone.version)
    ]
