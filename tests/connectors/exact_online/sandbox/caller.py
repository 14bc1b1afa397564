"""What the sandbox's tests call it with: a client that has consented, and the controls beside it."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from ordersync_connectors.exact_online.sandbox import SandboxServer, SandboxSettings

REDIRECT_URI = "http://127.0.0.1:9/callback"
ITEMS = 1130
FIRST_DAY = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
HEADER = ("Code", "Description", "Unit", "StandardSalesPrice", "SalesVatCode", "Stock", "EndDate", "FreeBoolField_01")


def write_items(path: Path, count: int = ITEMS) -> Path:
    """`A0001` and so on: prices in eighths, every tenth without, the second with stock, the third ended."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(1, count + 1):
            writer.writerow(
                (
                    f"A{number:04}",
                    f"Item {number}",
                    "stuk",
                    "" if number % 10 == 0 else number / 8,
                    "2",
                    "4" if number == 2 else "",
                    "2026-06-25" if number == 3 else "",
                    "true" if number == 4 else "",
                )
            )
    return path


class Caller:
    """One consented app at one running sandbox.

    Paths are relative to the division; a query is written as people write it and encoded on the way.
    """

    def __init__(self, url: str, settings: SandboxSettings) -> None:
        self.url = url
        self.settings = settings
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=10)
        self.tokens: Mapping[str, Any] = {}

    def close(self) -> None:
        self.http.close()

    # OAuth

    def ask_code(self, **changes: str) -> httpx.Response:
        asked = {
            "client_id": self.settings.client_id,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "state": "s 1",
            "force_login": "0",
        }
        return self.http.get("/api/oauth2/auth", params={**asked, **changes})

    def code(self) -> str:
        location = self.ask_code().headers["location"]
        return parse_qs(urlsplit(location).query)["code"][0]

    def token(self, **form: str) -> httpx.Response:
        client = {"client_id": self.settings.client_id, "client_secret": self.settings.client_secret}
        return self.http.post("/api/oauth2/token", data={**client, **form})

    def exchange(self, code: str) -> httpx.Response:
        return self.token(grant_type="authorization_code", code=code, redirect_uri=REDIRECT_URI)

    def refresh(self, refresh_token: str | None = None) -> httpx.Response:
        token = refresh_token if refresh_token is not None else self.tokens["refresh_token"]
        return self.token(grant_type="refresh_token", refresh_token=token)

    def consent(self) -> None:
        self.use(self.exchange(self.code()))

    def use(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        self.tokens = answer.json()

    # data

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        accept: str = "application/json",
        division: int | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        absolute = path.startswith(("http://", "/"))
        url = path if absolute else f"/api/v1/{division or self.settings.division}/{path}"
        sent = {"Accept": accept, "Authorization": f"Bearer {self.tokens['access_token']}", **(headers or {})}
        return self.http.request(method, url, json=json, content=content, headers=sent)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.send("GET", path, **options)

    def d(self, path: str) -> Any:
        """The `d` of a read that succeeds."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()["d"]

    def rows(self, path: str) -> list[dict[str, Any]]:
        """The rows of one page, whatever its envelope."""
        d = self.d(path)
        rows: list[dict[str, Any]] = d if isinstance(d, list) else d["results"]
        return rows

    def codes(self, condition: str) -> list[str]:
        """The codes of the items that meet a filter, first page, in order of code."""
        return sorted(row["Code"] for row in self.rows(f"logistics/Items?$select=Code&$filter={condition}"))

    def item(self, code: str) -> dict[str, Any]:
        [row] = self.rows(f"logistics/Items?$filter=Code eq '{code}'")
        return row

    def walk(self, path: str) -> Iterator[dict[str, Any]]:
        """All rows of all pages."""
        following: str | None = path
        while following is not None:
            d = self.d(following)
            yield from d["results"]
            following = d.get("__next")

    # controls

    def advance(self, seconds: float) -> None:
        self.steer("POST", "clock", {"advance": seconds})

    def set_clock(self, moment: str) -> None:
        self.steer("POST", "clock", {"now": moment})

    def fault(self, **fault: Any) -> None:
        self.steer("POST", "faults", fault)

    def put(self, code: str, **values: Any) -> None:
        self.steer("PUT", f"items/{code}", values)

    def remove(self, code: str) -> None:
        self.steer("DELETE", f"items/{code}")

    def state(self) -> Any:
        return self.steer("GET", "state")

    def steer(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def running(settings: SandboxSettings) -> Iterator[Caller]:
    """A sandbox whose clock stands still, with a caller that has consented."""
    with SandboxServer(settings) as server:
        caller = Caller(server.url, settings)
        try:
            caller.steer("POST", "clock", {"frozen": True})
            caller.consent()
            yield caller
        finally:
            caller.close()


def message(answer: httpx.Response) -> str:
    """The text of a data error, after a look at its shape."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert set(body["error"]["message"]) == {"lang", "value"}
    text: str = body["error"]["message"]["value"]
    return text
