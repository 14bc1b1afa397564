"""The demo as a client of the public API."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from ordersync_core.jobs.model import RunState
from ordersync_core.kernel.errors import ExternalFailure

RUN_WITHIN = 600.0
LOOK_EVERY = 0.1
ENDED = {state.value for state in RunState if state.ended}


class ApiClient:
    def __init__(self, url: str, token: str, administration: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "X-Administration": administration}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def create_webhook(self, url: str, event_types: list[str]) -> dict[str, Any]:
        return self._call("POST", "/v1/webhooks", {"url": url, "event_types": event_types})

    def run(self, type: str, parameters: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Start a job and wait for its end; `tell` gets the run each time it is looked at."""
        run = self._call("POST", "/v1/job-runs", {"type": type, "parameters": parameters})
        deadline = time.monotonic() + RUN_WITHIN
        while run["state"] not in ENDED:
            if time.monotonic() > deadline:
                raise ExternalFailure(f"job run {run['id']} has not ended after {RUN_WITHIN:g} s: {run['state']}")
            time.sleep(LOOK_EVERY)
            run = self._call("GET", f"/v1/job-runs/{run['id']}")
            tell(run)
        return run

    def events(self) -> list[dict[str, Any]]:
        """The whole feed."""
        events: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            query = "" if after is None else f"&after={after}"
            page = self._call("GET", f"/v1/events?limit=500{query}")
            events += page["data"]
            if not page["data"]:
                return events
            after = page["next_after"]

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ExternalFailure(f"the API did not answer: {type(error).__name__} {error}") from error
        if response.status_code >= 400:
            raise ExternalFailure(f"the API answered {method} {path} with {response.status_code}: {response.text}")
        answer: dict[str, Any] = response.json()
        return answer
