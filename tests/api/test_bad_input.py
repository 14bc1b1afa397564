"""What bad input gets: a problem document that names every violation, and nothing half-written."""

import json
import socket
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.site import Site, new_code, site

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 40 + b"]" * 40


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:ordersync:problem:{slug}"), answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def pointers(answer: Any) -> list[str]:
    return sorted(error["pointer"] for error in problem(answer, 422, "invalid-input")["errors"])


BODIES = [
    (b"", [""]),
    (b"{", [""]),
    (b"null", [""]),
    (b"[]", [""]),
    (b'"text"', [""]),
    (b"\xff\xfe{}", [""]),
    (b'{"unit": NaN}', [""]),
    (b'{"attributes": {"a": 1e999}}', [""]),
    (b'{"attributes": {"a": "\\ud800"}}', [""]),
    (b'{"attributes": {"a": ' + DEEP + b"}}", [""]),
    (b'{"unit": 3}', ["/unit"]),
    (b'{"unit": true, "family_code": [], "vat_tariff": 1}', ["/family_code", "/unit", "/vat_tariff"]),
    (b'{"vat_tariff": "normal"}', ["/vat_tariff"]),
    (b'{"name": "Screw"}', ["/name"]),
    (b'{"name": {"english": "Screw"}}', ["/name"]),
    (b'{"name": {"en": 3}}', ["/name"]),
    (b'{"name": null}', ["/name"]),
    (b'{"units": [{"unit": "box"}]}', ["/units/0/factor"]),
    (b'{"units": [{"unit": "a", "factor": "1"}, {"unit": "b", "factor": 2}]}', ["/units/1/factor"]),
    (b'{"units": [{"unit": "a", "factor": "0"}]}', ["/units/0/factor"]),
    (b'{"stocks": [{"warehouse": "w", "quantity": "NaN"}]}', ["/stocks/0/quantity"]),
    (b'{"stocks": [{"warehouse": "w", "quantity": "1e99"}]}', ["/stocks/0/quantity"]),
    (b'{"stocks": [{"warehouse": "w", "quantity": "1", "x/y~z": 1}]}', ["/stocks/0/x~1y~0z"]),
    (
        b'{"restock_orders": [{"warehouse": "w", "quantity": "1", "expected_date": "2026-01-01T00:00:00"}]}',
        ["/restock_orders/0/expected_date"],
    ),
    (
        b'{"images": [{"position": "1"}]}',
        [f"/images/0/{n}" for n in ("blob", "content_hash", "content_type", "file_name", "position")],
    ),
    (b'{"attributes": []}', ["/attributes"]),
    (b'{"attributes": {"a": {"b/c": ["\\u0000"]}}}', ["/attributes/a/b~1c/0"]),
    (b'{"attributes": {"\\u0000": 1}}', ["/attributes"]),
    (b'{"unit": "a\\u0000b"}', ["/unit"]),
    (b'{"code": "another"}', ["/code"]),
    (b'{"code": 5, "unit": 6}', ["/code", "/unit"]),
    (b'{"x": 1, "id": 2, "administration": "beta"}', ["/administration", "/id", "/x"]),
    (b'{"updated_at": "yesterday"}', ["/updated_at"]),
]


@pytest.mark.parametrize(("body", "expected"), BODIES, ids=[str(body[:40]) for body, _ in BODIES])
def test_a_body_with_faults_writes_nothing_and_names_them_all(api: Site, body: bytes, expected: list[str]) -> None:
    code = new_code()
    assert pointers(api.call("PUT", f"/v1/items/{code}", content=body, headers=JSON)) == sorted(expected)
    assert api.call("GET", f"/v1/items/{code}").status_code == 404


@pytest.mark.parametrize("field", ["units", "images", "attachments", "stocks", "restock_orders"])
@pytest.mark.parametrize("value", [{}, "text", 1, None])
def test_a_list_is_a_list(memory_api: Site, field: str, value: Any) -> None:
    assert pointers(memory_api.call("PUT", f"/v1/items/{new_code()}", json={field: value})) == [f"/{field}"]


@pytest.mark.parametrize("code", ["%20", "a" * 61, "%00", "a%0Ab", "%E2%80%8B"])
def test_a_code_that_cannot_be_one(api: Site, code: str) -> None:
    assert pointers(api.call("PUT", f"/v1/items/{code}", json={})) == ["/code"]
    for method in ("GET", "DELETE"):
        problem(api.call(method, f"/v1/items/{code}"), 404, "not-found")


@pytest.mark.parametrize("id", ["x", "1", "%20", "01900000-0000-7000-8000-00000000000", "' OR 1=1 --", "é"])
def test_an_id_that_cannot_be_one_names_nothing(api: Site, id: str) -> None:
    for path in ("webhooks", "deliveries", "job-runs", "connections", "flows/item/executions"):
        problem(api.call("GET", f"/v1/{path}/{quote(id, safe='%')}"), 404, "not-found")


