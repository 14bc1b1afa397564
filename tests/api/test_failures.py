"""What a failure looks like from outside: a problem document, and never our inside."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ordersync_api import composition
from ordersync_api.settings import ApiSettings
from ordersync_core.kernel.errors import ChangedMeanwhile, PermanentFailure, TemporaryFailure
from ordersync_core.kernel.paging import Page
from tests.api.site import OWNER, Site, new_code, serving

SECRET = "host=db.internal password=hunter2"


@pytest.fixture
def failing(memory_api: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes every read of a tenant's database fail."""

    def fail(error: Exception) -> None:
        def queries(_: Any) -> Any:
            raise error

        monkeypatch.setattr(memory_api.application.databases, "queries", queries)

    return fail


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (RuntimeError(SECRET), 500, "internal-error"),
        (KeyError(SECRET), 500, "internal-error"),
        (TemporaryFailure(SECRET), 503, "temporary-failure"),
        (PermanentFailure(SECRET), 502, "permanent-failure"),
        (ChangedMeanwhile(SECRET), 409, "changed-meanwhile"),
    ],
)
def test_a_failure_tells_nothing_of_our_inside_and_the_log_everything(
    memory_api: Site,
    failing: Callable[[Exception], None],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    slug: str,
) -> None:
    failing(error)
    with caplog.at_level(logging.WARNING):
        answer = memory_api.client.get(
            f"{memory_api.url}/v1/items", headers={"Authorization": f"Bearer {memory_api.token(OWNER)}"}
        )
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:ordersync:problem:{slug}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "hunter2" not in answer.text + str(answer.headers)
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-Id"])
    if status != 409:
        assert "hunter2" in caplog.text
        assert answer.headers["X-Request-Id"] in caplog.text


def test_a_failure_that_passes_says_when_to_come_back(memory_api: Site, failing: Callable[[Exception], None]) -> None:
    from datetime import timedelta

    failing(TemporaryFailure(SECRET, retry_after=timedelta(seconds=30.5)))
    assert memory_api.call("GET", "/v1/items").headers["Retry-After"] == "31"


def test_an_export_that_breaks_off_is_not_taken_for_whole(memory_api: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_api.call("PUT", f"/v1/items/{new_code()}", json={})
    real = memory_api.application.databases.queries

    class SecondPageFails:
        def __init__(self, context: Any) -> None:
            self._queries = real(context)

        def items(self, page: Any, **filters: Any) -> Page[Any]:
            if page.after is not None:
                raise TemporaryFailure(SECRET)
            return Page(rows=self._queries.items(page, **filters).rows, next=("x",))

    monkeypatch.setattr(memory_api.application.databases, "queries", SecondPageFails)
    with pytest.raises(httpx.RemoteProtocolError):
        memory_api.call("GET", "/v1/items", headers={"Accept": "application/x-ndjson"})


def test_a_bulk_row_that_could_not_be_stored_says_so(memory_api: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def unit_of_work(_: Any) -> Any:
        raise TemporaryFailure(SECRET)

    monkeypatch.setattr(memory_api.application.databases, "unit_of_work", unit_of_work)
    rows = [json.dumps({"code": new_code()}), "{}"]
    answer = memory_api.call(
        "POST", "/v1/items:bulk", content="\n".join(rows), headers={"Content-Type": "application/x-ndjson"}
    )
    results = [json.loads(line) for line in answer.content.splitlines()]
    assert [result["status"] for result in results] == [503, 422]
    assert "hunter2" not in answer.text


def test_databases_and_queues_that_cannot_be_reached(tmp_path: Path) -> None:
    """Real ones: nobody listens on port 1."""
    away = "postgresql://ordersync:hunter2@127.0.0.1:1/away"
    settings = ApiSettings(state=tmp_path, admin_database=away, tenant_databases=away + "{code}", queues=away)
    with serving(composition.compose(settings)) as url, httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/health/live").status_code == 200
        ready = client.get(f"{url}/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not ready", "admin_database": "down", "queues": "down"}
        token = Site(url, None, _issuer(tmp_path), client).token("ada")  # type: ignore[arg-type]
        answer = client.get(f"{url}/v1/items", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:ordersync:problem:temporary-failure"
        assert int(answer.headers["Retry-After"]) >= 1
        assert "hunter2" not in answer.text + ready.text


def _issuer(folder: Path) -> Any:
    from ordersync_adapters.tokens.local_issuer import LocalIssuer

    return LocalIssuer(folder / "keys")


def test_ready_and_alive(api: Site) -> None:
    live = api.call("GET", "/health/live", subject=None)
    assert live.json() == {"status": "live", "version": api.openapi["info"]["version"]}
    ready = api.call("GET", "/health/ready", subject=None)
    assert ready.json() == {"status": "ready", "admin_database": "up", "queues": "up"}


def test_counters(api: Site) -> None:
    code = new_code()
    api.call("PUT", f"/v1/items/{code}", json={})
    api.call("GET", "/nonsense", subject=None)
    api.client.request("TRACE", f"{api.url}/v1/items")
    answer = api.call("GET", "/metrics", subject=None, headers={"Accept": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"})
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert code not in answer.text
    lines = answer.text.splitlines()
    assert 'ordersync_api_requests_total{method="PUT",path="/v1/items/{code}",status="201"} 1' in lines
    assert 'ordersync_api_requests_total{method="GET",path="unknown",status="404"} 1' in lines
    assert 'ordersync_api_requests_total{method="OTHER",path="/v1/items",status="405"} 1' in lines
    assert "ordersync_api_requests_in_progress 1" in lines
    samples = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"\w+(\{[^}]*\}|\{.*\}\")?.* [0-9.e+-]+", line) for line in samples)


def test_a_trace_and_a_request_id_go_with_the_change(api: Site) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    code = new_code()
    answer = api.call("PUT", f"/v1/items/{code}", json={}, headers={"traceparent": trace})
    api.relay()
    (event,) = (e for e in _all_events(api) if e["data"]["code"] == code)
    from uuid import UUID

    traced = api.application.databases.queries(api.context()).trace(UUID(event["id"]))
    assert event["triggered_by"] == OWNER
    assert trace in str(traced)
    assert answer.headers["X-Request-Id"] in str(traced)


@pytest.mark.parametrize("trace", ["", "00-x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "nonsense" * 100])
def test_a_malformed_trace_is_passed_over(memory_api: Site, trace: str) -> None:
    answer = memory_api.call("PUT", f"/v1/items/{new_code()}", json={}, headers={"traceparent": trace})
    assert answer.status_code == 201


def _all_events(api: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = "0"
    while True:
        page = api.call("GET", "/v1/events", params={"after": after, "limit": 500}).json()
        if not page["data"]:
            return found
        found += page["data"]
        after = page["next_after"]
