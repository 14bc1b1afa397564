"""No request of one tenant reads or changes anything of another.

Every operation of /openapi.json is walked with alpha's token and beta's codes, ids, cursors and entity tags. Each
answer equals that for names that exist nowhere.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from ordersync_core.flows.model import Execution, FlowKind
from ordersync_core.flows.ports import FlowsUnitOfWork
from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.envelope import EVENTS, decode_envelope
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.commands import FanOut
from ordersync_core.webhooks.handlers.fan_out import fan_out
from tests.api.site import BOTH, CONNECTION, OWNER, PUBLIC_URL, A, B, Site

NOWHERE = {
    "code": "no-such",
    "webhook": "01900000-0000-7000-8000-00000000ffff",
    "delivery": "01900000-0000-7000-8000-00000000fffe",
    "run": "01900000-0000-7000-8000-00000000fffd",
    "definition": "01900000-0000-7000-8000-00000000fffc",
    "connection": "01900000-0000-7000-8000-00000000fffb",
    "execution": "01900000-0000-7000-8000-00000000fffa",
    "tag": '"0123456789abcdef0123456789abcdef"',
    "cursor": "AAAAAAAAAAAAAAAAAAAAAFsiYSJd",
    "after": "AAAAAAAAAAAAAAAAAAAAAFsiYSJd",
    "administration": "nowhere",
}
"""One name of each kind that exists nowhere."""

BODIES: Mapping[str, Any] = {
    "put_item": {"unit": "stolen"},
    "patch_item": {"unit": "stolen"},
    "create_webhook": {"url": PUBLIC_URL, "event_types": ["*"]},
    "enable_webhook": {},
    "replay": {"after": 0},
    "start_run": {"type": "ItemSync"},
    "create_definition": {"type": "ItemSync", "cron": "0 6 * * *", "time_zone": "UTC"},
    "create_connection": CONNECTION,
    "authorise_connection": {"redirect_uri": "https://ordersync.example/callback"},
    "put_flow": {"connection_id": "<connection>"},
    "retry_quarantined": {},
}
CREATES = {"create_webhook", "start_run", "create_definition", "create_connection", "put_many_items"}
"""Operations that name nothing of anybody: they make something in the caller's own administration."""

PARAMETERS = {"/v1/webhooks": "webhook", "/v1/deliveries": "delivery", "/v1/job-runs": "run"}
PARAMETERS |= {"/v1/job-definitions": "definition", "/v1/connections": "connection"}


def as_other(api: Site, method: str, path: str, **request: Any) -> Any:
    answer = api.call(method, path, subject="other", **request)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def betas(api: Site) -> dict[str, str]:
    """Beta's own things, one of each kind."""
    item = api.call("PUT", "/v1/items/betas-item", subject="other", json={"unit": "secret"})
    for n in range(3):
        as_other(api, "PUT", f"/v1/items/betas-{n}", json={})
    webhook = as_other(api, "POST", "/v1/webhooks", json={"url": PUBLIC_URL, "event_types": ["*"]})
    connection = as_other(api, "POST", "/v1/connections", json=CONNECTION)
    as_other(api, "PUT", "/v1/flows/item", json={"connection_id": connection["id"]})
    run = as_other(api, "POST", "/v1/job-runs", json={"type": "ItemSync"})
    definition = as_other(api, "POST", "/v1/job-definitions", json=BODIES["create_definition"])
    _execution_of(api, UUID(run["id"]))
    api.relay(B)
    claims = api.application.resolve(Queues)[EVENTS].claim(100)
    messages = tuple(decode_envelope(claim.message.body) for claim in claims)
    messages = tuple(message for message in messages if message.administration == B)
    api.application.run(fan_out, FanOut(messages=messages), api.context(B))
    deliveries = as_other(api, "GET", f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": 1})
    return {
        "code": "betas-item",
        "webhook": webhook["id"],
        "delivery": deliveries["data"][0]["id"],
        "run": run["id"],
        "definition": definition["id"],
        "connection": connection["id"],
        "execution": run["id"],
        "tag": item.headers["ETag"],
        "cursor": as_other(api, "GET", "/v1/items", params={"limit": 1})["next"],
        "after": as_other(api, "GET", "/v1/events", params={"limit": 1})["next_after"],
        "administration": B,
    }


def _execution_of(api: Site, run_id: UUID) -> None:
    def keep(_: None, *, uow: FlowsUnitOfWork, clock: Clock) -> None:
        with uow:
            uow.executions.save(Execution(run_id=run_id, kind=FlowKind.ITEM, started_at=clock.now()))
            uow.commit()

    api.application.run(keep, None, api.context(B))


def everything_of_beta(api: Site, betas: Mapping[str, str]) -> list[Any]:
    """All that beta can read of its own."""
    paths = [
        "/v1/items",
        "/v1/webhooks",
        f"/v1/webhooks/{betas['webhook']}/deliveries",
        f"/v1/deliveries/{betas['delivery']}",
        "/v1/events",
        "/v1/job-runs",
        "/v1/job-definitions",
        "/v1/connections",
        "/v1/flows/item",
        "/v1/flows/item/executions",
        "/v1/flows/item/quarantine",
        "/v1/administrations",
    ]
    return [as_other(api, "GET", path) for path in paths]


def operations(api: Site) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in api.openapi["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1/")
    ]