QUERIES = [
    ("limit=0", ["/limit"]),
    ("limit=501", ["/limit"]),
    ("limit=-1", ["/limit"]),
    ("limit=1.5", ["/limit"]),
    ("limit=ten", ["/limit"]),
    ("limit=", ["/limit"]),
    ("limit=٣", ["/limit"]),
    ("limit=99999999999999999999999999", ["/limit"]),
    ("limit=5&limit=6", ["/limit"]),
    ("sort=name", ["/sort"]),
    ("sort=", ["/sort"]),
    ("updated_after=yesterday", ["/updated_after"]),
    ("updated_after=2026-01-01T00:00:00", ["/updated_after"]),
    ("search=", ["/search"]),
    (f"search={'x' * 201}", ["/search"]),
    ("search=%00", ["/search"]),
    ("search=%FF", [""]),
    ("cursor=x", ["/cursor"]),
    ("nonsense=1", ["/nonsense"]),
    ("Limit=1", ["/Limit"]),
    ("limit=0&sort=x&nonsense", ["/limit", "/nonsense", "/sort"]),
    ("&".join(f"a{n}=1" for n in range(200)), [""]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=[query[:40] for query, _ in QUERIES])
def test_a_query_with_faults(api: Site, query: str, expected: list[str]) -> None:
    assert pointers(api.call("GET", f"/v1/items?{query}")) == expected


@pytest.mark.parametrize("limit", [1, 500])
def test_the_bounds_themselves_are_allowed(api: Site, limit: int) -> None:
    assert api.call("GET", "/v1/items", params={"limit": limit}).status_code == 200


def test_an_operation_without_parameters_takes_none(memory_api: Site) -> None:
    for path in ("/v1/items/x", "/v1/connectors", "/v1/administrations", "/health/live", "/openapi.json"):
        assert pointers(memory_api.call("GET", f"{path}?x=1")) == ["/x"]
    path = "/v1/webhooks/01900000-0000-7000-8000-000000000000:disable"
    assert pointers(memory_api.call("POST", path, json={"x": 1})) == ["/x"]
    assert pointers(memory_api.call("POST", path, json=[])) == [""]


def test_query_and_body_are_told_together(memory_api: Site) -> None:
    answer = memory_api.call("POST", "/v1/webhooks?a=1", json={"url": 1, "b": 2, "event_types": ["x y"]})
    assert pointers(answer) == ["/a", "/b", "/event_types", "/url"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_another_kind_of_body_is_not_taken(memory_api: Site, headers: dict[str, str]) -> None:
    answer = memory_api.call("PUT", f"/v1/items/{new_code()}", content=b"{}", headers=headers)
    problem(answer, 415, "unsupported-media-type")
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize("kind", ["application/json;charset=utf-8", 'Application/JSON; charset="UTF-8"'])
def test_spellings_of_the_right_kind(memory_api: Site, kind: str) -> None:
    path = f"/v1/items/{new_code()}"
    assert memory_api.call("PUT", path, content=b"{}", headers={"Content-Type": kind}).status_code == 201


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*", "nonsense", "application/json;q=x"])
def test_an_answer_that_cannot_be_had(memory_api: Site, accept: str) -> None:
    code = new_code()
    problem(memory_api.call("PUT", f"/v1/items/{code}", json={}, headers={"Accept": accept}), 406, "not-acceptable")
    assert memory_api.call("GET", f"/v1/items/{code}").status_code == 404


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("application/*", "application/json"),
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/csv;q=0.1, application/x-ndjson;q=0.2", "application/x-ndjson"),
        ("*/*, application/json;q=0", "application/x-ndjson"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_answer_that_is_liked_best(memory_api: Site, accept: str, kind: str) -> None:
    answer = memory_api.call("GET", "/v1/items", headers={"Accept": accept})
    assert answer.headers["Content-Type"].partition(";")[0] == kind


def test_a_body_that_is_too_large(tmp_path: Any) -> None:
    with site("memory", tmp_path, body_limit=1_000, bulk_limit=2_000) as api:
        large = json.dumps({"unit": "x" * 1_000}).encode()
        path = f"/v1/items/{new_code()}"
        problem(api.call("PUT", path, content=large, headers=JSON), 413, "body-too-large")
        in_parts = api.call("PUT", path, content=iter([large[:500], large[500:]]), headers=JSON)
        problem(in_parts, 413, "body-too-large")
        assert api.call("GET", path).status_code == 404
        ndjson = {"Content-Type": "application/x-ndjson"}
        row = json.dumps({"code": new_code(), "unit": "x" * 900}).encode()
        bulk = api.call("POST", "/v1/items:bulk", content=iter([row, b"\n"] * 3), headers=ndjson)
        problem(bulk, 413, "body-too-large")
        assert api.call("GET", "/v1/items").json()["data"] == []
        assert api.call("PUT", path, content=b"{}".ljust(1_000), headers=JSON).status_code == 201


def test_who_may_not_write_is_told_before_its_body_is_read(memory_api: Site) -> None:
    """The body never comes: an answer shows that nobody waited for it."""
    host, port = memory_api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(
            f"PUT /v1/items/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {memory_api.token('reader')}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode()
        )
        assert client.recv(1_000).startswith(b"HTTP/1.1 403 ")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    ["code", "name", "unit", "units", "vat_tariff", "attributes", "images", "stocks", "updated_at"]
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.dictionaries(_fields | st.text(max_size=5), _json, max_size=5) | _json, query=st.text(max_size=10))
def test_whatever_is_sent_is_stored_or_refused(memory_api: Site, body: Any, query: str) -> None:
    text = json.dumps(body).encode()
    answer = memory_api.call("PUT", f"/v1/items/{new_code()}", content=text, headers=JSON)
    assert answer.status_code in (201, 422)
    listed = memory_api.call("GET", f"/v1/items?search={quote(query)}")
    assert listed.status_code in (200, 422)
