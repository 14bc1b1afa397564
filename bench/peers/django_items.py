"""Django writes the items alone, with `bulk_create`, into a table of its own: `python -m bench.peers.django_items
DATABASE PAGES`."""

import json
import sys
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import orjson
from django.conf import settings
from django.db import connection, models, transaction

from bench.limits.catalogue_sync import batches

BATCH = 5_000

FLAT = {
    "ID": str, "Timestamp": str, "Code": str, "Description": str, "ExtraDescription": str, "Barcode": str, "Unit": str,
    "UnitDescription": str, "ItemGroupCode": str, "ItemGroupDescription": str, "SalesVatCode": str, "IsSalesItem": bool,
    "IsStockItem": bool, "IsWebshopItem": int, "IsBatchItem": int, "IsSerialItem": bool, "StartDate": str,
    "EndDate": str, "NetWeight": float, "GrossWeight": float, "NetWeightUnit": str, "SearchCode": str,
    "CostPriceCurrency": str, "Division": int, "Modified": str,
}  # fmt: skip


def connect(address: str) -> None:
    if address.startswith("postgresql:"):
        parts = urlsplit(address)
        database: dict[str, Any] = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": parts.hostname,
            "PORT": parts.port,
            "USER": parts.username,
            "NAME": parts.path.removeprefix("/"),
        }
    else:
        options = {"init_command": "PRAGMA synchronous = FULL", "transaction_mode": "IMMEDIATE"}
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": address, "OPTIONS": options}
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()


def item_model() -> type[models.Model]:
    """Of a table of its own: a column for each field of the catalogue, and the hash of them all."""
    kinds = {bool: models.BooleanField, int: models.BigIntegerField, float: models.FloatField}
    fields: dict[str, Any] = {
        name.lower(): kinds.get(kind, models.TextField)(null=True) for name, kind in FLAT.items() if name != "ID"
    }
    fields["id"] = models.TextField(primary_key=True)
    fields["content_hash"] = models.TextField()
    meta = type("Meta", (), {"app_label": "bench", "db_table": "bench_items"})
    return type("Item", (models.Model,), {**fields, "Meta": meta, "__module__": __name__})


def synchronise(pages: Path) -> int:
    item, written = item_model(), 0
    if item._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(item)
    names = [field.name for field in item._meta.fields if field.name != "id"]
    for rows in batches(pages, BATCH):
        kept = dict(item.objects.filter(id__in=[row["ID"] for row in rows]).values_list("id", "content_hash"))
        changed = []
        for row in rows:
            content_hash = blake2b(orjson.dumps(row), digest_size=16).hexdigest()
            if kept.get(row["ID"]) != content_hash:
                values = {name.lower(): value for name, value in row.items()}
                changed.append(item(content_hash=content_hash, **values))
        with transaction.atomic():
            item.objects.bulk_create(changed, update_conflicts=True, unique_fields=["id"], update_fields=names)
        written += len(changed)
    return written


def main() -> None:
    connect(sys.argv[1])
    began = time.perf_counter()
    written = synchronise(Path(sys.argv[2]))
    print(json.dumps({"seconds": time.perf_counter() - began, "written": {"items": written}}))


if __name__ == "__main__":
    main()
