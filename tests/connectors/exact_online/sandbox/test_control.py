"""The control routes, and what stays the same from one run to the next."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from ordersync_connectors.exact_online.sandbox import SandboxSettings
from tests.connectors.exact_online.sandbox.caller import ITEMS, Caller, running

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_the_clock_is_shown_moved_stopped_and_started(site: Caller) -> None:
    site.set_clock("2030-01-01T00:00:00Z")
    assert site.steer("GET", "clock") == {"now": "2030-01-01T00:00:00.000Z", "frozen": True}
    site.advance(90.5)
    assert site.steer("GET", "clock")["now"] == "2030-01-01T00:01:30.500Z"
    started = site.steer("POST", "clock", {"frozen": False})
    assert started["frozen"] is False
    while site.steer("GET", "clock")["now"] <= started["now"]:
        pass
    site.steer("POST", "clock", {"frozen": True})


@pytest.mark.parametrize(
    "body", [{"now": "2030-01-01T00:00:00"}, {"now": "2021-06-01T00:00:00Z"}, {"advance": "x"}, {"hour": 1}, [1]]
)
def test_the_clock_refuses_what_it_cannot_do(site: Caller, body: Any) -> None:
    answer = site.http.post("/_sandbox/clock", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_clock_before_2022_or_without_zone_is_no_setting() -> None:
    for start in (datetime(2021, 12, 1, tzinfo=UTC), datetime(2026, 1, 1)):  # noqa: DTZ001
        with pytest.raises(ValueError, match="the clock starts"):
            SandboxSettings(clock=start)


def test_an_item_is_created_merged_and_deleted_by_code(site: Caller) -> None:
    path = "items/" + quote("N/1 ?#", safe="")
    created = site.steer("PUT", path, {"Description": "New", "NetWeight": 2})
    assert created["created"] is True
    changed = site.steer("PUT", path, {"NetWeight": 3})
    assert changed["created"] is False
    assert changed["timestamp"] > created["timestamp"]
    assert changed["id"] == created["id"]
    item = site.d(f"logistics/Items(guid'{created['id']}')")
    assert (item["Code"], item["Description"], item["NetWeight"]) == ("N/1 ?#", "New", 3)
    site.steer("DELETE", path)
    assert site.get(f"logistics/Items(guid'{created['id']}')").status_code == 404
    assert site.http.delete(f"/_sandbox/{path}").status_code == 400


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"Description": ""},
        {"Description": "x" * 61},
        {"Description": "x", "ID": "x"},
        {"Description": "x", "Nothing": 1},
        {"Description": "x", "NetWeight": "heavy"},
        [],
    ],
)
def test_a_wrong_item_is_refused_and_changes_nothing(site: Caller, values: Any) -> None:
    before = site.state()
    assert site.http.put("/_sandbox/items/WRONG", json=values).status_code == 400
    assert site.state() == before


def test_a_change_touches_exactly_as_many_items_as_asked(site: Caller) -> None:
    before = site.state()["highest_timestamp"]
    changed = site.steer("POST", "change", {"percent": 1})["changed"]
    assert len(changed) == 12  # 1 percent of 1130, rounded up
    assert site.state()["highest_timestamp"] == before + 12
    assert site.steer("POST", "change", {"count": 0})["changed"] == []
    for body in ({}, {"percent": 1, "count": 1}, {"count": 1.5}, {"count": -1}, {"count": ITEMS + 1}, {"percent": "x"}):
        assert site.http.post("/_sandbox/change", json=body).status_code == 400


def test_changed_descriptions_stay_within_sixty_characters(site: Caller) -> None:
    site.put("LONG", Description="x" * 60)
    for _ in range(2):
        site.steer("POST", "change", {"percent": 100})
    description = site.item("LONG")["Description"]
    assert len(description) == 60
    assert description.count("(r") == 1
    site.remove("LONG")


def _run(item_file: Path, seed: int) -> tuple[Any, ...]:
    with running(SandboxSettings(items=item_file, seed=seed, clock=NOON)) as caller:
        rounds = [caller.steer("POST", "change", {"count": 5})["changed"] for _ in range(2)]
        rows = caller.rows("sync/Logistics/Items?$filter=Timestamp gt 1L&$select=ID,Code,Timestamp,Description")
        return rounds, [{name: row[name] for name in ("ID", "Code", "Timestamp", "Description")} for row in rows]


def test_the_same_seed_gives_the_same_guids_timestamps_and_changes(item_file: Path) -> None:
    first, again, other = (_run(item_file, seed) for seed in (7, 7, 8))
    assert first == again
    assert first[0] != other[0]
    assert {row["ID"] for row in first[1]}.isdisjoint(row["ID"] for row in other[1])


def test_control_calls_are_neither_logged_nor_counted(site: Caller) -> None:
    before = site.state()["requests"]
    for _ in range(100):
        site.state()
    assert site.state()["requests"] == before
    assert site.get("/api/v1/current/Me").headers["X-RateLimit-Minutely-Remaining"] == "59"


def test_the_log_has_one_flushed_line_a_request(item_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.ndjson"
    with running(SandboxSettings(items=item_file, log=path, clock=NOON)) as caller:
        caller.get("sync/Logistics/Items?$filter=Timestamp gt 1L&$select=Code")
        caller.get("crm/Accounts")
        lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        assert lines == caller.steer("GET", "log")["entries"]
        assert lines[3:] == caller.steer("GET", "log?after=3")["entries"]
    assert [line["n"] for line in lines] == [1, 2, 3, 4]
    assert [(line["method"], line["resource"], line["status"], line["rows"]) for line in lines] == [
        ("GET", "oauth2/auth", 302, 0),
        ("POST", "oauth2/token", 200, 0),
        ("GET", "sync/Logistics/Items", 200, 1000),
        ("GET", None, 404, 0),
    ]
    assert lines[2]["path"] == "/api/v1/1/sync/Logistics/Items"
    assert lines[2]["query"].startswith("$filter=Timestamp")
    assert lines[2]["at"].startswith("2026-01-05T12:")
    assert set(lines[2]) == {"n", "at", "method", "path", "query", "status", "resource", "rows", "fault"}


def test_state_tells_what_there_is(item_file: Path) -> None:
    with running(SandboxSettings(items=item_file, clock=NOON)) as caller:
        state = caller.state()
        assert (state["items"], state["deleted"], state["division"]) == (ITEMS, 0, 1)
        caller.remove("A0001")
        after = caller.state()
        assert (after["items"], after["deleted"]) == (ITEMS - 1, 1)
        assert after["highest_timestamp"] == state["highest_timestamp"] + 1
