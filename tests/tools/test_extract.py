import csv
import gzip
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tools.extract_uci_items import InvoiceLine, Item, extract

ROOT = Path(__file__).parents[2]
EXTRACT = ROOT / (
    "packages/ordersync-connectors/ordersync_connectors/exact_online/sandbox/data/uci-online-retail-items.csv"
)
ADVENTUREWORKS = ROOT / "tests/data/adventureworks-products.csv"

SAMPLE = """\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536367,85123A,CREAM HANGING HEART T-LIGHT HOLDER,32,2010-12-01 08:34:00,2.95,,United Kingdom
536370,85123A,CREAM HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:45:00,2.95,12583.0,France
536371,85014b,"RED RETROSPOT UMBRELLA, SMALL ",6,2010-12-01 09:00:00,5.95,13748.0,United Kingdom
536372,85014B,RED RETROSPOT UMBRELLA,6,2010-12-01 09:01:00,5.95,17850.0,United Kingdom
536373,85014B,BLACK/BLUE POLKADOT UMBRELLA,6,2010-12-01 09:02:00,4.95,17850.0,United Kingdom
536374,22016,Dotcomgiftshop Gift Voucher £100.00,1,2010-12-01 09:09:00,0.0,,United Kingdom
536375,22016,missing?,-1,2010-12-01 09:10:00,0.0,,United Kingdom
536376,22016,missing?,-1,2010-12-01 09:11:00,-5.0,,United Kingdom
536377,84611B,thrown away,-9,2010-12-01 09:32:00,0.0,,United Kingdom
536378,84611B,,-9,2010-12-01 09:37:00,0.0,,United Kingdom
536379,21134,,1,2010-12-01 09:41:00,0.0,,United Kingdom
"""

EXPECTED = """\
Code,Description,StandardSalesPrice
22016,Dotcomgiftshop Gift Voucher £100.00,
85014B,BLACK/BLUE POLKADOT UMBRELLA,4.95
85014b,"RED RETROSPOT UMBRELLA, SMALL ",5.95
85123A,CREAM HANGING HEART T-LIGHT HOLDER,2.95
"""


def run(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools/extract_uci_items.py"), str(source), str(target)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.parametrize("name", ["lines.csv", "lines.csv.gz"])
def test_the_script_writes_one_row_per_stock_code(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / name, tmp_path / "items.csv"
    source.write_bytes(gzip.compress(SAMPLE.encode()) if name.endswith(".gz") else SAMPLE.encode())

    outcome = run(source, target)

    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout == ("4 items; left out: 1 codes without a description, 1 with warehouse notes only\n")
    assert target.read_bytes() == EXPECTED.encode()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (SAMPLE.replace("UnitPrice", "Price"), "line 2, has no UnitPrice"),
        (SAMPLE + "536380,21134\n", "line 14, has no Description"),
        (SAMPLE.replace("2.55", "two"), "unit price 'two' is no number"),
        (SAMPLE.replace("536365,85123A", f"536365,{31 * '8'}"), "is longer than 30 characters"),
        (SAMPLE.replace("T-LIGHT HOLDER", 61 * "T"), "the description of '85123A' is longer than 60"),
    ],
)
def test_a_source_it_cannot_read_gives_one_line(tmp_path: Path, source: str, complaint: str) -> None:
    lines, target = tmp_path / "lines.csv", tmp_path / "items.csv"
    lines.write_text(source, encoding="utf-8")

    outcome = run(lines, target)

    assert outcome.returncode == 1
    assert complaint in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not target.exists()


def test_a_tie_goes_to_the_latest_line_in_whatever_order_they_come() -> None:
    older = InvoiceLine("22423", "REGENCY CAKESTAND 3 TIER", "2010-12-01 08:26:00", "10.95")
    newer = InvoiceLine("22423", "REGENCY CAKESTAND, 3 TIERS", "2011-12-09 12:50:00", "12.75")

    expected = [Item("22423", "REGENCY CAKESTAND, 3 TIERS", "12.75")]

    assert extract([older, newer]).items == extract([newer, older]).items == expected


def test_the_committed_extract_is_complete_unique_and_sorted() -> None:
    items = rows(EXTRACT)
    codes = [item["Code"] for item in items]

    assert len(items) == 3_947
    assert list(items[0]) == ["Code", "Description", "StandardSalesPrice"]
    assert len(set(codes)) == len(codes)
    assert codes == sorted(codes)
    assert EXTRACT.read_bytes().count(b"\n") == 3_948
    assert b"\r" not in EXTRACT.read_bytes()


def test_every_committed_item_fits_exact_online() -> None:
    for item in rows(EXTRACT):
        assert 1 <= len(item["Code"]) <= 30
        assert item["Code"] == item["Code"].strip()
        assert 1 <= len(item["Description"].strip()) <= len(item["Description"]) <= 60
        assert item["Description"] != item["Description"].lower()
        assert item["StandardSalesPrice"] == "" or Decimal(item["StandardSalesPrice"]) > 0


def test_the_committed_extract_keeps_what_is_awkward_in_the_source() -> None:
    items = {item["Code"]: item for item in rows(EXTRACT)}
    spellings = Counter(code.upper() for code in items)

    assert sum(count > 1 for count in spellings.values()) == 110
    assert sum(item["Description"] != " ".join(item["Description"].split()) for item in items.values()) == 839
    assert sum(item["StandardSalesPrice"] == "" for item in items.values()) == 9
    assert items["85123A"]["Description"] == "WHITE HANGING HEART T-LIGHT HOLDER"
    assert items["85123A"]["StandardSalesPrice"] == "2.95"
    assert items["22016"]["Description"] == "Dotcomgiftshop Gift Voucher £100.00"
    assert {"POST", "BANK CHARGES", "M", "m", "gift_0001_20"} <= set(items)


def test_the_adventureworks_products_are_a_second_source() -> None:
    products = rows(ADVENTUREWORKS)

    assert len(products) == len({product["Code"] for product in products}) == 504
    assert list(products[0]) == ["Code", "Description"]
    assert [product["Code"] for product in products] == sorted(product["Code"] for product in products)
    assert all(1 <= len(product["Code"]) <= 30 for product in products)
    assert all(1 <= len(product["Description"]) <= 60 for product in products)
    assert {"Code": "HL-U509-R", "Description": "Sport-100 Helmet, Red"} in products
