"""Section 1.7, incremental reading."""

from tests.connectors.exact_online.sandbox.caller import ITEMS, Caller
from tests.connectors.exact_online.sandbox.statements import shows

ALL = "sync/Logistics/Items?$filter=Timestamp gt 1L&$select=Code,Description,Timestamp"


def _since(site: Caller, timestamp: int) -> list[str]:
    path = f"sync/Logistics/Items?$filter=Timestamp gt {timestamp}L&$select=Code,Timestamp"
    return [row["Code"] for row in site.walk(path)]


def _deleted_since(site: Caller, timestamp: int) -> list[dict[str, object]]:
    fields = "Timestamp,DeletedBy,DeletedDate,Division,EntityKey,EntityType,ID"
    return site.rows(f"sync/Deleted?$filter=Timestamp gt {timestamp}L&$select={fields}")


@shows("1.7", "same fields as the standard resource plus Timestamp, without StandardSalesPrice")
def _fields(site: Caller) -> None:
    [synced] = site.rows("sync/Logistics/Items?$filter=Timestamp gt 1L&$select=*&$top=1")
    assert set(synced) == set(site.item("A0001")) - {"StandardSalesPrice"} | {"Timestamp"}
    assert site.get("sync/Logistics/Items?$filter=Timestamp gt 1L&$select=StandardSalesPrice").status_code == 400
    assert site.get("logistics/Items?$filter=Timestamp gt 1L&$select=Code").status_code == 400


@shows("1.7", "Timestamp rises with every change and is unique over the company")
def _rises(site: Caller) -> None:
    timestamps = [int(row["Timestamp"]) for row in site.walk(ALL)]
    assert len(set(timestamps)) == ITEMS
    highest = site.state()["highest_timestamp"]
    site.put("A0011", Description="Once")
    site.put("A0011", Description="Twice")
    assert site.state()["highest_timestamp"] > highest + 1


@shows("1.7", "the first load asks Timestamp gt 1L and follows __next")
def _first_load(site: Caller) -> None:
    assert len(list(site.walk(ALL))) == ITEMS


@shows("1.7", "rows come ordered by Timestamp; each changed row appears once, with its newest Timestamp")
def _ordered(site: Caller) -> None:
    before = site.state()["highest_timestamp"]
    for code in ("A0030", "A0020", "A0030"):
        site.put(code, Description=f"Changed {code}")
    rows = list(site.walk(ALL))
    timestamps = [int(row["Timestamp"]) for row in rows]
    assert timestamps == sorted(timestamps)
    assert [row["Code"] for row in rows].count("A0030") == 1
    assert _since(site, before) == ["A0020", "A0030"]


@shows("1.7", "from the highest Timestamp on, only what changed since comes")
def _only_changes(site: Caller) -> None:
    highest = site.state()["highest_timestamp"]
    assert _since(site, highest) == []
    changed = site.steer("POST", "change", {"count": 7})["changed"]
    assert _since(site, highest) == changed


@shows("1.7", "a row changed during the walk moves to the end")
def _moves(site: Caller) -> None:
    first = site.d(ALL)
    code = first["results"][0]["Code"]
    site.put(code, Description="Changed meanwhile")
    rest = [row["Code"] for row in site.walk(first["__next"])]
    assert rest[-1] == code
    assert len({row["Code"] for row in first["results"]} | set(rest)) == ITEMS


@shows("1.7", "a new item comes as a change")
def _new(site: Caller) -> None:
    highest = site.state()["highest_timestamp"]
    site.put("FRESH", Description="Fresh")
    assert _since(site, highest) == ["FRESH"]
    site.remove("FRESH")


@shows("1.7", "SyncTimestamp gives the Timestamp to start late from", seed=2)
def _start_late(site: Caller) -> None:
    site.set_clock("2031-01-01T08:00:00Z")
    site.consent()
    site.put("A0040", Description="Before")
    site.advance(3600)
    site.consent()
    site.put("A0041", Description="After")
    path = "read/sync/Sync/SyncTimestamp?modified=datetime'2031-01-01T09:30:00'&endPoint='Items'"
    [row] = site.rows(path)
    assert set(row) == {"__metadata", "API", "Modified", "TimeStampAsBigInt"}
    assert "A0041" in _since(site, int(row["TimeStampAsBigInt"]))
    assert "A0040" not in _since(site, int(row["TimeStampAsBigInt"]))
    assert site.get(path.replace("endPoint", "end")).status_code == 400


@shows("1.7", "Modified ge finds what Modified gt loses: rows of the same moment", seed=2)
def _modified(site: Caller) -> None:
    site.set_clock("2032-07-01T08:00:00Z")
    site.consent()
    for code in ("A0050", "A0051"):
        site.put(code, Description="Same moment")
    moment = "datetime'2032-07-01T10:00:00'"
    assert site.codes(f"Modified ge {moment}") == ["A0050", "A0051"]
    assert site.codes(f"Modified gt {moment}") == []


@shows("1.7", "sync/Deleted names the key of the removed row, EntityType 9 for items")
def _deleted(site: Caller) -> None:
    site.put("DOOMED", Description="Doomed")
    key = site.item("DOOMED")["ID"]
    highest = site.state()["highest_timestamp"]
    site.remove("DOOMED")
    [row] = _deleted_since(site, highest)
    assert {"Timestamp", "DeletedBy", "DeletedDate", "Division", "EntityKey", "EntityType", "ID"} < set(row)
    assert (row["EntityKey"], row["EntityType"], row["Division"]) == (key, 9, 1)
    assert int(str(row["Timestamp"])) > highest
    assert row["ID"] != key
    assert "DOOMED" not in _since(site, 1)


@shows("1.7", "an item created again after its deletion has another ID")
def _created_again(site: Caller) -> None:
    site.put("PHOENIX", Description="First life")
    first = site.item("PHOENIX")["ID"]
    site.remove("PHOENIX")
    site.put("PHOENIX", Description="Second life")
    assert site.item("PHOENIX")["ID"] != first
    site.remove("PHOENIX")


@shows("1.7", "deletions are kept about two months")
def _kept(site: Caller) -> None:
    site.put("OLD", Description="Old")
    highest = site.state()["highest_timestamp"]
    site.remove("OLD")
    site.advance(60 * 24 * 3600)
    site.consent()
    assert len(_deleted_since(site, highest)) == 1
    site.advance(2 * 24 * 3600)
    site.consent()
    assert _deleted_since(site, highest) == []


@shows("1.7", "without the right to retrieve deleted records the list is empty", retrieve_deleted_records=False)
def _no_right(site: Caller) -> None:
    site.remove("A0001")
    assert _deleted_since(site, 1) == []


@shows("1.7", "soft ends: an item with EndDate in the past is still there")
def _soft_end(site: Caller) -> None:
    assert site.codes("EndDate lt datetime'2026-06-26'") == ["A0003"]
