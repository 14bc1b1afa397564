"""Requests to Exact Online: addresses, pages, tokens, limits and errors, in Exact's own names."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx
import orjson

from ordersync_core.connections.model import TokenSet
from ordersync_core.connections.ports import ConsentLost, NotExpired
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import PermanentFailure, TemporaryFailure

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
TRIES = 3
WAITS = (1.0, 3.0)
"""Seconds before the second and the third try of one request."""

MARGIN = 1.0
"""Seconds that are waited beyond a reset."""

LONGEST_WAIT = 61.0
"""Seconds that a client waits by itself: the minute limit. Anything longer is for the run to wait out."""

MAXIMUM_REFUSALS = 2
"""How often one request may meet 401: more than ten within an hour close the endpoint."""

TRY_AGAIN = {408, 500, 502, 503, 504}
MINUTE = "X-RateLimit-Minutely"
DAY = "X-RateLimit"


class ExactClient:
    """One company's data.

    access_token: gives a valid access token; asked before each request.
    sleep: waits that many seconds.
    """

    def __init__(
        self,
        host: str,
        division: int,
        *,
        access_token: Callable[[], str],
        clock: Clock,
        sleep: Callable[[float], None],
        http: httpx.Client,
    ) -> None:
        self._base = f"{host}/api/v1/{division}"
        self._host = host
        self._access_token = access_token
        self._clock = clock
        self._sleep = sleep
        self._http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def pages(self, resource: str, parameters: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
        """The rows, a page at a time; `__next` is followed as it stands, one page after another."""
        address = str(httpx.URL(f"{self._base}/{resource}", params=dict(parameters)))
        while address:
            rows, following = _envelope(self._get(address))
            yield rows
            if following and not following.startswith(f"{self._host}/"):
                raise PermanentFailure("Exact Online sent a next page on another host")
            address = following

    def _get(self, address: str) -> Any:
        """The parsed body. Each failure that may pass is tried again, three times in all.

        Raises:
            TemporaryFailure: it did not pass, or the limit resets later than in a minute.
            PermanentFailure: the request itself is refused. It is not repeated: more than ten refusals within an hour
                close the endpoint for everybody.
        """
        refused = 0
        for wait in (*WAITS, None):
            try:
                return self._get_once(address)
            except _Limited as limited:
                self._wait_out(limited.wait)
            except _TokenRefused:
                refused += 1
                if refused == MAXIMUM_REFUSALS:
                    raise
            except TemporaryFailure:
                if wait is None:
                    raise
                self._sleep(wait)
        raise TemporaryFailure("Exact Online refused every try of one request")

    def _get_once(self, address: str) -> Any:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._access_token()}"}
        try:
            response = self._http.get(address, headers=headers)
        except httpx.HTTPError as error:
            raise TemporaryFailure(f"Exact Online did not answer: {type(error).__name__}") from error
        if response.status_code == 429:
            raise _Limited(self._until_reset(response))
        if response.status_code in TRY_AGAIN:
            raise TemporaryFailure(f"Exact Online answered {response.status_code}: {_message(response)}")
        if response.status_code == 401:
            raise _TokenRefused("Exact Online refused a valid access token twice")
        if response.status_code != 200:
            raise PermanentFailure(f"Exact Online answered {response.status_code}: {_message(response)}")
        body = _parsed(response)
        if response.headers.get(f"{MINUTE}-Remaining") == "0":
            self._wait_out(self._until_reset(response))
        return body

    def _until_reset(self, response: httpx.Response) -> float:
        """Seconds until the limit that was reached is lifted, by the answer's own Date where it has one: the day's
        when only the day's headers came with the refusal."""
        name = f"{MINUTE}-Reset" if f"{MINUTE}-Reset" in response.headers else f"{DAY}-Reset"
        try:
            reset = datetime.fromtimestamp(int(response.headers[name]) / 1000, UTC)
        except (KeyError, ValueError):
            return LONGEST_WAIT
        wait = (reset - self._clock.now()).total_seconds() + MARGIN
        return min(wait, LONGEST_WAIT) if name.startswith(MINUTE) else wait

    def _wait_out(self, seconds: float) -> None:
        if seconds > LONGEST_WAIT:
            raise TemporaryFailure(
                "the day's limit of calls to Exact Online is reached", retry_after=timedelta(seconds=seconds)
            )
        self._sleep(max(seconds, 0.0))


