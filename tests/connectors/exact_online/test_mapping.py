"""From Exact's rows to items: padding, dates, flags, numbers, what goes to quarantine, and the real extracts."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ordersync_connectors.exact_online.mapping import (
    ITEM_ASPECTS,
    ITEM_FIELDS,
    is_deleted_item,
    item,
    source_record,
    timestamp,
    tombstone,
)
from ordersync_connectors.exact_online.sandbox import SandboxSettings
from ordersync_core.connections.ports import Tombstone
from ordersync_core.items.model import Item, ItemCode, VatTariff
from ordersync_core.jobs.model import RunState
from ordersync_core.kernel.canonical import canonical_bytes
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.localised import localised_text
from tests.connectors.exact_online.workplace import FIRST_DAY, item_file, running, workplace

ROW: Mapping[str, Any] = {
    "__metadata": {"uri": "https://…", "type": "Exact.Web.Api.Models.Sync.Logistics.Item"},
    "Timestamp": "12345",
    "ID": "918004e1-0000-4000-8000-000000000001",
    "Code": "TBL-1",
    "Description": "Table",
    "ExtraDescription": None,
    "Barcode": "8712345678906",
    "Unit": "pc      ",
    "ItemGroupCode": "FURN  ",
    "SalesVatCode": "2  ",
    "IsSalesItem": True,
    "IsStockItem": False,
    "IsWebshopItem": 1,
    "StartDate": "/Date(1782345600000)/",
    "EndDate": None,
    "NetWeight": 15.5,
    "GrossWeight": 16,
    "NetWeightUnit": "kg",
    "SearchCode": "",
}
SETTINGS = {"language": "nl", "vat_tariffs": {"2": "Normal", "5": "Low1"}}

blanks = st.text(alphabet=" ", max_size=18)
texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)


def mapped(**values: Any) -> Item:
    return item(source_record({**ROW, **values}).raw, SETTINGS)


def attribute(name: str, **values: Any) -> Any:
    return mapped(**values).attributes.get(name)


def test_a_row_becomes_an_item() -> None:
    assert mapped() == Item(
        code=ItemCode("TBL-1"),
        name=localised_text({"nl": "Table"}),
        family_code="FURN",
        unit="pc",
        vat_tariff=VatTariff.NORMAL,
        attributes={
            "barcode": "8712345678906",
            "is_sales_item": True,
            "is_stock_item": False,
            "is_webshop_item": True,
            "start_date": "2026-06-25",
            "net_weight": "15.5",
            "gross_weight": "16",
            "weight_unit": "kg",
        },
    )


def test_only_what_the_connector_offers_is_mapped() -> None:
    blank = Item(code=ItemCode("TBL-1"))
    assert {name for name in ITEM_ASPECTS if getattr(mapped(), name) != getattr(blank, name)} == set(ITEM_ASPECTS)


def test_a_row_is_kept_as_it_came_without_what_changes_by_itself() -> None:
    record = source_record(ROW)
    assert (record.key, record.version) == (ROW["ID"], 12345)
    assert record.raw == {name: value for name, value in ROW.items() if name in ITEM_FIELDS}
    assert not {"Timestamp", "__metadata"} & set(record.raw)


def test_a_row_of_the_standard_resource_has_no_version() -> None:
    row = {name: value for name, value in ROW.items() if name != "Timestamp"}
    assert source_record(row).version is None
    assert source_record(row).raw == source_record(ROW).raw


# texts


@given(
    values=st.fixed_dictionaries(
        dict.fromkeys(("Code", "Description", "Unit", "ItemGroupCode", "SearchCode", "Barcode"), texts)
    ),
    left=blanks,
    right=blanks,
)
def test_padding_is_no_part_of_a_text(values: dict[str, str], left: str, right: str) -> None:
    padded = {name: left + value + right for name, value in values.items()}
    assert mapped(**padded) == mapped(**values)


@given(code=texts)
def test_a_code_is_kept_to_the_letter(code: str) -> None:
    assert mapped(Code=code).code == ItemCode(code)


@pytest.mark.parametrize("code", ["15056BL", "15056bl"])
def test_letter_case_tells_codes_apart(code: str) -> None:
    assert mapped(Code=code).code == code


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Code": None}, "the item has no Code"),
        ({"Code": "   "}, "the item has no Code"),
        ({"Description": None}, "the item has no Description"),
        ({"Description": ""}, "the item has no Description"),
        ({"Code": "A\tB"}, "an item code has 1 to 60 printable characters"),
        ({"Code": "x" * 61}, "an item code has 1 to 60 printable characters"),
        ({"Code": 15}, "Code 15 is not a text"),
        ({"Unit": ["pc"]}, "Unit ['pc'] is not a text"),
        ({"ItemGroupCode": "a\x00b"}, r"ItemGroupCode 'a\x00b' is not a text"),
        ({"IsWebshopItem": 2}, "IsWebshopItem 2 is neither true nor false"),
        ({"IsSalesItem": "true"}, "IsSalesItem 'true' is neither true nor false"),
        ({"NetWeight": "heavy"}, "NetWeight 'heavy' is not a number"),
        ({"NetWeight": True}, "NetWeight True is not a number"),
        ({"StartDate": "2026-06-25"}, "StartDate '2026-06-25' is not a date"),
        ({"EndDate": f"/Date({10**14 * 9})/"}, f"EndDate '/Date({10**14 * 9})/' is not a date"),
        ({"EndDate": 1782345600000}, "EndDate 1782345600000 is not a date"),
    ],
)
def test_what_makes_no_item_is_refused_with_its_reason(values: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        mapped(**values)
    assert str(refusal.value) == reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(strange=st.dictionaries(st.sampled_from(ITEM_FIELDS), json_values))
def test_whatever_comes_makes_an_item_or_a_reason(strange: dict[str, Any]) -> None:
    with suppress(InvalidInput):
        canonical_bytes(item({**ROW, **strange}, SETTINGS).content())


@given(row=st.dictionaries(st.sampled_from(["ID", "Timestamp", "EntityKey", "EntityType", *ITEM_FIELDS]), json_values))
def test_whatever_comes_can_be_told_apart_or_not(row: dict[str, Any]) -> None:
    for read in (source_record, tombstone, timestamp):
        with suppress(InvalidInput):
            read(row)


@pytest.mark.parametrize("row", [{}, {"ID": None}, {"ID": ""}, {"ID": 5}, {"ID": "x", "Timestamp": "soon"}])
def test_a_row_that_cannot_be_told_apart_is_refused(row: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        source_record(row)


# dates, flags, numbers


@given(day=st.dates(date(1900, 1, 1), date(2200, 1, 1)), offset=st.sampled_from(["", "+0200", "-0530", "+0000"]))
@example(day=date(2026, 6, 25), offset="")
@example(day=date(1969, 12, 31), offset="-0100")
def test_a_date_is_that_of_the_sites_clock(day: date, offset: str) -> None:
    """Its midnight is written as if it were UTC; an offset of old data changes nothing."""
    midnight = (datetime.combine(day, datetime.min.time()) - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001
    assert attribute("end_date", EndDate=f"/Date({midnight}{offset})/") == day.isoformat()


@pytest.mark.parametrize(("sent", "kept"), [(0, False), (1, True), (False, False), (True, True), (None, None)])
@pytest.mark.parametrize(
    ("field", "name"),
    [("IsWebshopItem", "is_webshop_item"), ("IsSalesItem", "is_sales_item"), ("IsStockItem", "is_stock_item")],
)
def test_a_flag_is_a_byte_or_a_boolean(field: str, name: str, sent: object, kept: bool | None) -> None:
    assert attribute(name, **{field: sent}) is kept


decoded = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9) | st.integers(
    -(2**63), 2**64 - 1
)
"""A number in JSON beyond 64 bits is decoded as a float."""


@given(number=decoded)
@example(number=100)
@example(number=100.0)
@example(number=-0.0)
@example(number=9.80000019)
@example(number=1e-7)
def test_a_number_keeps_its_value_and_has_one_spelling(number: float) -> None:
    kept = attribute("net_weight", NetWeight=number)
    assert Decimal(kept) == Decimal(str(number))
    assert "E" not in kept
    if float(number) == number and float(number).is_integer():
        assert kept == str(int(number))


# VAT, removals


@pytest.mark.parametrize(
    ("code", "tariff"),
    [("2  ", VatTariff.NORMAL), ("5", VatTariff.LOW1), ("7  ", None), (None, None), ("   ", None)],
)
def test_the_tariff_is_what_the_settings_say_of_the_vat_code(code: str | None, tariff: VatTariff | None) -> None:
    assert mapped(SalesVatCode=code).vat_tariff is tariff


def test_without_settings_there_is_no_tariff_and_the_language_is_english() -> None:
    made = item(source_record(ROW).raw, {})
    assert made.vat_tariff is None
    assert made.name == {"en": "Table"}


def test_a_removal_of_an_item_is_told_apart_from_others() -> None:
    row = {"Timestamp": "77", "EntityKey": ROW["ID"], "EntityType": 9}
    assert is_deleted_item(row)
    assert tombstone(row) == Tombstone(key=ROW["ID"], version=77)
    assert not is_deleted_item({**row, "EntityType": 2})
    assert not is_deleted_item({"Timestamp": "77"})


@pytest.mark.parametrize("row", [{}, {"EntityKey": "k"}, {"Timestamp": "1"}, {"EntityKey": "k", "Timestamp": None}])
def test_a_removal_that_does_not_say_of_what_is_refused(row: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        tombstone(row)


# the real items


def synced(folder: Path, file: Path) -> tuple[Mapping[str, str], list[str], Mapping[str, int]]:
    """Names by code, reasons in quarantine, and counts, after one run on the sandbox with that file."""
    with running(SandboxSettings(clock=FIRST_DAY, items=file)) as site, workplace(folder, site) as place:
        place.connect()
        run = place.sync()
        assert run.state is RunState.SUCCEEDED, run.reason
        return place.names(), place.reasons(), run.result or {}


REAL = [
    Path(str(files("ordersync_connectors.exact_online.sandbox") / "data" / "uci-online-retail-items.csv")),
    Path(__file__).parents[2] / "data" / "adventureworks-products.csv",
]


@pytest.mark.parametrize("file", REAL, ids=lambda file: file.stem)
def test_real_items_arrive_whole(file: Path, tmp_path: Path) -> None:
    with file.open(newline="", encoding="utf-8") as lines:
        source = {row["Code"]: row["Description"].strip() for row in csv.DictReader(lines)}
    names, reasons, result = synced(tmp_path / "state", file)
    assert names == source
    assert reasons == []
    assert (result["read"], result["created"], result["quarantined"]) == (len(source), len(source), 0)


def test_real_codes_that_differ_in_letter_case_stay_two_items(tmp_path: Path) -> None:
    names, _, _ = synced(tmp_path / "state", REAL[0])
    folded: dict[str, set[str]] = {}
    for code in names:
        folded.setdefault(code.casefold(), set()).add(code)
    pairs = [codes for codes in folded.values() if len(codes) > 1]
    assert len(pairs) == 110
    assert {"15056BL", "15056bl"} in pairs


def test_codes_that_collide_when_they_are_trimmed_are_quarantined(tmp_path: Path) -> None:
    """Rule 10: one of them is the item, and none is merged in silence."""
    rows = [
        {"Code": "A1", "Description": "First"},
        {"Code": " A1", "Description": "Second"},
        {"Code": "A1  ", "Description": "Third"},
        {"Code": "a1", "Description": "Another"},
        {"Code": " B1 ", "Description": " Alone "},
    ]
    names, reasons, result = synced(tmp_path / "state", item_file(tmp_path / "items.csv", rows))
    assert names == {"A1": "First", "a1": "Another", "B1": "Alone"}
    assert len(reasons) == 2
    assert all(reason.startswith("item code A1 is taken by record ") for reason in reasons)
    assert (result["read"], result["created"], result["quarantined"]) == (5, 3, 2)


def test_one_item_without_a_description_does_not_stop_the_others(tmp_path: Path) -> None:
    file = item_file(tmp_path / "items.csv", [{"Code": code, "Description": "Item"} for code in ("A1", "A2", "A3")])
    with running(SandboxSettings(clock=FIRST_DAY, items=file)) as site, workplace(tmp_path / "state", site) as place:
        site.put("A2", Description="  ")
        place.connect()
        assert place.sync().state is RunState.SUCCEEDED
        assert sorted(place.names()) == ["A1", "A3"]
        assert place.reasons() == ["the item has no Description"]
        site.put("A2", Description="Mended")
        assert place.told(place.sync) == [("created", "A2")]
        assert place.reasons() == []


def test_fields_of_every_kind_come_through_the_sandbox(tmp_path: Path) -> None:
    columns = ("Unit", "SalesVatCode", "IsWebshopItem", "IsSalesItem", "EndDate", "NetWeight")
    row = {
        "Code": "A1",
        "Description": "Item",
        "Unit": "stuk",
        "SalesVatCode": "5",
        "IsWebshopItem": "1",
        "IsSalesItem": "false",
        "EndDate": "2026-06-25",
        "NetWeight": "12.50",
    }
    file = item_file(tmp_path / "items.csv", [row], *columns)
    with running(SandboxSettings(clock=FIRST_DAY, items=file)) as site, workplace(tmp_path / "state", site) as place:
        place.connect(vat_tariffs={"5": "Low1"}, language="nl-BE")
        place.sync()
        [kept] = place.tables().items
    assert (kept.unit, kept.vat_tariff, kept.name) == ("stuk", "Low1", {"nl-BE": "Item"})
    assert kept.attributes == {
        "is_sales_item": False,
        "is_stock_item": True,
        "is_webshop_item": True,
        "end_date": "2026-06-25",
        "net_weight": "12.5",
    }
