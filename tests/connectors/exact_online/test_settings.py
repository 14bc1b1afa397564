"""What a connection to Exact Online is checked for before it is kept."""

from typing import Any

import pytest

from ordersync_connectors.exact_online.adapter import ExactOnline
from ordersync_connectors.exact_online.settings import HOSTS, ExactSecrets
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.testing.clocks import ManualClock
from tests.connectors.exact_online.workplace import FIRST_DAY

GOOD = {"division": 124132, "client_id": "{0a-1}"}
SECRETS = {"client_secret": "s"}


def violations(settings: Any, secrets: Any, *, anywhere: bool = False) -> dict[str, str]:
    try:
        ExactOnline(ManualClock(FIRST_DAY), allow_other_hosts=anywhere).check(settings, secrets)
    except InvalidInput as error:
        return {violation.pointer: violation.message for violation in error.violations}
    return {}


@pytest.mark.parametrize("host", [*HOSTS, f"{HOSTS[0]}/"])
def test_every_site_may_be_used(host: str) -> None:
    assert violations({**GOOD, "host": host}, SECRETS) == {}


def test_the_least_that_is_needed() -> None:
    assert violations(GOOD, SECRETS) == {}
    everything = {**GOOD, "host": HOSTS[1], "language": "nl-BE", "vat_tariffs": {"2": "Normal"}}
    assert violations(everything, SECRETS) == {}


@pytest.mark.parametrize("host", ["http://127.0.0.1:8000", "http://start.exactonline.nl", "https://exact.example"])
def test_other_hosts_are_for_sandboxes(host: str) -> None:
    assert list(violations({**GOOD, "host": host}, SECRETS)) == ["/settings/host"]
    assert violations({**GOOD, "host": host}, SECRETS, anywhere=True) == {}


@pytest.mark.parametrize(
    "host",
    ["", "start.exactonline.nl", "ftp://a", "https://", "https://a/b", "https://u:p@a", "https://a?b", "https://[", 5],
)
def test_a_host_is_scheme_and_name(host: object) -> None:
    assert list(violations({**GOOD, "host": host}, SECRETS, anywhere=True)) == ["/settings/host"]


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"division": "124132"}, "/settings/division"),
        ({"division": 0}, "/settings/division"),
        ({"division": True}, "/settings/division"),
        ({"client_id": " "}, "/settings/client_id"),
        ({"language": "Dutch"}, "/settings/language"),
        ({"vat_tariffs": {"2": "High"}}, "/settings/vat_tariffs/2"),
        ({"vat_tariffs": []}, "/settings/vat_tariffs"),
        ({"divisions": 5}, "/settings/divisions"),
    ],
)
def test_each_setting_is_checked(wrong: dict[str, Any], pointer: str) -> None:
    assert list(violations({**GOOD, **wrong}, SECRETS)) == [pointer]


def test_all_violations_come_at_once() -> None:
    found = violations({"language": "?"}, {"client_secret": "", "password": "p"})
    assert set(found) == {
        "/settings/division",
        "/settings/client_id",
        "/settings/language",
        "/secret_settings/client_secret",
        "/secret_settings/password",
    }


def test_a_secret_is_not_shown() -> None:
    assert "hidden" not in repr(ExactSecrets(client_secret="hidden"))  # type: ignore[arg-type]
