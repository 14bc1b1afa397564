"""The least code that does a catalogue synchronisation durably. It imports nothing of the project.

    python bench/limits/catalogue_sync.py DATABASE PAGES [--tables all|items]

DATABASE is a SQLite file or a Postgres address that the project's migrations made, with one connection and the item
flow in it. PAGES is a folder of pages of JSON. For each batch of pages: decode, hash, compare with the stored hashes,
write raw record, item, audit entry and outbox row of what changed and the cursor, commit; at the end mark the records
that no page had. Prints one JSON object: the seconds, and by table the rows that it wrote.

--tables items: items and outbox rows alone, compared with the stored items and not with hashes.
"""

import argparse
import gc
import json
import os
import resource
import sqlite3
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import orjson
import psycopg

Row = tuple[Any, ...]

FIELDS = (
    "ID", "Code", "Description", "ExtraDescription", "Barcode", "Unit", "ItemGroupCode", "SalesVatCode", "IsSalesItem",
    "IsStockItem", "IsWebshopItem", "StartDate", "EndDate", "NetWeight", "GrossWeight", "NetWeightUnit", "SearchCode",
)  # fmt: skip
TARIFFS = {"1": "Low1", "2": "Normal", "4": "NoVat"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

COLUMNS = {
    "records": (
        "key", "connection_id", "entity", "raw", "content_hash", "source_version", "code", "applied_hash",
        "applied_version", "quarantined", "dropped",
    ),
    "items": (
        "code", "name", "family_code", "unit", "units", "vat_tariff", "attributes", "images", "attachments", "stocks",
        "restock_orders", "searchable", "updated_at",
    ),
    "audit_entries": (
        "at", "id", "triggered_by", "correlation_id", "entity_type", "key", "effect", "before", "after",
    ),
    "outbox": (
        "id", "event_type", "version", "effect", "entity_type", "key", "occurred_at", "triggered_by", "correlation_id",
        "before", "after",
    ),
}  # fmt: skip
KEYS = {"records": ("key", "connection_id", "entity"), "items": ("code",)}


class Database(Protocol):
    """batch: rows that are committed together. moment: a moment as the tables keep it. known: content hash by key.
    kept: the item's row by code. write: one committed transaction. present: the keys of all records that are not marked
    as dropped. drop: marks them so."""

    batch: int

    def moment(self, at: datetime) -> Any: ...
    def connection_id(self) -> str: ...
    def known(self, keys: Sequence[str]) -> Mapping[str, Row]: ...
    def kept(self, codes: Sequence[str]) -> Mapping[str, Row]: ...
    def write(self, new: Mapping[str, list[Row]], changed: Mapping[str, list[Row]], cursor: Row) -> None: ...
    def present(self) -> Iterable[Row]: ...
    def drop(self, keys: Sequence[str]) -> None: ...
    def close(self) -> None: ...


class Sqlite:
    batch = 5_000

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA synchronous = FULL")
        self._names = {table: "exact_online_records" if table == "records" else table for table in COLUMNS}
        self._insert = {
            table: f"INSERT INTO {self._names[table]} ({_names(columns)}) VALUES ({', '.join('?' * len(columns))})"
            for table, columns in COLUMNS.items()
        }
        self._update = {
            table: f"UPDATE {self._names[table]} SET {_assigned(table, '?{}')} WHERE {_equal(table, '?{}')}"
            for table in KEYS
        }

    def connection_id(self) -> str:
        return str(self._database.execute("SELECT connection_id FROM flows").fetchone()[0])

    def known(self, keys: Sequence[str]) -> Mapping[str, Row]:
        statement = "SELECT key, content_hash FROM exact_online_records WHERE key IN (SELECT value FROM json_each(?))"
        rows = self._database.execute(statement, (orjson.dumps(keys).decode(),))
        return {row[0]: row for row in rows}

    def kept(self, codes: Sequence[str]) -> Mapping[str, Row]:
        statement = f"SELECT {_names(COLUMNS['items'])} FROM items WHERE code IN (SELECT value FROM json_each(?))"
        return {row[0]: row for row in self._database.execute(statement, (orjson.dumps(codes).decode(),))}

    def write(self, new: Mapping[str, list[Row]], changed: Mapping[str, list[Row]], cursor: Row) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        for table, rows in new.items():
            self._database.executemany(self._insert[table], rows)
        for table, rows in changed.items():
            self._database.executemany(self._update.get(table, self._insert[table]), rows)
        self._database.execute(
            "INSERT OR REPLACE INTO cursors (connection_id, entity, cursor) VALUES (?, ?, ?)", cursor
        )
        self._database.execute("COMMIT")

    def present(self) -> Iterable[Row]:
        return self._database.execute("SELECT key FROM exact_online_records WHERE NOT dropped")

    def drop(self, keys: Sequence[str]) -> None:
        self._database.executemany(
            "UPDATE exact_online_records SET dropped = 1 WHERE key = ?", [(key,) for key in keys]
        )

    def moment(self, at: datetime) -> int:
        return (at - EPOCH) // timedelta(microseconds=1)

    def close(self) -> None:
        self._database.close()


class Postgres:
    batch = 10_000

    def __init__(self, address: str) -> None:
        self._database = psycopg.connect(address, autocommit=True)
        self._names = {table: "exact_online.records" if table == "records" else table for table in COLUMNS}
        for table in KEYS:
            self._database.execute(
                f"CREATE TEMPORARY TABLE changed_{table} ON COMMIT DELETE ROWS AS "
                f"SELECT {_names(COLUMNS[table])} FROM {self._names[table]} WITH NO DATA"
            )

    def connection_id(self) -> str:
        return str(self._database.execute("SELECT connection_id FROM flows").fetchone()[0])  # type: ignore[index]

    def known(self, keys: Sequence[str]) -> Mapping[str, Row]:
        statement = "SELECT key, content_hash FROM exact_online.records WHERE key = ANY(%s)"
        return {row[0]: row for row in self._database.execute(statement, (keys,))}

    def kept(self, codes: Sequence[str]) -> Mapping[str, Row]:
        statement = f"SELECT {_names(COLUMNS['items'])} FROM items WHERE code = ANY(%s)"
        return {row[0]: row for row in self._database.execute(statement, (codes,))}

    def write(self, new: Mapping[str, list[Row]], changed: Mapping[str, list[Row]], cursor: Row) -> None:
        with self._database.transaction():
            for table, rows in chain(new.items(), changed.items()):
                if rows and (table not in KEYS or rows is new.get(table)):
                    self._copy(f"{self._names[table]} ({_names(COLUMNS[table])})", rows)
            for table in KEYS:
                if changed.get(table):
                    self._copy(f"changed_{table}", changed[table])
                    self._database.execute(
                        f"UPDATE {self._names[table]} AS t SET {_assigned(table, 'changed_' + table + '.{1}')} "
                        f"FROM changed_{table} WHERE {_equal(table, 'changed_' + table + '.{1}', 't.')}"
                    )
            self._database.execute(
                "INSERT INTO cursors (connection_id, entity, cursor) VALUES (%s, %s, %s) "
                "ON CONFLICT (connection_id, entity) DO UPDATE SET cursor = excluded.cursor",
                cursor,
            )

    def _copy(self, target: str, rows: Sequence[Row]) -> None:
        with self._database.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
            for first in range(0, len(rows), 500):
                copy.write("".join(map(line, rows[first : first + 500])))

    def present(self) -> Iterable[Row]:
        with self._database.transaction(), self._database.cursor("present") as cursor:
            cursor.itersize = 10_000
            yield from cursor.execute("SELECT key FROM exact_online.records WHERE NOT dropped")

    def drop(self, keys: Sequence[str]) -> None:
        self._database.execute("UPDATE exact_online.records SET dropped = true WHERE key = ANY(%s)", (keys,))

    def moment(self, at: datetime) -> datetime:
        return at

    def close(self) -> None:
        self._database.close()


def line(row: Row) -> str:
    """A row in COPY's text format."""
    spelled = "\t".join([value if type(value) is str else other(value) for value in row])
    plain = spelled.count("\\") == row.count(None) and spelled.count("\t") == len(row) - 1 and "\n" not in spelled
    return f"{spelled}\n" if plain else "\t".join(map(escaped, row)) + "\n"


ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def other(value: Any) -> str:
    return "\\N" if value is None else str(value)


def escaped(value: Any) -> str:
    return value.translate(ESCAPES) if type(value) is str else other(value)


def synchronise(database: Database, pages: Path, *, with_records: bool) -> Counter[str]:
    written: Counter[str] = Counter()
    seen: set[str] = set()
    newest = 0
    connection_id = database.connection_id()
    for rows in batches(pages, database.batch):
        at = database.moment(datetime.now(UTC))
        new: dict[str, list[Row]] = {table: [] for table in COLUMNS}
        changed: dict[str, list[Row]] = {table: [] for table in COLUMNS}
        fresh = hashed(rows)
        newest = max(newest, *(row[4] for row in fresh))
        keys = [row[0] for row in fresh]
        known = database.known(keys) if with_records else {}
        seen.update(keys)
        fresh = [row for row in fresh if row[0] not in known or known[row[0]][1] != row[3]]
        fresh.sort()  # keys come in no order, and the index by key has one
        built = [build(row[1], at) for row in fresh]
        kept = database.kept([item[0] for item in built])
        for (key, _, raw, content_hash, version), item in zip(fresh, built, strict=True):
            before = kept.get(item[0])
            if before is not None and before[:-1] == item[:-1]:
                continue
            target = new if before is None else changed
            target["items"].append(item)
            if with_records:
                target["records"].append(
                    (key, connection_id, "item", raw, content_hash, version, item[0], content_hash, 1, False, False)
                )
            after = whole(item)
            effect, old, new_fields = (
                ("create", "{}", after) if before is None else ("update", *differing(before, item))
            )
            id = uuid7()
            if with_records:
                target["audit_entries"].append((at, id, "bench", "bench", "item", item[0], effect, old, new_fields))
            target["outbox"].append(
                (id, f"item.{effect}d", 1, effect, "item", item[0], at, "bench", "bench", old, after)
            )
        cursor = orjson.dumps({"items": newest}).decode()
        database.write(new, changed, (connection_id, "item", cursor))
        written.update({table: len(new[table]) + len(changed[table]) for table in COLUMNS})
    if with_records:
        missing = [key for (key,) in database.present() if key not in seen]
        if missing:
            database.drop(missing)
    return written


def batches(pages: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    held: list[dict[str, Any]] = []
    for page in sorted(pages.iterdir()):
        held += orjson.loads(page.read_bytes())["d"]["results"]
        if len(held) >= size:
            yield held
            held = []
    if held:
        yield held


def hashed(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any], str, str, int]]:
    """Key, raw record, the same as JSON, its hash, its version."""
    found = []
    for row in rows:
        raw = {name: row[name] for name in FIELDS}
        body = orjson.dumps(raw)
        found.append((row["ID"], raw, body.decode(), blake2b(body, digest_size=16).hexdigest(), int(row["Timestamp"])))
    return found


