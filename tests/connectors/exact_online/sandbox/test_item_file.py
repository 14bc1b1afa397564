"""Item files: what is read, and the one line that a broken one gets."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_connectors.exact_online.sandbox import (
    ItemFileError,
    ItemRows,
    SandboxServer,
    SandboxSettings,
    read_item_file,
)


def _written(folder: Path, content: str | bytes, name: str = "items.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_whatever_its_delimiter(tmp_path: Path, delimiter: str) -> None:
    lines = ["code", "Description", "NETWEIGHT", "isSalesItem", "IsWebshopItem", "EndDate"]
    cells = ["A", "An item", "12.50", "no", "yes", "2026-06-25"]
    content = f"{delimiter.join(lines)}\r\n{delimiter.join(cells)}\r\n"
    [row] = read_item_file(_written(tmp_path, content))
    assert row == {
        "Code": "A",
        "Description": "An item",
        "NetWeight": 12.5,
        "IsSalesItem": False,
        "IsWebshopItem": 1,
        "EndDate": 1782345600000,
    }


def test_empty_cells_are_null_and_units_are_padded(tmp_path: Path) -> None:
    [row] = read_item_file(_written(tmp_path, "Code,Description,Barcode,NetWeight,Unit\nA,B,,,stuk\n"))
    assert row == {"Code": "A", "Description": "B", "Barcode": None, "NetWeight": None, "Unit": "stuk    "}


@pytest.mark.parametrize("code", ["item_code", "ItemCode", "StockCode", "SKU", "code"])
@pytest.mark.parametrize("description", ["Name", "TITLE", "description"])
def test_code_and_description_have_aliases(tmp_path: Path, code: str, description: str) -> None:
    rows = read_item_file(_written(tmp_path, f"{code},{description}\nA,B\n"))
    assert rows == [{"Code": "A", "Description": "B"}]
    assert rows.warnings == ()


def test_exacts_own_name_goes_before_an_alias_and_unused_columns_are_named_once(tmp_path: Path) -> None:
    rows = read_item_file(_written(tmp_path, "Code,name,Description,Colour\nA,x,B,red\nC,y,D,blue\n"))
    assert rows == [{"Code": "A", "Description": "B"}, {"Code": "C", "Description": "D"}]
    assert rows.warnings == ("column 'name' is not used", "column 'Colour' is not used")


def test_what_the_sandbox_sets_itself_is_not_taken_from_a_file(tmp_path: Path) -> None:
    rows = read_item_file(_written(tmp_path, "Code,Description,Division,Creator\nA,B,5,x\n"))
    assert rows == [{"Code": "A", "Description": "B"}]
    assert len(rows.warnings) == 2


@pytest.mark.parametrize("name", ["items.json", "items.ndjson", "items"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("as_array", [False, True])
def test_json_arrays_and_json_lines_are_read_plain_and_gzipped(
    tmp_path: Path, name: str, zipped: bool, as_array: bool
) -> None:
    records = [
        {"Code": "A", "Description": "B", "NetWeight": 2, "IsSalesItem": True, "EndDate": "/Date(1782345600000)/"},
        {"sku": "C", "title": "D", "IsWebshopItem": True, "Stock": 1.5, "Notes": None},
    ]
    text = json.dumps(records) if as_array else "".join(json.dumps(record) + "\n" for record in records)
    content = gzip.compress(text.encode()) if zipped else text.encode()
    rows = read_item_file(_written(tmp_path, content, f"{name}.gz" if zipped else name))
    assert rows == [
        {"Code": "A", "Description": "B", "NetWeight": 2, "IsSalesItem": True, "EndDate": 1782345600000},
        {"Code": "C", "Description": "D", "IsWebshopItem": 1, "Stock": 1.5, "Notes": None},
    ]


def test_a_byte_order_mark_and_quoted_line_breaks_do_no_harm(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + b'Code,Description,Notes\nA,"B, and","one\ntwo"\nC,D,\n'
    rows = read_item_file(_written(tmp_path, content))
    assert [(row["Code"], row["Description"], row["Notes"]) for row in rows] == [
        ("A", "B, and", "one\ntwo"),
        ("C", "D", None),
    ]


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("items.csv", "", "the file is empty"),
    ("items.csv", " \n\n", "the file is empty"),
    ("items.csv", "A1,First\nA2,Second\n", "row 1: no header with a column for Code"),
    ("items.csv", "Code,Colour\nA,red\n", "row 1: no header with a column for Description"),
    ("items.csv", "Code,code,Description\nA,B,C\n", "row 1: two columns are named Code"),
    ("items.csv", "Code,Description,x,x\nA,B,C,D\n", "row 1: a column name appears twice"),
    ("items.csv", "Code,Description\nA,B\n,C\n", "row 3: Code is empty"),
    ("items.csv", "Code,Description\nA,B\n  ,C\n", "row 3: Code is empty"),
    ("items.csv", "Code,Description\nA,\n", "row 2: Description is empty"),
    ("items.csv", f"Code,Description\n{'x' * 31},B\n", "row 2: Code: 31 characters, at most 30 are allowed"),
    ("items.csv", f"Code,Description\nA,{'x' * 61}\n", "row 2: Description: 61 characters, at most 60 are allowed"),
    ("items.csv", "Code,Description,Unit\nA,B,much too long\n", "row 2: Unit: 13 characters, at most 8 are allowed"),
    ("items.csv", "Code,Description\nA,B\nC,D\nA,E\n", "row 4: Code 'A' is also in row 2"),
    ("items.csv", "Code,Description\nA,B\nC\n", "row 3: 1 columns, the header has 2"),
    ("items.csv", "Code,Description\nA,B,C\n", "row 2: 3 columns, the header has 2"),
    ("items.csv", 'Code,Description\nA,B\n"C,D\n', "row 3: unexpected end of data"),
    ("items.csv", "Code;Description;NetWeight\nA;B;1,5\n", "row 2: NetWeight: '1,5' is not a number"),
    ("items.csv", "Code,Description,NetWeight\nA,B,nan\n", "row 2: NetWeight: 'nan' is not a number"),
    ("items.csv", "Code,Description,NetWeight\nA,B,1e999\n", "row 2: NetWeight: inf is not a number"),
    ("items.csv", "Code,Description,SecurityLevel\nA,B,1.5\n", "row 2: SecurityLevel: '1.5' is not a whole number"),
    ("items.csv", "Code,Description,IsWebshopItem\nA,B,256\n", "row 2: IsWebshopItem: 256 is not a whole number"),
    ("items.csv", "Code,Description,IsSalesItem\nA,B,perhaps\n", "row 2: IsSalesItem: 'perhaps' is not true or false"),
    ("items.csv", "Code,Description,EndDate\nA,B,25-06-2026\n", "row 2: EndDate: '25-06-2026' is not a date"),
    ("items.csv", "Code,Description,EndDate\nA,B,/Date(999999999999999)/\n", "row 2: EndDate: '/Date(9999"),
    ("items.csv", "Code,Description,ItemGroup\nA,B,x\n", "row 2: ItemGroup: 'x' is not a guid"),
    ("items.csv", b"Code,Description\nA,B\nC,caf\xe9\n", "row 3: bytes that are not UTF-8"),
    ("items.csv.gz", b"\x1f\x8b no", "not a whole gzip file"),
    ("items.csv.gz", gzip.compress(b"Code,Description\nA,B\n")[:-9], "not a whole gzip file"),
    ("items.csv.gz", b"Code,Description\nA,B\n", "not a whole gzip file"),
    ("items.ndjson", '{"Code":"A","Description":"B"}\n{"Code":\n', "row 2: not JSON"),
    ("items.ndjson", '{"Code":"A","Description":"B"}\n[1]\n', "row 2: not a JSON object"),
    ("items.ndjson", '{"Code":"A"}\n', "row 1: Description is missing"),
    ("items.ndjson", '{"Description":"A"}\n', "row 1: Code is missing"),
    ("items.ndjson", '{"Code":7,"Description":"B"}\n', "row 1: Code: 7 is not a text"),
    ("items.ndjson", '{"Code":"A","Description":"B","IsSalesItem":1}\n', "row 1: IsSalesItem: 1 is not true or false"),
    ("items.ndjson", '{"Code":"A","Description":"B","Stock":"4"}\n', "row 1: Stock: '4' is not a number"),
    ("items.ndjson", '{"Code":"A","Description":"B","Stock":true}\n', "row 1: Stock: True is not a number"),
    ("items.json", '[{"Code":"A","Description":"B"},\n{"Code":"A","Description":"C"}]', "row 2: Code 'A' is also"),
    ("items.json", '[{"Code":"A","Description":"B"},\n{"Code"]', "row 2: not JSON"),
    ("items.json", '[{"Code":"A","Description":"B"}, 3]', "row 2: not a JSON object"),
]


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN, ids=[reason for _, _, reason in BROKEN])
def test_a_broken_file_gets_one_line_with_file_row_and_reason(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    path = _written(tmp_path, content, name)
    with pytest.raises(ItemFileError) as caught:
        read_item_file(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: {reason}")
    assert "\n" not in line


def test_a_missing_file_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(ItemFileError, match="No such file"):
        read_item_file(tmp_path / "none.csv")


def test_a_broken_file_stops_the_sandbox_before_it_listens(tmp_path: Path) -> None:
    path = _written(tmp_path, "Code,Description\n,B\n")
    with pytest.raises(ItemFileError, match="row 2"), SandboxServer(SandboxSettings(items=path)):
        pytest.fail("it started")


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda text: text.strip()
)


@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=20, unique_by=lambda row: row[0]))
def test_any_codes_and_descriptions_survive_a_table(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(("Code", "Description"))
    writer.writerows(rows)
    path = _written(tmp_path_factory.mktemp("law"), file.getvalue())
    read = read_item_file(path)
    assert [(row["Code"], row["Description"]) for row in read] == rows


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = _written(tmp_path_factory.mktemp("law"), content)
    try:
        rows = read_item_file(path)
    except ItemFileError as error:
        rows, line = ItemRows(), str(error)
        assert line.startswith(str(path))
        assert "\n" not in line
    assert all(row["Code"] and row["Description"] for row in rows)
