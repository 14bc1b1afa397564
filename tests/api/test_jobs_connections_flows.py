"""Jobs, connections and flows through the API."""

from typing import Any
from uuid import UUID

import pytest

from ordersync_core.flows.model import Counts, Execution, FlowKind, KnownRecord, Quarantined, RawRecord
from ordersync_core.flows.ports import FlowsUnitOfWork
from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.envelope import QUEUED_JOBS, decode_envelope
from ordersync_core.messaging.queue import Queues
from tests.api.site import CONNECTION, OWNER, A, Site, new_code


def pointers(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return sorted(error["pointer"] for error in answer.json()["errors"])


def connect(api: Site) -> str:
    answer = api.call("POST", "/v1/connections", json=CONNECTION)
    assert answer.status_code == 201
    return str(answer.json()["id"])


def test_a_started_job_is_a_run_with_a_ticket(api: Site) -> None:
    body = {"type": "ItemSelectiveSync", "parameters": {"codes": ["A", "B"]}}
    answer = api.call("POST", "/v1/job-runs", json=body)
    assert answer.status_code == 202
    run = answer.json()
    assert answer.headers["Location"] == f"/v1/job-runs/{run['id']}"
    assert (run["type"], run["parameters"], run["state"]) == (body["type"], body["parameters"], "Queued")
    assert run["triggered_by"] == OWNER
    assert api.call("GET", answer.headers["Location"]).json() == run
    tickets = [decode_envelope(c.message.body) for c in api.application.resolve(Queues)[QUEUED_JOBS].claim(100)]
    (ticket,) = (ticket for ticket in tickets if ticket.id == UUID(run["id"]))
    assert ticket.administration == A
    cancelled = api.call("POST", f"/v1/job-runs/{run['id']}:cancel")
    assert cancelled.json()["state"] == "Cancelled"
    assert api.call("POST", f"/v1/job-runs/{run['id']}:cancel").status_code == 409


def test_runs_are_listed_the_newest_first(api: Site) -> None:
    ids = [api.call("POST", "/v1/job-runs", json={"type": "ItemSync"}).json()["id"] for _ in range(3)]
    api.call("POST", f"/v1/job-runs/{ids[1]}:cancel")
    first = api.call("GET", "/v1/job-runs", params={"limit": 2}).json()
    rest = api.call("GET", "/v1/job-runs", params={"limit": 2, "cursor": first["next"]}).json()
    assert [run["id"] for run in first["data"] + rest["data"]][:3] == ids[::-1]
    queued = api.call("GET", "/v1/job-runs", params={"state": "Queued", "limit": 500}).json()["data"]
    assert [run["id"] for run in queued if run["id"] in ids] == [ids[2], ids[0]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["/type"]),
        ({"type": "Nonsense"}, ["/type"]),
        ({"type": "CustomerSync"}, ["/type"]),
        ({"type": "ItemSync", "parameters": {"complete": "yes", "x": 1}}, ["/parameters/complete", "/parameters/x"]),
        ({"type": "ItemSelectiveSync"}, ["/parameters/codes"]),
        ({"type": "ItemSelectiveSync", "parameters": {"codes": ["A", " "]}}, ["/parameters/codes/1"]),
        ({"type": "ItemSelectiveSync", "parameters": {"codes": []}}, ["/parameters/codes"]),
        ({"type": "ItemSelectiveSync", "parameters": {"codes": ["A"] * 1_001}}, ["/parameters/codes"]),
        ({"type": "ItemSelectiveSync", "parameters": {"codes": "A", "x": 1}}, ["/parameters/codes", "/parameters/x"]),
        ({"type": "ItemSync", "administration": "beta"}, ["/administration"]),
        ({"type": "ItemSync", "parameters": {"administration": "beta"}}, ["/parameters/administration"]),
        ({"type": "ItemSync", "parameters": []}, ["/parameters"]),
    ],
)
def test_a_job_that_makes_no_sense_is_not_started(memory_api: Site, body: Any, expected: list[str]) -> None:
    before = memory_api.call("GET", "/v1/job-runs", params={"limit": 500}).json()
    assert pointers(memory_api.call("POST", "/v1/job-runs", json=body)) == expected
    assert memory_api.call("GET", "/v1/job-runs", params={"limit": 500}).json() == before


