"""dlt merges the items alone, into a table of its own: `python -m bench.peers.dlt_items DATABASE PAGES FOLDER`.

FOLDER is where it keeps its pipelines. SQLite gets a file beside the address.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before dlt reads them
os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": sys.argv[-1]}

import dlt

from bench.limits.catalogue_sync import batches

BATCH = 5_000


def synchronise(address: str, pages: Path, folder: Path) -> int:
    @dlt.resource(name="items", write_disposition="merge", primary_key="ID")
    def items() -> Iterator[list[dict[str, Any]]]:
        yield from batches(pages, BATCH)

    if address.startswith("postgresql:"):
        # it insists on a password, which a server that trusts its callers does not read
        destination = dlt.destinations.postgres(address.replace("@", ":unused@"))
    else:
        destination = dlt.destinations.sqlalchemy(f"sqlite:///{address}.dlt")
    pipeline = dlt.pipeline("bench", pipelines_dir=str(folder), destination=destination, dataset_name="bench")
    pipeline.run(items())
    with pipeline.sql_client() as client:
        rows = client.execute_sql("SELECT count(*) FROM items")
    return int(rows[0][0])


def main() -> None:
    began = time.perf_counter()
    written = synchronise(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"seconds": time.perf_counter() - began, "written": {"items": written}}))


if __name__ == "__main__":
    main()
