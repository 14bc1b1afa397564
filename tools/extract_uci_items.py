"""Extract the items from the invoice lines of UCI's "Online Retail" (DOI 10.24432/C5BW33).

The target is a CSV file with one row per stock code, in the field names of Exact Online's items:

- `Code`: the stock code exactly as written; `85014B` and `85014b` are two items.
- `Description`: the most frequent description of that code, its whitespace untouched. Descriptions without a
  single capital letter (`damages wax`, `?lost`, `20713`) are notes from the warehouse, not names.
- `StandardSalesPrice`: the most frequent positive unit price, in the digits of the source; empty without one.

Among equally frequent values the one that was used last wins. A code that never had a description, or only
notes, is left out: nothing says what it names.
"""

import argparse
import csv
import gzip
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from pathlib import Path
from typing import IO, NamedTuple, cast

CODE_LENGTH = 30
"""The longest item code that Exact Online accepts."""

DESCRIPTION_LENGTH = 60
"""The longest item description that Exact Online accepts."""


COLUMNS = ("StockCode", "Description", "InvoiceDate", "UnitPrice")
"""The columns of the source that say something about the item."""


class InvoiceLine(NamedTuple):
    """Those columns of one line. The date is in ISO form, so that text order is time order."""

    stock_code: str
    description: str
    invoice_date: str
    unit_price: str


class Item(NamedTuple):
    """A row of the target. The price is empty when the item was never sold at a positive one."""

    code: str
    description: str
    standard_sales_price: str


class Extract(NamedTuple):
    """Items by code, and the codes left out: those never described, and those described by notes only."""

    items: Sequence[Item]
    undescribed: Sequence[str]
    only_noted: Sequence[str]


def extract(lines: Iterable[InvoiceLine]) -> Extract:
    """The items that these lines sell, whatever the order of the lines.

    Raises:
        ValueError: a price is no number, or a code or a description is longer than Exact Online accepts.
    """
    by_code: dict[str, list[InvoiceLine]] = defaultdict(list)
    for line in sorted(lines, key=attrgetter("invoice_date")):
        by_code[line.stock_code].append(line)

    items, undescribed, only_noted = [], [], []
    for code, sold in sorted(by_code.items()):
        descriptions = [line.description for line in sold if line.description.strip()]
        names = [description for description in descriptions if not is_note(description)]
        prices = [line.unit_price for line in sold if is_positive(line.unit_price)]
        if names:
            items.append(checked(Item(code, prevailing(names), prevailing(prices) if prices else "")))
        elif descriptions:
            only_noted.append(code)
        else:
            undescribed.append(code)
    return Extract(items, undescribed, only_noted)


def is_note(description: str) -> bool:
    return description == description.lower()


def is_positive(price: str) -> bool:
    try:
        return Decimal(price) > 0
    except InvalidOperation:
        raise ValueError(f"unit price {price!r} is no number") from None


def prevailing(values: Sequence[str]) -> str:
    """The most frequent value, the last one among equals. `values` are in order of time and not empty."""
    frequency = Counter(values)
    last_use = {value: place for place, value in enumerate(values)}
    return max(frequency, key=lambda value: (frequency[value], last_use[value]))


def checked(item: Item) -> Item:
    if len(item.code) > CODE_LENGTH:
        raise ValueError(f"stock code {item.code!r} is longer than {CODE_LENGTH} characters")
    if len(item.description) > DESCRIPTION_LENGTH:
        raise ValueError(f"the description of {item.code!r} is longer than {DESCRIPTION_LENGTH} characters")
    return item


def read_lines(source: Path) -> Iterator[InvoiceLine]:
    """The invoice lines of a CSV file, gzipped when its name ends in `.gz`.

    Raises:
        ValueError: a column is missing, in the header or in one line.
    """
    # gzip.open takes text mode too, but its type does not say so
    opened = cast(Callable[..., IO[str]], gzip.open if source.suffix == ".gz" else open)
    with opened(source, "rt", encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        for line in lines:
            missing = [column for column in COLUMNS if line.get(column) is None]
            if missing:
                raise ValueError(f"{source}, line {lines.line_num}, has no {missing[0]}")
            yield InvoiceLine(*(line[column] for column in COLUMNS))


def write_items(items: Iterable[Item], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Code", "Description", "StandardSalesPrice"])
        writer.writerows(items)


def main() -> int:
    parser = argparse.ArgumentParser(description="Extract the items from UCI's Online Retail invoice lines.")
    parser.add_argument("source", type=Path, help="the invoice lines, .csv or .csv.gz")
    parser.add_argument("target", type=Path, help="the .csv file of items to write")
    arguments = parser.parse_args()
    try:
        found = extract(read_lines(arguments.source))
        write_items(found.items, arguments.target)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        print(f"extract_uci_items: {error}", file=sys.stderr)
        return 1
    print(
        f"{len(found.items)} items; left out: {len(found.undescribed)} codes without a description, "
        f"{len(found.only_noted)} with warehouse notes only"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
