"""The peer that shows whether the limit of `bench/limits/catalogue_sync.py` is a fair one: SQLAlchemy Core, used as its
tutorial does, writes the same items and outbox rows to the same tables.

    python -m bench.peers.core DATABASE PAGES

What a page's rows mean is read by the limit's own functions.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, Engine, MetaData, Table, create_engine, select
from sqlalchemy.dialects import postgresql, sqlite

from bench.limits.catalogue_sync import Postgres, Sqlite, attributes_of, batches, hashed, tariff, text

Values = dict[str, Any]

CONTENT = (
    "code", "name", "family_code", "unit", "units", "vat_tariff", "attributes", "images", "attachments", "stocks",
    "restock_orders",
)  # fmt: skip


def synchronise(engine: Engine, pages: Path) -> Counter[str]:
    metadata = MetaData()
    items, outbox, cursors, flows = (
        Table(name, metadata, autoload_with=engine) for name in ("items", "outbox", "cursors", "flows")
    )
    for column in (*items.c, *outbox.c, *cursors.c):
        if column.name in (*CONTENT[1:2], *CONTENT[4:5], *CONTENT[6:], "before", "after", "cursor"):
            column.type = JSON()
    written: Counter[str] = Counter()
    with engine.connect() as connection:
        connection_id = connection.execute(select(flows.c.connection_id)).scalar_one()
    for rows in batches(pages, Sqlite.batch if engine.dialect.name == "sqlite" else Postgres.batch):
        at = datetime.now(UTC)
        fresh = hashed(rows)
        wanted = [build(raw, at) for _, raw, _, _, _ in fresh]
        with engine.begin() as connection:
            found = connection.execute(select(items).where(items.c.code.in_([item["code"] for item in wanted])))
            kept = {row.code: row._asdict() for row in found}
            changed = [item for item in wanted if differing(kept.get(item["code"]), item)]
            if changed:
                connection.execute(
                    upsert(engine, items, "code"), [stored(engine, item, "updated_at") for item in changed]
                )
                told = [told_of(kept.get(item["code"]), item, at) for item in changed]
                connection.execute(outbox.insert(), [stored(engine, row, "occurred_at") for row in told])
                place = {"connection_id": connection_id, "entity": "item", "cursor": {"items": fresh[-1][4]}}
                connection.execute(upsert(engine, cursors, "connection_id", "entity"), [place])
            written.update({"items": len(changed), "outbox": len(changed)})
    return written


def build(raw: Mapping[str, Any], at: datetime) -> Values:
    code, description = raw["Code"].strip(), raw["Description"].strip()
    return {
        "code": code,
        "name": {"en": description},
        "family_code": text(raw["ItemGroupCode"]),
        "unit": text(raw["Unit"]),
        "units": [],
        "vat_tariff": tariff(raw),
        "attributes": attributes_of(raw),
        "images": [],
        "attachments": [],
        "stocks": [],
        "restock_orders": [],
        "searchable": f"{code}\x1f{description}".casefold(),
        "updated_at": at,
    }


def differing(before: Values | None, after: Values) -> list[str]:
    return [name for name in CONTENT if before is None or before[name] != after[name]]


def told_of(before: Values | None, after: Values, at: datetime) -> Values:
    effect = "create" if before is None else "update"
    return {
        "id": str(uuid4()),
        "event_type": f"item.{effect}d",
        "version": 1,
        "effect": effect,
        "entity_type": "item",
        "key": after["code"],
        "occurred_at": at,
        "triggered_by": "bench",
        "correlation_id": "bench",
        "before": {} if before is None else {name: before[name] for name in differing(before, after)},
        "after": {name: after[name] for name in CONTENT},
    }


def stored(engine: Engine, row: Values, moment: str) -> Values:
    """On SQLite the tables keep a moment as microseconds."""
    return row if engine.dialect.name == "postgresql" else {**row, moment: int(row[moment].timestamp() * 1_000_000)}


def upsert(engine: Engine, table: Table, *key: str) -> Any:
    statement = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(table)
    written = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=written)


def main() -> None:
    address = sys.argv[1]
    on_postgres = address.startswith("postgresql:")
    engine = create_engine(
        address.replace("postgresql:", "postgresql+psycopg:") if on_postgres else f"sqlite:///{address}"
    )
    began = time.perf_counter()
    written = synchronise(engine, Path(sys.argv[2]))
    print(json.dumps({"seconds": time.perf_counter() - began, "written": written}))


if __name__ == "__main__":
    main()