def test_a_job_is_scheduled_and_scheduled_no_longer(api: Site) -> None:
    body = {"type": "ItemSync", "cron": " 30  6 * * 1-5", "time_zone": "Europe/Amsterdam"}
    answer = api.call("POST", "/v1/job-definitions", json=body)
    assert answer.status_code == 201
    definition = answer.json()
    assert (definition["cron"], definition["time_zone"]) == ("30 6 * * 1-5", "Europe/Amsterdam")
    assert definition["next_due"] is not None
    assert definition in api.call("GET", "/v1/job-definitions").json()["data"]
    assert api.call("DELETE", f"/v1/job-definitions/{definition['id']}").status_code == 204
    assert api.call("DELETE", f"/v1/job-definitions/{definition['id']}").status_code == 404
    assert definition not in api.call("GET", "/v1/job-definitions").json()["data"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"cron": "0 0 30 2 *"}, ["/cron"]),
        ({"cron": "every day"}, ["/cron"]),
        ({"time_zone": "Mars/Olympus"}, ["/time_zone"]),
        ({"type": "Nonsense", "cron": "* *"}, ["/cron", "/type"]),
        ({"parameters": {"x": 1}, "cron": "60 * * * *"}, ["/cron", "/parameters/x"]),
        ({"cron": 5, "time_zone": None}, ["/cron", "/time_zone"]),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(
    memory_api: Site, changed: dict[str, Any], expected: list[str]
) -> None:
    body = {"type": "ItemSync", "cron": "0 6 * * *", "time_zone": "UTC", **changed}
    assert pointers(memory_api.call("POST", "/v1/job-definitions", json=body)) == expected


def test_connectors_describe_what_they_need(api: Site) -> None:
    (exact,) = api.call("GET", "/v1/connectors").json()["data"]
    assert exact["name"] == "exact_online"
    assert exact["settings_schema"]["required"] == ["division", "client_id"]
    assert "name" in exact["entities"]["item"]


def test_a_connection_never_shows_its_secrets(api: Site) -> None:
    answer = api.call("POST", "/v1/connections", json=CONNECTION)
    connection = answer.json()
    assert connection["state"] == "NeedsConsent"
    assert answer.headers["Location"] == f"/v1/connections/{connection['id']}"
    read = api.call("GET", answer.headers["Location"])
    listed = api.call("GET", "/v1/connections")
    assert read.json() == connection
    assert connection in listed.json()["data"]
    for shown in (answer, read, listed):
        assert "s3cret" not in shown.text
    assert api.call("DELETE", f"/v1/connections/{connection['id']}").status_code == 204
    assert api.call("GET", f"/v1/connections/{connection['id']}").status_code == 404


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"connector": "nonsense"}, ["/connector"]),
        ({"name": " ", "connector": 3}, ["/connector", "/name"]),
        ({"settings": {"division": "1"}}, ["/settings/client_id", "/settings/division"]),
        (
            {"settings": {}, "secret_settings": {}},
            ["/secret_settings/client_secret", "/settings/client_id", "/settings/division"],
        ),
        ({"settings": {"division": 1, "client_id": "x", "host": "https://evil.example"}}, ["/settings/host"]),
        ({"secret_settings": "s3cret"}, ["/secret_settings"]),
    ],
)
def test_a_connection_that_cannot_work_is_refused(
    memory_api: Site, changed: dict[str, Any], expected: list[str]
) -> None:
    answer = memory_api.call("POST", "/v1/connections", json={**CONNECTION, **changed})
    assert pointers(answer) == expected
    assert "s3cret" not in answer.text


def test_consent_begins_with_an_address_of_the_external_system(api: Site) -> None:
    path = f"/v1/connections/{connect(api)}:authorise"
    answer = api.call("POST", path, json={"redirect_uri": "https://ordersync.example/callback"})
    assert answer.json()["url"].startswith("https://start.exactonline.nl/api/oauth2/auth?")
    assert answer.headers["Cache-Control"] == "no-store"
    again = api.call("POST", path, json={"redirect_uri": "https://ordersync.example/callback"})
    assert again.json() != answer.json()
    assert pointers(api.call("POST", path, json={"redirect_uri": "javascript:alert(1)"})) == ["/redirect_uri"]
    assert pointers(api.call("POST", path)) == ["/redirect_uri"]


