"""What one company holds, in memory: items with their history of change, deletions, units and item groups.

Everything runs on the server's one event loop, so nothing here is locked.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from uuid import NAMESPACE_URL, uuid5

from .clock import SandboxClock
from .fields import Value

Values = Mapping[str, Value]

FIRST_TIMESTAMP = 1_000_001
ITEMS_ENTITY_TYPE = 9
DELETED_RECORDS_KEPT = 61 * 24 * 3600 * 1000
"""Milliseconds of wall time that `sync/Deleted` remembers a deletion: about two months (inferred)."""


class Row:
    """One entity. `values` is replaced, never changed in place; `timestamp` is that of its newest change."""

    __slots__ = ("deleted", "timestamp", "values")

    def __init__(self, values: Values, timestamp: int = 0) -> None:
        self.values = values
        self.timestamp = timestamp
        self.deleted = False

    @property
    def id(self) -> str:
        return str(self.values["ID"])


class Timeline:
    """Rows in the order of their newest change.

    A changed row is appended again; its old place is passed over while reading and swept away when half of the
    places are old. So reading from any timestamp is a bisection and a walk, never a sort.
    """

    def __init__(self) -> None:
        self._timestamps: list[int] = []
        self._rows: list[Row] = []
        self._old_places = 0

    def append(self, row: Row, *, moved: bool) -> None:
        """Put `row` at the end; `moved` says that it has an earlier place."""
        self._timestamps.append(row.timestamp)
        self._rows.append(row)
        if moved:
            self.forget_one_place()

    def forget_one_place(self) -> None:
        self._old_places += 1
        if self._old_places * 2 > len(self._rows) + 1000:
            self._sweep()

    def after(self, timestamp: int) -> Iterator[Row]:
        for place in range(bisect_right(self._timestamps, timestamp), len(self._rows)):
            row = self._rows[place]
            if not row.deleted and row.timestamp == self._timestamps[place]:
                yield row

    def _sweep(self) -> None:
        kept = list(self.after(0))
        self._rows = kept
        self._timestamps = [row.timestamp for row in kept]
        self._old_places = 0


class ByKey:
    """Rows in the order of their guids, the order a standard list has."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._rows: dict[str, Row] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: str) -> Row | None:
        return self._rows.get(key)

    def add(self, row: Row) -> None:
        insort(self._ids, row.id)
        self._rows[row.id] = row

    def add_all(self, rows: Iterable[Row]) -> None:
        self._rows.update((row.id, row) for row in rows)
        self._ids = sorted(self._rows)

    def remove(self, row: Row) -> None:
        del self._rows[row.id]
        del self._ids[bisect_left(self._ids, row.id)]

    def after(self, key: str) -> Iterator[Row]:
        for place in range(bisect_right(self._ids, key), len(self._ids)):
            yield self._rows[self._ids[place]]


