"""The published Python client `exactonline` reads the sandbox as it reads Exact Online."""

from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import exactonline.http  # type: ignore[import-untyped]
import pytest
from exactonline.api import ExactApi  # type: ignore[import-untyped]
from exactonline.rawapi import RateLimiter  # type: ignore[import-untyped]
from exactonline.resource import GET  # type: ignore[import-untyped]
from exactonline.storage import ExactOnlineConfig, MissingSetting  # type: ignore[import-untyped]

from ordersync_connectors.exact_online.sandbox import SandboxServer, SandboxSettings
from tests.connectors.exact_online.sandbox.caller import ITEMS, REDIRECT_URI, Caller


class _Memory(ExactOnlineConfig):  # type: ignore[misc]
    def __init__(self, url: str, settings: SandboxSettings) -> None:
        self._kept: dict[tuple[str, str], str] = {
            ("server", "auth_url"): f"{url}/api/oauth2/auth",
            ("server", "rest_url"): f"{url}/api",
            ("server", "token_url"): f"{url}/api/oauth2/token",
            ("application", "base_url"): REDIRECT_URI,
            ("application", "client_id"): settings.client_id,
            ("application", "client_secret"): settings.client_secret,
        }

    def get(self, section: str, option: str) -> str:
        try:
            return self._kept[section, option]
        except KeyError:
            raise MissingSetting(section, option) from None

    def set(self, section: str, option: str, value: str) -> None:
        self._kept[section, option] = value


class _MovingLimiter(RateLimiter):  # type: ignore[misc]
    """Waits by moving the sandbox's clock."""

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self._caller = caller
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._caller.advance(seconds + 1)
        self._reset_times.clear()


class _Client(ExactApi):  # type: ignore[misc]
    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        super().__init__(storage=_Memory(caller.url, caller.settings))

    def get_ratelimiter(self) -> _MovingLimiter:
        return _MovingLimiter(self._caller)


@pytest.fixture
def client(item_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Client]:
    monkeypatch.setattr(exactonline.http.opt_secure, "protocols", ("http", "https"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    settings = SandboxSettings(items=item_file, minutely_limit=5)
    with SandboxServer(settings) as server:
        caller = Caller(server.url, settings)
        caller.steer("POST", "clock", {"frozen": True})
        try:
            yield _Client(caller)
        finally:
            caller.close()


def _exchange_code(client: _Client, caller: Caller) -> None:
    location = caller.http.get(client.create_auth_request_url()).headers["location"]
    [code] = parse_qs(urlsplit(location).query)["code"]
    client.request_token(code)


def test_it_exchanges_a_code_reads_two_pages_refreshes_and_waits_out_a_429(client: _Client) -> None:
    caller = client._caller
    _exchange_code(client, caller)
    first_refresh_token = client.storage.get_refresh_token()
    assert client.get_divisions() == ({1: "Sandbox division 1"}, 1)
    client.storage.set_division(1)

    rows: list[dict[str, Any]] = client.restv1(
        GET("sync/Logistics/Items?$filter=Timestamp+gt+1L&$select=ID,Code,Timestamp")
    )
    assert [row["Code"] for row in rows] == [f"A{number:04}" for number in range(1, ITEMS + 1)]

    caller.advance(580)
    client.storage.set_access_expiry(int(time()) + 20)
    one = client.restv1(GET("logistics/Items?$filter=Code+eq+'A0007'&$select=Code,Description&$top=2"))
    assert [row["Description"] for row in one] == ["Item 7"]
    assert client.storage.get_refresh_token() != first_refresh_token

    # The counter is kept by the server; a client that does not know it runs into the limit.
    client.limiter._reset_times.clear()
    for _ in range(5):
        caller.http.get(
            "/api/v1/1/logistics/Units", headers={"Authorization": f"Bearer {client.storage.get_access_token()}"}
        )
    units = client.restv1(GET("logistics/Units?$select=Code"))
    assert {"pc", "stuk"} <= {row["Code"] for row in units}
    assert client.limiter.waits
    assert 429 in [entry["status"] for entry in caller.steer("GET", "log")["entries"]]