def test_a_flow_is_set_up_shown_and_replaced(api: Site) -> None:
    connection = connect(api)
    flow = api.call("PUT", "/v1/flows/item", json={"connection_id": connection}).json()
    assert flow["source"]["connection_id"] == connection
    assert flow["guard"] == {"floor": 10, "ratio": "0.10"}
    assert api.call("GET", "/v1/flows/item").json() == flow
    narrower = {"connection_id": connection, "aspects": ["name"], "guard": {"floor": 5, "ratio": "0.5"}}
    replaced = api.call("PUT", "/v1/flows/item", json=narrower).json()
    assert replaced["source"]["aspects"] == ["name"]
    assert replaced["guard"] == {"floor": 5, "ratio": "0.5"}
    assert replaced["version"] == flow["version"] + 1
    assert api.call("PUT", "/v1/flows/item", json=narrower).json() == replaced


def test_a_flow_that_cannot_work_is_refused(api: Site) -> None:
    connection = connect(api)
    unknown = "01900000-0000-7000-8000-000000000000"
    assert api.call("PUT", "/v1/flows/item", json={"connection_id": unknown}).status_code == 404
    assert pointers(api.call("PUT", "/v1/flows/item", json={"connection_id": "x"})) == ["/connection_id"]
    assert pointers(api.call("PUT", "/v1/flows/item", json={"guard": {"floor": "1", "ratio": 1}})) == [
        "/connection_id",
        "/guard/floor",
        "/guard/ratio",
    ]
    for guard, expected in (
        ({"floor": -1}, ["/guard/floor"]),
        ({"ratio": "1.01"}, ["/guard/ratio"]),
        ({"ratio": "NaN"}, ["/guard/ratio"]),
        ({"floor": -1, "ratio": "-0.01"}, ["/guard/floor", "/guard/ratio"]),
    ):
        body = {"connection_id": connection, "guard": guard}
        assert pointers(api.call("PUT", "/v1/flows/item", json=body)) == expected
    refused = api.call("PUT", "/v1/flows/item", json={"connection_id": connection, "aspects": ["colour"]})
    assert refused.status_code == 422
    for kind in ("customer", "x", "item%2F"):
        assert api.call("GET", f"/v1/flows/{kind}").status_code == 404
        assert api.call("PUT", f"/v1/flows/{kind}", json={"connection_id": connection}).status_code == 404


def test_quarantine_and_execution_log(api: Site) -> None:
    connection = connect(api)
    api.call("PUT", "/v1/flows/item", json={"connection_id": connection})
    run_id = UUID(api.call("POST", "/v1/job-runs", json={"type": "ItemSync"}).json()["id"])
    keys = sorted(new_code() for _ in range(3))

    def happen(_: None, *, uow: FlowsUnitOfWork, clock: Clock) -> None:
        now = clock.now()
        with uow:
            records = [
                KnownRecord(
                    key=key,
                    content_hash="ab" * 16,
                    source_version=1,
                    applied_hash="ab" * 16,
                    applied_version=1,
                    quarantined=True,
                )
                for key in keys
            ]
            uow.raw("exact_online", UUID(connection), "item").save(
                [RawRecord(known=known, raw={"Code": None}) for known in records]
            )
            uow.quarantine.save(
                FlowKind.ITEM, [Quarantined(key=key, reason="no code", raw={"Code": None}, since=now) for key in keys]
            )
            counts = Counts(read=4, created=1, quarantined=3)
            uow.executions.save(
                Execution(run_id=run_id, kind=FlowKind.ITEM, started_at=now, ended_at=now, counts=counts)
            )
            uow.commit()

    api.application.run(happen, None, api.context())
    first = api.call("GET", "/v1/flows/item/quarantine", params={"limit": 2}).json()
    rest = api.call("GET", "/v1/flows/item/quarantine", params={"limit": 2, "cursor": first["next"]}).json()
    found = first["data"] + rest["data"]
    assert [entry["key"] for entry in found] == keys
    assert {entry["reason"] for entry in found} == {"no code"}
    one = api.call("POST", "/v1/flows/item/quarantine:retry", json={"keys": keys[:1]})
    assert (one.status_code, one.json()) == (202, {"records": 1})
    assert api.call("POST", "/v1/flows/item/quarantine:retry").json()["records"] >= 2
    (execution,) = api.call("GET", "/v1/flows/item/executions", params={"limit": 1}).json()["data"]
    assert execution == api.call("GET", f"/v1/flows/item/executions/{run_id}").json()
    assert (execution["read"], execution["created"], execution["quarantined"]) == (4, 1, 3)