class Company:
    """One division. Attributes are read by the resources; changes go through the methods."""

    def __init__(self, *, division: int, seed: int, clock: SandboxClock, currency: str) -> None:
        self.division = division
        self.seed = seed
        self._clock = clock
        self.user_id = self.guid("user")
        self.items = ByKey()
        self.timeline = Timeline()
        self.by_code: dict[str, Row] = {}
        self.deletions: list[Row] = []
        self.units = ByKey()
        self.item_groups = ByKey()
        self.highest_timestamp = FIRST_TIMESTAMP - 1
        self.version = 0
        self._lives: dict[str, int] = {}
        self._unit_names: dict[str, tuple[str, str]] = {}
        for code, (description, kind) in _UNITS.items():
            self._add_unit(code, description, kind, main=code == "pc")
        default_group = self._add_item_group("DEFAULT", "Default", is_default=True)
        self.item_defaults: Values = {
            "Division": division,
            "Creator": self.user_id,
            "CreatorFullName": USER_NAME,
            "Modifier": self.user_id,
            "ModifierFullName": USER_NAME,
            "CostPriceCurrency": currency,
            "IsSalesItem": True,
            "IsStockItem": True,
            "IsPurchaseItem": True,
            "IsFractionAllowedItem": False,
            "IsPackageItem": False,
            "IsSerialItem": False,
            "IsSubcontractedItem": False,
            "CopyRemarks": 0,
            "IsBatchItem": 0,
            "IsMakeItem": 0,
            "IsNewContract": 0,
            "IsOnDemandItem": 0,
            "IsTaxableItem": 0,
            "IsTime": 0,
            "IsWebshopItem": 0,
            "SecurityLevel": 0,
            "StandardSalesPrice": 0,
            "Unit": "pc      ",
            "UnitDescription": "Piece",
            "UnitType": "O",
            "ItemGroup": default_group.id,
            "ItemGroupCode": "DEFAULT",
            "ItemGroupDescription": "Default",
        }

    def guid(self, *parts: object) -> str:
        """A guid that follows from the seed and the parts, the same in every run."""
        return str(uuid5(NAMESPACE_URL, "/".join(map(str, ("exact-sandbox", self.seed, self.division, *parts)))))

    def load(self, rows: Iterable[Values]) -> None:
        """Take the rows of an item file, in its order; none of their codes may be known."""
        now = self._clock.wall_milliseconds()
        made = [self._new_item(values, now) for values in rows]
        self.items.add_all(made)

    def item(self, code: str) -> Row | None:
        return self.by_code.get(code)

    def create_item(self, values: Values) -> Row:
        """A new item; its Code may not be taken."""
        row = self._new_item(values, self._clock.wall_milliseconds())
        self.items.add(row)
        return row

    def change_item(self, row: Row, values: Values) -> None:
        """Merge `values` into the item and give it a new Timestamp. A new Code may not be taken."""
        old_code = str(row.values["Code"])
        row.timestamp = self._next_timestamp()
        stamps = {"Modified": self._clock.wall_milliseconds(), "Timestamp": row.timestamp}
        row.values = {**row.values, **self._completed(values), **stamps}
        self.timeline.append(row, moved=True)
        self.by_code[str(row.values["Code"])] = self.by_code.pop(old_code)

    def delete_item(self, row: Row) -> None:
        row.deleted = True
        self.items.remove(row)
        del self.by_code[str(row.values["Code"])]
        timestamp = self._next_timestamp()
        values: Values = {
            "Timestamp": timestamp,
            "DeletedBy": self.user_id,
            "DeletedDate": self._clock.wall_milliseconds(),
            "Division": self.division,
            "EntityKey": row.id,
            "EntityType": ITEMS_ENTITY_TYPE,
            "ID": self.guid("deletion", timestamp),
        }
        self.deletions.append(Row(values, timestamp))
        self.timeline.forget_one_place()

    def deletions_after(self, timestamp: int) -> Iterator[Row]:
        oldest = self._clock.wall_milliseconds() - DELETED_RECORDS_KEPT
        start = bisect_right(self.deletions, timestamp, key=lambda row: row.timestamp)
        for row in self.deletions[start:]:
            deleted_at = row.values["DeletedDate"]
            if isinstance(deleted_at, int) and deleted_at >= oldest:
                yield row

    def timestamp_before(self, modified: int) -> int:
        """The Timestamp to read on from to miss nothing that was modified at `modified` or later.

        Args:
            modified: milliseconds of wall time.
        """
        later = (row.timestamp for row in self.timeline.after(0) if _milliseconds(row, "Modified") >= modified)
        return next(later, self.highest_timestamp + 1) - 1

    def has_unit(self, code: str) -> bool:
        return code.rstrip(" ") in self._unit_names

    def _new_item(self, values: Values, now: int) -> Row:
        code = str(values["Code"])
        life = self._lives.get(code, 0)
        self._lives[code] = life + 1
        timestamp = self._next_timestamp()
        own: Values = {"ID": self.guid("item", code, *([life] if life else [])), "Created": now, "Modified": now}
        given = {name: value for name, value in self._completed(values).items() if value is not None}
        row = Row({**own, **given, "Timestamp": timestamp}, timestamp)
        self.timeline.append(row, moved=False)
        self.by_code[code] = row
        return row

    def _completed(self, values: Values) -> Values:
        """Add what Exact derives: names of the unit and of the item group; unknown ones are added to the company."""
        completed = dict(values)
        unit = values.get("Unit")
        if isinstance(unit, str):
            code = unit.rstrip(" ")
            if code not in self._unit_names:
                self._add_unit(code, code, "O")
            completed["UnitDescription"], completed["UnitType"] = self._unit_names[code]
        if values.get("ItemGroup") or values.get("ItemGroupCode"):
            group = self._item_group(values)
            completed |= {
                "ItemGroup": group.id,
                "ItemGroupCode": group.values["Code"],
                "ItemGroupDescription": group.values["Description"],
            }
        return completed

    def _item_group(self, values: Values) -> Row:
        code = values.get("ItemGroupCode")
        key = values.get("ItemGroup") or self.guid("item group", code)
        known = self.item_groups.find(str(key))
        if known is not None:
            return known
        code = str(code or str(key)[:8])
        return self._add_item_group(code, str(values.get("ItemGroupDescription") or code), key=str(key))

    def _add_item_group(self, code: str, description: str, *, key: str | None = None, is_default: bool = False) -> Row:
        now = self._clock.wall_milliseconds()
        values: Values = {
            "ID": key or self.guid("item group", code),
            "Code": code,
            "Description": description,
            "Division": self.division,
            "IsDefault": int(is_default),
            "Created": now,
            "Modified": now,
            "Creator": self.user_id,
            "CreatorFullName": USER_NAME,
            "Modifier": self.user_id,
            "ModifierFullName": USER_NAME,
        }
        row = Row(values)
        self.item_groups.add(row)
        return row

    def _add_unit(self, code: str, description: str, kind: str, *, main: bool = False) -> None:
        self._unit_names[code] = (description, kind)
        values: Values = {
            "ID": self.guid("unit", code),
            "Active": True,
            "Code": code,
            "Description": description,
            "Division": self.division,
            "Main": int(main),
            "Type": kind,
        }
        self.units.add(Row(values))

    def _next_timestamp(self) -> int:
        self.highest_timestamp += 1
        self.version += 1
        return self.highest_timestamp


USER_NAME = "Sandbox User"
_UNITS = {
    "pc": ("Piece", "O"),
    "box": ("Box", "O"),
    "kg": ("Kilogram", "W"),
    "m": ("Metre", "L"),
    "hour": ("Hour", "T"),
}


def _milliseconds(row: Row, name: str) -> int:
    value = row.values.get(name)
    return value if isinstance(value, int) else 0