def send(
    api: Site,
    method: str,
    template: str,
    operation: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> httpx.Response:
    """The operation, as alpha's owner, with these names in its address and body."""
    path = template
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            value = _path_value(template, parameter["name"], names)
            path = path.replace(f"{{{parameter['name']}}}", quote(value, safe=""))
    request: dict[str, Any] = {}
    if operation["operationId"] == "put_many_items":
        row = {"code": "alphas-bulk-item", **(more or {})}
        request = {"content": json.dumps(row), "headers": {"Content-Type": "application/x-ndjson"}}
    elif "requestBody" in operation:
        body = json.loads(json.dumps(BODIES[operation["operationId"]]).replace("<connection>", names["connection"]))
        request = {"json": {**body, **(more or {})}}
    elif more is not None and method == "POST":
        request = {"json": dict(more)}
    request["headers"] = {**request.get("headers", {}), **(headers or {})}
    return api.call(method, path, subject=OWNER, params=params, **request)


def _path_value(template: str, parameter: str, names: Mapping[str, str]) -> str:
    if parameter in ("code", "kind"):
        return names["code"] if parameter == "code" else "item"
    if parameter == "run_id":
        return names["execution"]
    return next(names[kind] for prefix, kind in PARAMETERS.items() if template.startswith(prefix))


def told(answer: httpx.Response, names: Mapping[str, str]) -> tuple[int, str, dict[str, str]]:
    """What the caller can see, with the names it used itself left out."""
    text = answer.text
    for name in names.values():
        text = text.replace(name, "<name>").replace(json.dumps(name)[1:-1], "<name>")
    kept = {"x-request-id", "date", "content-length"}
    headers = {name: value for name, value in answer.headers.items() if name not in kept}
    return answer.status_code, text, headers


def same(one: httpx.Response, other: httpx.Response, betas: Mapping[str, str]) -> None:
    assert told(one, betas) == told(other, NOWHERE), one.request.url


def has(operation: Mapping[str, Any], kind: str, name: str | None = None) -> bool:
    return any(p["in"] == kind and name in (None, p["name"]) for p in operation["parameters"])


def test_the_names_of_another_tenant_are_names_of_nothing(api: Site, betas: dict[str, str]) -> None:
    before = everything_of_beta(api, betas)
    named = 0
    for method, path, operation in operations(api):
        if operation["operationId"] in CREATES or path == "/v1/administrations":
            continue
        one = send(api, method, path, operation, betas)
        if operation["operationId"] in ("put_item", "patch_item", "delete_item", "get_item"):
            api.call("DELETE", f"/v1/items/{betas['code']}", subject=OWNER)
        other = send(api, method, path, operation, NOWHERE)
        if operation["operationId"] == "put_item":
            api.call("DELETE", f"/v1/items/{NOWHERE['code']}", subject=OWNER)
            assert one.status_code == other.status_code == 201
            continue
        if has(operation, "path") and path.removeprefix("/v1/flows/{kind}") not in (
            "",
            "/quarantine",
            "/quarantine:retry",
            "/executions",
        ):
            assert one.status_code == 404, (method, path)
            named += 1
        same(one, other, betas)
    assert named >= 17
    assert everything_of_beta(api, betas) == before


def test_the_administration_of_another_is_one_that_does_not_exist(api: Site, betas: dict[str, str]) -> None:
    before = everything_of_beta(api, betas)
    for method, path, operation in operations(api):
        if not has(operation, "header", "X-Administration"):
            assert path == "/v1/administrations"
            continue
        for names in (betas, NOWHERE):
            own = {**NOWHERE, "administration": names["administration"]}
            one = send(api, method, path, operation, betas, headers={"X-Administration": B})
            other = send(api, method, path, operation, own, headers={"X-Administration": names["administration"]})
            assert one.status_code == other.status_code == 404
            assert one.json()["detail"].replace(B, "?") == other.json()["detail"].replace(own["administration"], "?")
    assert everything_of_beta(api, betas) == before


@pytest.mark.parametrize("place", ["administration", "administration_code", "tenant", "X-Administration"])
def test_a_query_or_body_that_names_an_administration_changes_nothing(
    api: Site, betas: dict[str, str], place: str
) -> None:
    before = everything_of_beta(api, betas)
    for method, path, operation in operations(api):
        own = {**NOWHERE, "code": "alphas-item"}
        if operation["operationId"] == "put_item":
            api.call("PUT", "/v1/items/alphas-item", json={})
        queried = send(api, method, path, operation, own, params={place: B})
        bodied = None
        if method in ("POST", "PUT", "PATCH"):
            bodied = send(api, method, path, operation, own, more={place: B})
        for answer in (queried, bodied):
            if answer is None:
                continue
            if answer.status_code == 200 and operation["operationId"] == "put_many_items":
                (result,) = (json.loads(line) for line in answer.content.splitlines())
                assert result["problem"]["errors"] == [{"pointer": f"/{place}", "detail": "is not a known field"}]
            else:
                assert answer.status_code == 422, (method, path, answer.text)
                assert {"pointer": f"/{place}", "detail": "is not a known field"} in answer.json()["errors"]
    assert everything_of_beta(api, betas) == before


def test_the_cursors_of_another_are_as_good_as_invented_ones(api: Site, betas: dict[str, str]) -> None:
    lists = 0
    for method, path, operation in operations(api):
        for parameter in ("cursor", "after"):
            if has(operation, "query", parameter):
                one = send(api, method, path, operation, betas, params={parameter: betas[parameter]})
                other = send(api, method, path, operation, NOWHERE, params={parameter: NOWHERE[parameter]})
                assert one.status_code in (404, 422)
                same(one, other, betas)
                lists += 1
    assert lists >= 7


def test_the_entity_tags_of_another_are_as_good_as_invented_ones(api: Site, betas: dict[str, str]) -> None:
    mine = api.call("PUT", "/v1/items/alphas-tagged", json={"unit": "mine"})
    names = {"code": "alphas-tagged"}
    for method, path, operation in operations(api):
        for condition in ("If-Match", "If-None-Match"):
            if has(operation, "header", condition):
                one = send(api, method, path, operation, {**betas, **names}, headers={condition: betas["tag"]})
                other = send(api, method, path, operation, {**NOWHERE, **names}, headers={condition: NOWHERE["tag"]})
                assert told(one, {}) == told(other, {})
    assert api.call("GET", "/v1/items/alphas-tagged").json() == mine.json()


def test_a_member_of_both_chooses_and_must_choose(api: Site, betas: dict[str, str]) -> None:
    for code, status in ((A, 404), (B, 200)):
        answer = api.call("GET", "/v1/items/betas-item", subject=BOTH, headers={"X-Administration": code})
        assert answer.status_code == status
    unclear = api.call("GET", "/v1/items", subject=BOTH)
    assert unclear.status_code == 422
    assert [e["pointer"] for e in unclear.json()["errors"]] == ["/X-Administration"]
    token = api.token(BOTH)
    twice = [("Authorization", f"Bearer {token}"), ("X-Administration", A), ("X-Administration", B)]
    assert api.client.get(f"{api.url}/v1/items", headers=twice).status_code == 422


def test_events_name_their_own_administration_only(api: Site, betas: dict[str, str]) -> None:
    api.call("PUT", "/v1/items/alphas-event", json={"unit": "new"})
    api.relay(A)
    page = api.call("GET", "/v1/events", params={"limit": 500}).json()
    assert {event["administration"] for event in page["data"]} == {A}