def build(raw: Mapping[str, Any], at: Any) -> Row:
    """The item's row."""
    code, description = raw["Code"].strip(), unicodedata.normalize("NFC", raw["Description"]).strip()
    return (
        code,
        orjson.dumps({"en": description}).decode(),
        text(raw["ItemGroupCode"]),
        text(raw["Unit"]),
        "[]",
        tariff(raw),
        orjson.dumps(attributes_of(raw)).decode(),
        "[]",
        "[]",
        "[]",
        "[]",
        f"{code}\x1f{description}".casefold(),
        at,
    )


def attributes_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {
        "extra_description": text(raw["ExtraDescription"]),
        "barcode": text(raw["Barcode"]),
        "is_sales_item": flag(raw["IsSalesItem"]),
        "is_stock_item": flag(raw["IsStockItem"]),
        "is_webshop_item": flag(raw["IsWebshopItem"]),
        "start_date": date(raw["StartDate"]),
        "end_date": date(raw["EndDate"]),
        "net_weight": number(raw["NetWeight"]),
        "gross_weight": number(raw["GrossWeight"]),
        "weight_unit": text(raw["NetWeightUnit"]),
        "search_code": text(raw["SearchCode"]),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def tariff(raw: Mapping[str, Any]) -> str | None:
    return TARIFFS.get(raw["SalesVatCode"].strip())


def text(value: str | None) -> str | None:
    return None if value is None else value.strip() or None


def flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def number(value: float | None) -> str | None:
    if value is None:
        return None
    digits = repr(value)
    return digits[:-2] if digits.endswith(".0") else digits


def date(value: str | None) -> str | None:
    return None if value is None else time.strftime("%Y-%m-%d", time.gmtime(int(value[6:-2]) // 1000))


WHOLE = (
    "code", "name", "family_code", "unit", "units", "vat_tariff", "attributes", "images", "attachments", "stocks",
    "restock_orders",
)  # fmt: skip
AS_JSON = frozenset(("name", "units", "attributes", "images", "attachments", "stocks", "restock_orders"))


def whole(item: Row) -> str:
    """The item as JSON, put together from the JSON of its columns."""
    code, name, family_code, unit, units, tariff, attributes, images, attachments, stocks, restock_orders, _, _ = item
    return (
        f'{{"code":{quoted(code)},"name":{name},"family_code":{quoted(family_code)},"unit":{quoted(unit)},'
        f'"units":{units},"vat_tariff":{quoted(tariff)},"attributes":{attributes},"images":{images},'
        f'"attachments":{attachments},"stocks":{stocks},"restock_orders":{restock_orders}}}'
    )


def differing(before: Row, after: Row) -> tuple[str, str]:
    """The changed fields before and after, as JSON."""
    changed = [place for place, name in enumerate(WHOLE) if before[place] != after[place]]
    return tuple(  # type: ignore[return-value]
        "{" + ",".join(f'"{WHOLE[p]}":{row[p] if WHOLE[p] in AS_JSON else quoted(row[p])}' for p in changed) + "}"
        for row in (before, after)
    )


def quoted(value: str | None) -> str:
    return orjson.dumps(value).decode()


def uuid7() -> str:
    """Milliseconds, then random bits."""
    digits = f"{time.time_ns() // 1_000_000:012x}7{os.urandom(10).hex()}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-8{digits[17:20]}-{digits[20:32]}"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _assigned(table: str, value: str) -> str:
    """`value` with the column's place, counted from 1, and its name."""
    columns = enumerate(COLUMNS[table], start=1)
    return ", ".join(f'"{name}" = {value.format(place, name)}' for place, name in columns if name not in KEYS[table])


def _equal(table: str, value: str, prefix: str = "") -> str:
    columns = enumerate(COLUMNS[table], start=1)
    return " AND ".join(
        f'{prefix}"{name}" = {value.format(place, name)}' for place, name in columns if name in KEYS[table]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("pages", type=Path)
    parser.add_argument("--tables", choices=("all", "items"), default="all")
    arguments = parser.parse_args()
    on_postgres = arguments.database.startswith("postgres")
    opened: Database = Postgres(arguments.database) if on_postgres else Sqlite(arguments.database)
    with closing(opened) as database:
        gc.disable()  # nothing here has cycles
        began, cpu = time.perf_counter(), time.process_time()
        written = synchronise(database, arguments.pages, with_records=arguments.tables == "all")
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "written": written, "peak_megabytes": peak}))


if __name__ == "__main__":
    main()