class _TokenRefused(PermanentFailure):
    """401 for a token that should hold."""


class _Limited(Exception):
    def __init__(self, wait: float) -> None:
        super().__init__()
        self.wait = wait


def _parsed(response: httpx.Response) -> Any:
    """A body that is no JSON, or has an error glued behind half a page, is a failed page and never an empty one."""
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise TemporaryFailure("Exact Online sent a page that broke off") from error


def _envelope(body: Any) -> tuple[list[dict[str, Any]], str]:
    """Rows and next address from the shapes that `d` takes: a bare array, an object with results, one entity."""
    try:
        d = body["d"]
    except (KeyError, TypeError):
        raise TemporaryFailure("Exact Online sent an answer without d") from None
    if isinstance(d, list):
        return d, ""
    if isinstance(d, dict) and "results" in d:
        return list(d["results"]), str(d.get("__next") or "")
    if isinstance(d, dict):
        return [d], ""
    raise TemporaryFailure("Exact Online sent an answer whose d is neither rows nor an entity")


def _message(response: httpx.Response) -> str:
    try:
        return str(orjson.loads(response.content)["error"]["message"]["value"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return response.reason_phrase


def consent_url(host: str, *, client_id: str, redirect_uri: str, state: str) -> str:
    parameters = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "state": state,
        "force_login": "0",
    }
    return str(httpx.URL(f"{host}/api/oauth2/auth", params=parameters))


def request_tokens(http: httpx.Client, host: str, form: Mapping[str, str], *, now: datetime) -> TokenSet:
    """The token set for a code or a refresh token. Asked once: a token may be spent by the first request.

    Raises:
        ConsentLost: the code or refresh token is spent, unknown or expired.
        NotExpired: the present access token holds still.
        PermanentFailure: the app registration is refused.
        TemporaryFailure: nobody knows what became of the request.
    """
    try:
        response = http.post(f"{host}/api/oauth2/token", data=dict(form))
    except httpx.HTTPError as error:
        raise TemporaryFailure(f"Exact Online's token service did not answer: {type(error).__name__}") from error
    if response.status_code == 200:
        return _token_set(_parsed(response), now=now)
    raise _token_refusal(response)


def _token_set(body: Any, *, now: datetime) -> TokenSet:
    """`expires_in` comes as a string of digits, and in places as a number."""
    try:
        return TokenSet(
            access_token=str(body["access_token"]),
            refresh_token=str(body["refresh_token"]),
            obtained_at=now,
            expires_at=now + timedelta(seconds=int(body["expires_in"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TemporaryFailure("Exact Online's token service sent an incomplete answer") from error


def _token_refusal(response: httpx.Response) -> Exception:
    text = response.text[:500]
    error, description = _oauth_error(response)
    if response.status_code in (400, 401) and "expired" in text.lower() and "not" in text.lower():
        return NotExpired(f"Exact Online: {description or text}")
    if error in ("invalid_grant", "unauthorized_client"):
        return ConsentLost(f"Exact Online asks for a new consent: {description}")
    if error == "invalid_client":
        return PermanentFailure("Exact Online does not know this client id and secret")
    return TemporaryFailure(f"Exact Online's token service answered {response.status_code}")


def _oauth_error(response: httpx.Response) -> tuple[str, str]:
    try:
        body = orjson.loads(response.content)
        return str(body["error"]), str(body.get("error_description", ""))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", ""
