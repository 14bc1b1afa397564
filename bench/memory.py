"""The peak memory of an import of a small and of a large catalogue:

    python -m bench.memory [--database sqlite|postgres] [--small 10000] [--large 500000]

Each import runs in a process of its own and reads its pages from files. Prints one JSON object; the goal is reached
when the large one takes at most 40 MB more than the small one.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench.catalogue_sync import place, real
from bench.pages import write_pages
from bench.real_path import CODE

GOAL = 40
"""Megabytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=500_000)
    arguments = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as name, place(arguments.database, Path(name)) as databases:
        for number, items in enumerate((arguments.small, arguments.large)):
            pages = Path(name) / f"pages{number}"
            write_pages(pages, items=items)
            made = databases(number)
            made.make(CODE)
            found = real(made, pages)
            assert found["counts"]["created"] == items, found
            peaks[items] = found["peak_megabytes"]
            print(f"{items} items: {found['seconds']:.1f} s", file=sys.stderr)
    more = peaks[arguments.large] - peaks[arguments.small]
    print(
        json.dumps(
            {
                "bench": "memory",
                "database": arguments.database,
                "peak_megabytes": {str(items): round(peak, 1) for items, peak in peaks.items()},
                "more_megabytes": round(more, 1),
                "goal": GOAL,
                "reached": more <= GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
