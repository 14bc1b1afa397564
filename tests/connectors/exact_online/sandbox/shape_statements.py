"""Section 1.4, JSON shapes."""

import re
from datetime import UTC, datetime
from typing import Any

from tests.connectors.exact_online.sandbox.caller import ITEMS, Caller
from tests.connectors.exact_online.sandbox.statements import shows

ITEM = "logistics/Items?$filter=Code eq 'A0001'"
MANY = "logistics/Items?$filter=Code ge 'A'&$select=Code"


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@shows("1.4", "a guid is a lower-case string without braces")
def _guid(site: Caller) -> None:
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", site.item("A0001")["ID"])


@shows("1.4", "the empty guid is all zeros")
def _empty_guid(site: Caller) -> None:
    [me] = site.rows("/api/v1/current/Me")
    assert me["EmployeeID"] == "00000000-0000-0000-0000-000000000000"


@shows("1.4", 'a string or null; some texts are ""')
def _string(site: Caller) -> None:
    [me] = site.rows("/api/v1/current/Me")
    assert me["DivisionCustomerSiretNumber"] == ""
    assert site.item("A0001")["Barcode"] is None


@shows("1.4", "DateTime is /Date(milliseconds)/")
def _date(site: Caller) -> None:
    assert re.fullmatch(r"/Date\(\d{13}\)/", site.item("A0001")["Modified"])


@shows("1.4", "many flags are Byte 0 or 1, others are booleans")
def _flags(site: Caller) -> None:
    item = site.item("A0001")
    assert item["IsWebshopItem"] == 0
    assert item["IsWebshopItem"] is not False
    assert item["IsBatchItem"] is not False
    assert item["IsSalesItem"] is True
    assert item["IsSerialItem"] is False
    assert item["FreeBoolField_01"] is None
    assert site.item("A0004")["FreeBoolField_01"] is True


@shows("1.4", "Int64 is a string")
def _int64(site: Caller) -> None:
    [me] = site.rows("/api/v1/current/Me")
    assert me["Legislation"] == "1"
    assert site.d("system/Divisions(1)")["Hid"] == "1"
    [item] = site.rows("sync/Logistics/Items?$select=Timestamp&$filter=Timestamp gt 1L&$top=1")
    assert item["Timestamp"].isdigit()


@shows("1.4", "a Double has no forced decimals")
def _double(site: Caller) -> None:
    first = site.get("logistics/Items?$filter=Code eq 'A0001'&$select=StandardSalesPrice").text
    eighth = site.get("logistics/Items?$filter=Code eq 'A0008'&$select=StandardSalesPrice").text
    assert '"StandardSalesPrice":0.125}' in first
    assert '"StandardSalesPrice":1}' in eighth


@shows("1.4", "a write-only picture comes back null")
def _binary(site: Caller) -> None:
    assert site.item("A0001")["Picture"] is None


@shows("1.4", "__metadata stands first, with the full URL and the type")
def _metadata(site: Caller) -> None:
    item = site.item("A0001")
    assert next(iter(item)) == "__metadata"
    assert item["__metadata"] == {
        "uri": f"{site.url}/api/v1/1/logistics/Items(guid'{item['ID']}')",
        "type": "Exact.Web.Api.Models.Item",
    }
    assert site.d(item["__metadata"]["uri"])["Code"] == "A0001"


@shows("1.4", "type names Item, ItemGroup, System.Me and System.Division")
def _types(site: Caller) -> None:
    for path, name in (
        (ITEM, "Item"),
        ("logistics/ItemGroups", "ItemGroup"),
        ("/api/v1/current/Me", "System.Me"),
        ("system/Divisions", "System.Division"),
    ):
        assert site.rows(path)[0]["__metadata"]["type"] == f"Exact.Web.Api.Models.{name}"


@shows("1.4", "properties keep the server's order, whatever order $select used")
def _order(site: Caller) -> None:
    [row] = site.rows(f"{ITEM}&$select=Unit,Code,ID,Description")
    assert list(row) == ["__metadata", "ID", "Code", "Description", "Unit"]


