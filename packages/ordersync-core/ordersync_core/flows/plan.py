"""From a batch of source records to what shall be written: pure, and the same for a first run, a changed flow and a
run that goes on after a crash."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve, field, frozen

from ordersync_core.connections.ports import SourceRecord
from ordersync_core.flows.model import Counts, KnownRecord, Quarantined, RawRecord
from ordersync_core.flows.ports import ItemMapping
from ordersync_core.items.model import Item, ItemCode, delete, put, supply
from ordersync_core.kernel.canonical import content_hash
from ordersync_core.kernel.change import Change
from ordersync_core.kernel.errors import InvalidInput


@frozen(kw_only=True)
class Detected:
    """changed: the records whose content is new, or was not built yet by this version of the flow.

    returned: what is known now of stored records whose content is as it was: dropped ones came back, others have a
        later version, which outdoes whatever arrives late.
    """

    changed: Sequence[RawRecord] = ()
    unchanged: int = 0
    quarantined: int = 0
    returned: Sequence[KnownRecord] = ()


def latest(records: Iterable[SourceRecord]) -> list[SourceRecord]:
    """One record a key: the one with the highest version, then the last one read."""
    kept: dict[str, SourceRecord] = {}
    for record in records:
        earlier = kept.get(record.key)
        if earlier is None or not _is_older(record.version, earlier.version):
            kept[record.key] = record
    return list(kept.values())


def detect(records: Sequence[SourceRecord], known: Mapping[str, KnownRecord], *, flow_version: int) -> Detected:
    """What is new among the records, one a key. An older version than the stored one changes nothing."""
    changed: list[RawRecord] = []
    returned: list[KnownRecord] = []
    unchanged = quarantined = 0
    for record in records:
        stored = known.get(record.key)
        hashed = content_hash(record.raw)
        if stored is not None:
            older = _is_older(record.version, stored.source_version)
            if older or (stored.content_hash == hashed and stored.is_applied(flow_version)):
                if stored.quarantined:
                    quarantined += 1
                else:
                    unchanged += 1
                version = _newer(record.version, stored.source_version)
                if not older and (stored.dropped or stored.source_version != version):
                    returned.append(evolve(stored, source_version=version, dropped=False))
                continue
        changed.append(
            RawRecord(
                known=KnownRecord(
                    key=record.key,
                    content_hash=hashed,
                    source_version=_newer(record.version, None if stored is None else stored.source_version),
                    code=None if stored is None else stored.code,
                    dropped=stored is not None and stored.dropped,
                ),
                raw=record.raw,
            )
        )
    return Detected(changed=changed, unchanged=unchanged, quarantined=quarantined, returned=returned)


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


def codes_claimed(drafts: Drafts) -> list[ItemCode]:
    """The codes of which it must be asked who holds them. A record that is built into its own code again holds it,
    unless the source had dropped it meanwhile."""
    return [draft.code for record, draft in drafts.built if record.known.code != draft.code or record.known.dropped]


def refuse_taken_codes(drafts: Drafts, holders: Mapping[str, str]) -> Drafts:
    """Two records that claim one item code are never merged: the later one is refused.

    holders: for codes that stored records were built into, the key of that record.
    """
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
    it was before."""
    changes: list[Change[Item]] = []
    counts = {"created": 0, "updated": 0, "unchanged": 0, "deleted": 0}
    records: list[RawRecord] = []
    quarantined: list[Quarantined] = []
    renamed: list[ItemCode] = []
    for record, draft in drafts.built:
        before = kept.get(draft.code)
        change = put(before, supply(before, draft, aspects), at=at)
        if change is None:
            counts["unchanged"] += 1
        else:
            counts["created" if before is None else "updated"] += 1
            changes.append(change)
        earlier = record.known.code
        if earlier is not None and earlier != draft.code and ItemCode(earlier) in kept:
            renamed.append(ItemCode(earlier))
            changes.append(delete(kept[ItemCode(earlier)]))
            counts["deleted"] += 1
        records.append(_applied(record, code=draft.code, flow_version=flow_version, quarantined=False))
    for record, reason in drafts.refused:
        records.append(_applied(record, code=record.known.code, flow_version=flow_version, quarantined=True))
        quarantined.append(Quarantined(key=record.known.key, reason=reason, raw=record.raw, since=at))
    return Plan(
        changes=changes,
        saved=[change.after for change in changes if change.after is not None],
        deleted=renamed,
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
