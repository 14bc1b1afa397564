"""Pages of JSON as Exact Online sends them, in files: what both the real path and its limit read."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

import orjson

PAGE = 500
"""Items on a page."""

_KINDS = (
    "Hex bolt",
    "Washer",
    "Cable tie",
    "Ball valve",
    "Crème lacquer",
    "Work glove",
    "Drill bit",
    "Hinge",
    "Façade clip",
)
_FORMS = ("stainless", "galvanised", "brass", "black", "nylon", "A4-80", "heavy duty", "pre-cut")
_TEXT = "For indoor and outdoor use, see the data sheet."


def write_pages(folder: Path, *, items: int, revision: Callable[[int], int] = lambda number: 0) -> None:
    """A catalogue of rows with 25 flat fields, about 645 B each.

    revision: that of the row with this number; rows of different revisions differ.
    """
    folder.mkdir()
    for first in range(0, items, PAGE):
        rows = [_row(number, revision(number)) for number in range(first, min(first + PAGE, items))]
        (folder / f"{first:09}.json").write_bytes(orjson.dumps({"d": {"results": rows}}))


def read_pages(folder: Path) -> Iterator[Sequence[dict[str, object]]]:
    for page in sorted(folder.iterdir()):
        yield orjson.loads(page.read_bytes())["d"]["results"]


def _row(number: int, revision: int) -> dict[str, object]:
    kind, form = _KINDS[number % len(_KINDS)], _FORMS[number // 7 % len(_FORMS)]
    weight = number % 400 / 16
    return {
        "ID": str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)),
        "Timestamp": str(number + 2 + revision * 10**9),
        "Code": f"{kind[:3].upper()}-{number:07}",
        "Description": f"{kind} {form} M{number % 30} x {number % 120}" + f" (revision {revision})" * (revision > 0),
        "ExtraDescription": _TEXT,
        "Barcode": f"87{number:011}",
        "Unit": "pc      " if number % 3 else "box     ",
        "UnitDescription": "Piece" if number % 3 else "Box",
        "ItemGroupCode": f"G{number % 60:03}",
        "ItemGroupDescription": f"{kind}s",
        "SalesVatCode": "2  ",
        "IsSalesItem": True,
        "IsStockItem": number % 10 != 0,
        "IsWebshopItem": number % 2,
        "IsBatchItem": 0,
        "IsSerialItem": False,
        "StartDate": "/Date(1704067200000)/",
        "EndDate": None,
        "NetWeight": weight,
        "GrossWeight": weight + (revision + 1) / 8,
        "NetWeightUnit": "kg",
        "SearchCode": f"{kind} {number}".upper()[:20],
        "CostPriceCurrency": "EUR",
        "Division": 124132,
        "Modified": "/Date(1764000000000)/",
    }