@shows("1.4", "a list without $top is an object with results, with __next only while more rows exist")
def _list(site: Caller) -> None:
    assert set(site.d(MANY)) == {"results", "__next"}
    assert set(site.d(f"{ITEM}&$select=Code")) == {"results"}


@shows("1.4", "$top above the page size is an object with results")
def _large_top(site: Caller) -> None:
    d = site.d(f"{MANY}&$top=100")
    assert len(d["results"]) == 60
    assert len(site.d(d["__next"])["results"]) == 40
    assert set(site.d(f"{ITEM}&$select=Code&$top=1000")) == {"results"}


@shows("1.4", "$top up to the page size is a bare array, also when it is empty")
def _bare(site: Caller) -> None:
    for top in (1, 50, 60):
        d = site.d(f"{MANY}&$top={top}")
        assert isinstance(d, list)
        assert len(d) == top
    assert site.d("logistics/Items?$filter=Code eq 'none'&$top=1") == []
    assert site.d(f"{MANY}&$top=0") == []


@shows("1.4", "a key lookup is the entity object")
def _lookup(site: Caller) -> None:
    key = site.item("A0001")["ID"]
    assert site.d(f"logistics/Items(guid'{key}')")["ID"] == key


@shows("1.4", "current/Me is results with one row")
def _me(site: Caller) -> None:
    d = site.d("/api/v1/current/Me?$select=CurrentDivision")
    assert list(d) == ["results"]
    [row] = d["results"]
    assert set(row) == {"__metadata", "CurrentDivision"}
    assert row["CurrentDivision"] == 1


@shows("1.4", "a create answers the entity object, nearly all null without Prefer: return=representation")
def _create(site: Caller) -> None:
    bare = site.send("POST", "logistics/Items", json={"Code": "NEW-1", "Description": "New"})
    assert bare.status_code == 201
    assert bare.json()["d"]["Description"] is None
    assert bare.json()["d"]["ID"] == site.item("NEW-1")["ID"]
    whole = site.send(
        "POST",
        "logistics/Items",
        json={"Code": "NEW-2", "Description": "New"},
        headers={"Prefer": "return=representation"},
    )
    assert whole.json()["d"] == site.item("NEW-2")
    for code in ("NEW-1", "NEW-2"):
        site.remove(code)


@shows("1.4", '$inlinecount=allpages adds "__count" beside results')
def _count(site: Caller) -> None:
    assert site.d(f"{MANY}&$inlinecount=allpages")["__count"] == str(site.state()["items"])
    d = site.d("logistics/Items?$select=Code&$filter=Unit eq 'none'&$inlinecount=allpages&$top=1")
    assert d == {"results": [], "__count": "0"}


@shows("1.4", "/$count is a plain integer, without a JSON Accept header")
def _plain_count(site: Caller) -> None:
    answer = site.get("logistics/Items/$count?$filter=startswith(Code,'A0')", accept="text/plain")
    assert answer.headers["content-type"].startswith("text/plain")
    assert int(answer.text) == 999
    assert site.get("logistics/Items/$count?$filter=startswith(Code,'A0')").status_code == 406


@shows("1.4", "PUT, PATCH and DELETE answer 204 without a body")
def _no_content(site: Caller) -> None:
    site.put("GONE", Description="To go")
    path = f"logistics/Items(guid'{site.item('GONE')['ID']}')"
    answers = [
        site.send("PUT", path, json={"Description": "Put"}),
        site.send("PATCH", path, json={"Description": "Patched"}),
    ]
    assert site.item("GONE")["Description"] == "Patched"
    answers.append(site.send("DELETE", path))
    assert [(each.status_code, each.content) for each in answers] == [(204, b"")] * 3
    assert site.codes("Code eq 'GONE'") == []


