"""Scripted faults, each seen by a client on the wire."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from ordersync_connectors.exact_online.sandbox import FaultError, SandboxServer, SandboxSettings
from ordersync_connectors.exact_online.sandbox.faults import parse_faults
from tests.connectors.exact_online.sandbox.caller import Caller, running

UNITS = "logistics/Units"


def _statuses(site: Caller, calls: int) -> list[int]:
    return [site.get(UNITS).status_code for _ in range(calls)]


@pytest.mark.parametrize(
    ("counts", "failing"),
    [
        ({}, [1]),
        ({"nth": 3}, [3]),
        ({"nth": 2, "times": 3}, [2, 3, 4]),
        ({"nth": "every"}, [1, 2, 3, 4, 5, 6]),
        ({"nth": "every", "times": 2}, [1, 2]),
        ({"every": 2}, [2, 4, 6]),
        ({"every": 2, "times": 2}, [2, 4]),
    ],
)
def test_a_fault_strikes_the_calls_it_names(site: Caller, counts: dict[str, Any], failing: list[int]) -> None:
    site.fault(match="logistics/units$", do="status", status=500, **counts)
    assert _statuses(site, 6) == [500 if number in failing else 200 for number in range(1, 7)]


def test_path_query_and_method_choose_the_calls(site: Caller) -> None:
    site.fault(match="Units", query="Code eq 'pc'", method="get", do="status", status=503, nth="every")
    assert site.get(f"{UNITS}?$filter=Code eq 'pc'").status_code == 503
    assert site.get(f"{UNITS}?$filter=Code eq 'kg'").status_code == 200
    assert site.get("logistics/ItemGroups").status_code == 200


def test_several_faults_count_their_own_calls_and_the_first_wins(site: Caller) -> None:
    site.steer(
        "POST",
        "faults",
        [
            {"match": "Units", "do": "status", "status": 500, "nth": 1},
            {"match": "Units", "do": "status", "status": 503, "nth": 1, "times": 2},
        ],
    )
    assert _statuses(site, 3) == [500, 503, 200]
    assert [fault["calls"] for fault in site.steer("GET", "faults")["faults"]] == [3, 3]
    site.steer("DELETE", "faults")
    assert site.steer("GET", "faults") == {"faults": []}


def test_a_status_can_ask_for_a_pause(site: Caller) -> None:
    site.fault(match="Units", do="status", status=429, retry_after=7)
    answer = site.get(UNITS)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_a_status_of_the_token_endpoint_has_oauths_shape(site: Caller) -> None:
    site.fault(match="oauth2/token", do="status", status=400, text="No more")
    assert site.refresh().json() == {"error": "invalid_grant", "error_description": "No more"}


def test_a_401_has_no_body_and_is_no_data_error(site: Caller) -> None:
    site.fault(match="Units", do="status", status=401)
    answer = site.get(UNITS)
    assert (answer.status_code, answer.content) == (401, b"")


@pytest.mark.parametrize("kind", ["half_json", "error_glued"])
def test_a_broken_page_is_200_and_no_json(site: Caller, kind: str) -> None:
    site.fault(match="Units", do=kind)
    answer = site.get(UNITS)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting|Extra"):
        answer.json()
    assert ('{"error":' in answer.text) == (kind == "error_glued")
    assert site.get(UNITS).status_code == 200


def test_a_dropped_call_did_nothing(site: Caller) -> None:
    site.fault(match="logistics/Items", method="POST", do="drop")
    with pytest.raises(httpx.TransportError):
        site.send("POST", "logistics/Items", json={"Code": "DROPPED", "Description": "x"})
    assert site.codes("Code eq 'DROPPED'") == []


def test_a_lost_answer_did_its_work(site: Caller) -> None:
    site.fault(match="logistics/Items", method="POST", do="answer_lost")
    with pytest.raises(httpx.TransportError):
        site.send("POST", "logistics/Items", json={"Code": "LOST", "Description": "x"})
    assert site.codes("Code eq 'LOST'") == ["LOST"]
    site.remove("LOST")


def test_a_lost_token_answer_ends_the_chain(site: Caller) -> None:
    site.advance(575)
    site.fault(do="token_answer_lost")
    with pytest.raises(httpx.TransportError):
        site.refresh()
    assert site.refresh().json()["error_description"] == "Old refresh token used."
    site.consent()
    assert site.get(UNITS).status_code == 200


def test_hang_answers_nothing_and_then_closes(site: Caller) -> None:
    site.fault(match="Units", do="hang", seconds=0.05)
    with pytest.raises(httpx.TransportError):
        site.get(UNITS)
    assert site.get(UNITS).status_code == 200


def test_a_hanging_call_does_not_hold_up_others(site: Caller) -> None:
    site.fault(match="Units", do="hang", seconds=600)
    ended = threading.Event()

    def hanging() -> None:
        with httpx.Client(base_url=site.url, trust_env=False, timeout=0.2) as http, pytest.raises(httpx.ReadTimeout):
            http.get(f"/api/v1/1/{UNITS}")
        ended.set()

    thread = threading.Thread(target=hanging)
    thread.start()
    while not any(entry["fault"] == "hang" for entry in site.steer("GET", "log")["entries"][-5:]):
        pass
    assert site.get("logistics/ItemGroups").status_code == 200
    thread.join(10)
    assert ended.is_set()


def test_a_slow_answer_comes_whole(site: Caller) -> None:
    site.fault(match="Units", do="slow", seconds=0.05)
    assert len(site.rows(UNITS)) >= 5


def test_the_log_names_the_fault_and_has_no_status_for_an_answer_that_never_came(site: Caller) -> None:
    before = site.state()["requests"]
    site.fault(match="Units", do="drop", nth=1)
    site.fault(match="Units", do="status", status=503, nth=2)
    with pytest.raises(httpx.TransportError):
        site.get(UNITS)
    site.get(UNITS)
    site.get(UNITS)
    entries = site.steer("GET", f"log?after={before}")["entries"]
    assert [(entry["status"], entry["fault"]) for entry in entries] == [(None, "drop"), (503, "status"), (200, None)]


def test_a_script_from_a_file_holds_from_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([{"match": UNITS, "do": "status", "status": 502, "nth": 1}]))
    with running(SandboxSettings(faults=path)) as caller:
        assert _statuses(caller, 2) == [502, 200]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([1], "fault 1: not an object"),
        ([{"do": "drop"}], "fault 1: match is missing"),
        ([{"match": "x"}], "fault 1: do is one of"),
        ([{"match": "x", "do": "explode"}], "fault 1: do is one of"),
        ([{"match": "x", "do": "drop"}, {"match": "(", "do": "drop"}], "fault 2: "),
        ([{"match": "x", "do": "drop", "when": 1}], "fault 1: unknown key 'when'"),
        ([{"match": "x", "do": "hang"}], "fault 1: seconds"),
        ([{"match": "x", "do": "drop", "nth": 0}], "fault 1: nth"),
        ([{"match": "x", "do": "drop", "times": True}], "fault 1: times"),
        ([{"match": "x", "do": "status", "status": 200}], "fault 1: status"),
        ([{"match": 5, "do": "drop"}], "fault 1: "),
    ],
)
def test_a_wrong_script_is_refused_in_one_line(tmp_path: Path, script: Any, reason: str) -> None:
    with pytest.raises(FaultError, match=reason):
        parse_faults(script)
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(script))
    with pytest.raises(FaultError, match=r"faults\.json: fault"), SandboxServer(SandboxSettings(faults=path)):
        pytest.fail("it started")


def test_a_script_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text("[")
    with pytest.raises(FaultError, match="not a readable JSON file"), SandboxServer(SandboxSettings(faults=path)):
        pytest.fail("it started")
