"""Section 1.3, rate limits."""

from datetime import datetime

import httpx

from tests.connectors.exact_online.sandbox.caller import Caller, message
from tests.connectors.exact_online.sandbox.statements import shows

DAILY = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
MINUTELY = {"x-ratelimit-minutely-limit", "x-ratelimit-minutely-remaining", "x-ratelimit-minutely-reset"}
ME = "/api/v1/current/Me"


def _limit_headers(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("x-ratelimit")}


@shows("1.3", "60 calls a minute and 5,000 a day, read from the headers")
def _defaults(site: Caller) -> None:
    headers = site.get(ME).headers
    assert headers["X-RateLimit-Minutely-Limit"] == "60"
    assert headers["X-RateLimit-Minutely-Remaining"] == "59"
    assert headers["X-RateLimit-Limit"] == "5000"
    assert headers["X-RateLimit-Remaining"] == "4999"


@shows("1.3", "some companies have 100 and 9,000", minutely_limit=100, daily_limit=9000)
def _others(site: Caller) -> None:
    headers = site.get(ME).headers
    assert (headers["X-RateLimit-Minutely-Limit"], headers["X-RateLimit-Limit"]) == ("100", "9000")


@shows("1.3", "six headers on every data reply, refusals included")
def _six(site: Caller) -> None:
    for path in (ME, "logistics/Units", "logistics/Items", "crm/Nothing"):
        assert _limit_headers(site.get(path)) == DAILY | MINUTELY


@shows("1.3", "resets are epoch milliseconds: a whole minute, and midnight UTC")
def _resets(site: Caller) -> None:
    site.set_clock("2026-06-25T14:05:31.250Z")
    site.consent()
    headers = site.get(ME).headers
    minutely, daily = (int(headers[f"X-RateLimit{kind}-Reset"]) for kind in ("-Minutely", ""))
    assert minutely == datetime.fromisoformat("2026-06-25T14:06:00+00:00").timestamp() * 1000
    assert daily == datetime.fromisoformat("2026-06-26T00:00:00+00:00").timestamp() * 1000


@shows("1.3", "over the minute limit: 429 with the Minutely headers only, no body, no Retry-After", minutely_limit=3)
def _minute(site: Caller) -> None:
    assert [site.get(ME).status_code for _ in range(3)] == [200] * 3
    answer = site.get(ME)
    assert (answer.status_code, answer.content) == (429, b"")
    assert _limit_headers(answer) == MINUTELY
    assert answer.headers["X-RateLimit-Minutely-Remaining"] == "0"
    assert "Retry-After" not in answer.headers


@shows("1.3", "after the minutely reset calls go on", minutely_limit=1)
def _after_reset(site: Caller) -> None:
    site.set_clock("2026-06-25T14:05:31Z")
    site.consent()
    reset = int(site.get(ME).headers["X-RateLimit-Minutely-Reset"])
    assert site.get(ME).status_code == 429
    site.set_clock(datetime.fromtimestamp(reset / 1000 - 1).astimezone().isoformat())
    assert site.get(ME).status_code == 429
    site.advance(1)
    assert site.get(ME).status_code == 200


@shows("1.3", "over the day limit: 429 with the daily headers only, until midnight UTC", daily_limit=2)
def _day(site: Caller) -> None:
    site.set_clock("2026-06-25T23:59:00Z")
    site.consent()
    assert [site.get(ME).status_code for _ in range(2)] == [200] * 2
    answer = site.get(ME)
    assert answer.status_code == 429
    assert _limit_headers(answer) == DAILY
    site.advance(60)
    assert site.get(ME).status_code == 200


@shows("1.3", "a 429 with Remaining above zero happens")
def _shared_company(site: Caller) -> None:
    site.fault(match="current/Me", do="status", status=429)
    answer = site.get(ME)
    assert answer.status_code == 429
    assert int(answer.headers["X-RateLimit-Minutely-Remaining"]) > 0
    assert site.get(ME).status_code == 200


@shows("1.3", "10 errors in an hour block the endpoint for an hour, for healthy calls too")
def _velocity(site: Caller) -> None:
    bad, good = "logistics/ItemGroups?$filter=Nothing eq 1", "logistics/ItemGroups"
    assert [site.get(bad).status_code for _ in range(10)] == [400] * 10
    assert site.get(good).status_code == 429
    assert site.get("logistics/Units").status_code == 200
    site.advance(575)
    site.use(site.refresh())
    assert site.get(good).status_code == 429
    site.advance(3600 - 575)
    site.use(site.refresh())
    assert site.get(good).status_code == 200


@shows("1.3", "400, 401, 403 and 404 count, 500 does not")
def _counted(site: Caller) -> None:
    for status in (400, 403, 404):
        site.fault(match="logistics/Units", do="status", status=status, times=3)
        assert [site.get("logistics/Units").status_code for _ in range(3)] == [status] * 3
    site.fault(match="logistics/Units", do="status", status=500, times=20)
    assert [site.get("logistics/Units").status_code for _ in range(20)] == [500] * 20
    assert site.get("logistics/Units").status_code == 200
    site.advance(600)
    assert site.get("logistics/Units").status_code == 401
    site.use(site.refresh())
    assert site.get("logistics/Units").status_code == 429


@shows("1.3", "errors further apart than an hour do not block")
def _slow_errors(site: Caller) -> None:
    for _ in range(12):
        site.consent()
        assert site.get("logistics/Units?$skip=1").status_code == 400
        site.advance(400)
    site.consent()
    assert site.get("logistics/Units").status_code == 200


@shows("1.3", "blocked longer on repetition", error_velocity=1)
def _repetition(site: Caller) -> None:
    def blocked_after(seconds: float) -> bool:
        site.advance(seconds)
        site.consent()
        return site.get("logistics/Units").status_code == 429

    assert site.get("logistics/Units?$skip=1").status_code == 400
    assert not blocked_after(3601)
    assert site.get("logistics/Units?$skip=1").status_code == 400
    assert blocked_after(3601)
    assert not blocked_after(3601)


@shows("1.3", "a body may have 10 MB")
def _body_size(site: Caller) -> None:
    answer = site.send("POST", "logistics/Items", content=b'{"Notes": "' + b"x" * 10_500_000 + b'"}')
    assert answer.status_code == 413


@shows("1.3", "a request that is too broad may give 408")
def _too_broad(site: Caller) -> None:
    site.fault(match="logistics/Items", do="status", status=408, text="Request timeout")
    answer = site.get("logistics/Items?$filter=Code gt 'A'&$select=Code")
    assert (answer.status_code, message(answer)) == (408, "Request timeout")


@shows("1.3", "the counter is kept per division", minutely_limit=2, further_divisions=(2,))
def _per_division(site: Caller) -> None:
    assert [site.get("logistics/Units").status_code for _ in range(3)] == [200, 200, 429]
    assert site.get("logistics/Units", division=2).status_code == 200