@shows("1.4", "Created and Modified are the site's wall time written as if it were UTC")
def _wall_time(site: Caller) -> None:
    for moment, wall in (
        ("2026-06-25T12:00:00.110Z", "2026-06-25T14:00:00.110"),
        ("2026-12-25T12:00:00Z", "2026-12-25T13:00:00"),
    ):
        site.set_clock(moment)
        site.put("CLOCK", Description=moment)
        site.consent()
        item = site.item("CLOCK")
        assert item["Modified"] == f"/Date({_milliseconds(wall)})/"
    site.remove("CLOCK")


@shows("1.4", "Me gives ServerUtcOffset in seconds and ServerTime in local time")
def _server_time(site: Caller) -> None:
    site.set_clock("2026-06-25T12:00:00Z")
    site.consent()
    [me] = site.rows("/api/v1/current/Me")
    assert me["ServerUtcOffset"] == 7200
    assert me["ServerTime"] == "2026-06-25T14:00:00"


@shows("1.4", "a plain date is midnight in the same convention")
def _plain_date(site: Caller) -> None:
    assert site.item("A0003")["EndDate"] == "/Date(1782345600000)/"


@shows("1.4", "filters on Modified compare in local time")
def _modified_filter(site: Caller) -> None:
    site.set_clock("2026-06-25T12:00:00Z")
    site.consent()
    site.put("LOCAL", Description="Changed at 14:00 local time")
    assert site.codes("Modified ge datetime'2026-06-25T14:00:00' and Code eq 'LOCAL'") == ["LOCAL"]
    assert site.codes("Modified ge datetime'2026-06-25T14:00:01' and Code eq 'LOCAL'") == []
    site.remove("LOCAL")


@shows("1.4", "Unit is padded to 8")
def _unit(site: Caller) -> None:
    assert site.item("A0001")["Unit"] == "stuk    "


@shows("1.4", "VAT codes and countries are padded to 3")
def _three(site: Caller) -> None:
    assert site.item("A0001")["SalesVatCode"] == "2  "
    division = site.d("system/Divisions(1)")
    assert (division["Country"], division["Legislation"]) == ("NL ", "NL ")


@shows("1.4", "customer codes are right-aligned in 18 characters")
def _eighteen(site: Caller) -> None:
    [me] = site.rows("/api/v1/current/Me")
    assert me["DivisionCustomerCode"] == "                 1"
    assert site.d("hrm/Divisions(1)")["CustomerCode"] == "                 1"


@shows("1.4", "a filter on a padded property carries the padding, or uses trim")
def _padded_filter(site: Caller) -> None:
    def found(condition: str) -> int:
        return len(site.rows(f"logistics/Items?$select=Code&$filter={condition}&$top=1"))

    assert found("Unit eq 'stuk    '") == 1
    assert found("Unit eq 'stuk'") == 0
    assert found("trim(Unit) eq 'stuk'") == 1


@shows("1.4", "Item.Code is not padded and may hold anything up to 30 characters")
def _code(site: Caller) -> None:
    code = "O'Neil 3/4\" & 50% +ë(#?=;,)'"
    created = site.send("POST", "logistics/Items", json={"Code": code, "Description": "Odd"})
    assert created.status_code == 201
    params: dict[str, Any] = {"$filter": "Code eq '" + code.replace("'", "''") + "'", "$select": "Code"}
    url = site.http.build_request("GET", "/api/v1/1/logistics/Items", params=params).url
    assert [row["Code"] for row in site.rows(str(url))] == [code]
    assert site.send("DELETE", created.json()["d"]["__metadata"]["uri"]).status_code == 204


@shows("1.4", "items without a picture show a placeholder address")
def _picture(site: Caller) -> None:
    assert site.item("A0001")["PictureUrl"] == f"{site.url}//docs/images/placeholder_item.png"


@shows("1.4", "absent from the file is not absent from the row: all properties of the reference are there")
def _all_properties(site: Caller) -> None:
    item = site.item("A0001")
    assert {"Class_01", "FreeNumberField_08", "GLCosts", "NetWeightUnit", "UseExplosion"} <= set(item)
    assert len(item) > 100
    assert site.state()["items"] == ITEMS
