"""Requests to Exact Online: addresses, pages, tokens, limits and errors, in Exact's own names."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx
import orjson
from attrs import frozen

from ordersync_core.connections.model import TokenSet
from ordersync_core.connections.ports import ConsentLost, NotExpired
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import PermanentFailure, TemporaryFailure

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
WAITS = (1.0, 3.0)
"""Seconds before the second and the third try of one request."""

LONGEST_WAIT = 61.0
"""Seconds that a client waits by itself: the minute limit. Anything longer is for the run to wait out."""

MARGIN = 1.0
"""Seconds that are waited beyond a reset."""

MAXIMUM_REFUSALS = 2
"""How often one request may meet 401: more than ten within an hour close the endpoint."""

BLOCKED_FOR = timedelta(hours=1)
"""How long an endpoint stays closed after too many refusals: it answers 429 without any limit's headers then."""

TOKEN_CALLS_AGAIN_AFTER = timedelta(minutes=15)
"""After a 429 of the token service: it takes 200 calls a day and does not say when the next day begins."""


@frozen(kw_only=True)
class Limit:
    """One of the two limits of calls in a company, as the headers tell it.

    lasts: seconds from one reset to the next.
    unknown: seconds to wait when no clock makes sense of the reset.
    """

    prefix: str
    lasts: float
    unknown: float


MINUTE = Limit(prefix="X-RateLimit-Minutely", lasts=60.0, unknown=60.0)
DAY = Limit(prefix="X-RateLimit", lasts=86_400.0, unknown=3_600.0)


class ExactClient:
    """One company's data. For one thread.

    host: scheme and name, without a slash at the end.
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
        self._next_call_at: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def pages(self, resource: str, parameters: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
        """The rows, a page at a time; `__next` is followed as it stands, one page after another."""
        address = str(httpx.URL(f"{self._base}/{resource}", params=dict(parameters)))
        while address:
            rows, following = self._get(address)
            yield rows
            if following and not following.startswith(f"{self._host}/"):
                raise PermanentFailure("Exact Online sent a next page on another host")
            if following == address:
                raise PermanentFailure("Exact Online sent a page that is followed by itself")
            address = following

    def _get(self, address: str) -> "_Page":
        """One page. Each failure that may pass is tried again, three times in all.

        Raises:
            TemporaryFailure: it did not pass, or may not be tried again within a minute.
            PermanentFailure: the request itself is refused. It is not repeated: more than ten refusals within an hour
                close the endpoint for everybody.
        """
        self._wait_for_next_call()
        refused = 0
        for wait in (*WAITS, None):
            try:
                return self._get_once(address)
            except _TokenRefused:
                refused += 1
                if refused == MAXIMUM_REFUSALS:
                    raise
            except TemporaryFailure as failure:
                asked = 0.0 if failure.retry_after is None else failure.retry_after.total_seconds()
                if wait is None or asked > LONGEST_WAIT:
                    raise
                self._sleep(max(wait, asked))
        raise TemporaryFailure("Exact Online refused every try of one request")

    def _get_once(self, address: str) -> "_Page":
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._access_token()}"}
        try:
            response = self._http.get(address, headers=headers)
        except httpx.HTTPError as error:
            raise TemporaryFailure(f"Exact Online did not answer: {type(error).__name__}") from error
        except httpx.InvalidURL as error:
            raise PermanentFailure(f"Exact Online sent an address that is none: {error}") from error
        self._note_limits(response)
        match response.status_code:
            case 200:
                return _page(_parsed(response))
            case 401:
                raise _TokenRefused("Exact Online refused a valid access token twice")
            case 429:
                raise self._limited(response)
            case 408 | 500 | 502 | 503 | 504:
                # 500 is for business rules too, but not of a read
                raise TemporaryFailure(
                    f"Exact Online answered {response.status_code}: {_message(response)}", _retry_after(response)
                )
        raise PermanentFailure(f"Exact Online answered {response.status_code}: {_message(response)}")

    def _limited(self, response: httpx.Response) -> TemporaryFailure:
        """A refusal carries the headers of the limit that was reached, and not those of the other."""
        for limit in (MINUTE, DAY):
            if f"{limit.prefix}-Reset" in response.headers:
                return _limit_reached(limit, self._until_reset(response, limit))
        return TemporaryFailure(
            "Exact Online has closed this endpoint for a while, after too many errors on it",
            _retry_after(response) or BLOCKED_FOR,
        )

    def _note_limits(self, response: httpx.Response) -> None:
        """With none remaining, the next call waits for the reset, be it of this page or of another."""
        for limit in (MINUTE, DAY):
            if response.status_code != 429 and response.headers.get(f"{limit.prefix}-Remaining") == "0":
                self._next_call_at = self._clock.now() + self._until_reset(response, limit)

    def _wait_for_next_call(self) -> None:
        if self._next_call_at is None:
            return
        wait = self._next_call_at - self._clock.now()
        if wait.total_seconds() > LONGEST_WAIT:
            raise _limit_reached(DAY, wait)
        self._sleep(max(wait.total_seconds(), 0.0))
        self._next_call_at = None

    def _until_reset(self, response: httpx.Response, limit: Limit) -> timedelta:
        """By Exact's clock, where the answer tells it and it can be: ours may differ from it."""
        reset = _moment(response.headers.get(f"{limit.prefix}-Reset"))
        for now in (_date(response), self._clock.now()):
            if reset is not None and now is not None and 0 <= (reset - now).total_seconds() <= limit.lasts:
                return reset - now + timedelta(seconds=MARGIN)
        return timedelta(seconds=limit.unknown + MARGIN)


class _TokenRefused(PermanentFailure):
    """401 for a token that should hold."""


def _limit_reached(limit: Limit, wait: timedelta) -> TemporaryFailure:
    name = "minute" if limit is MINUTE else "day"
    return TemporaryFailure(f"the {name}'s limit of calls to Exact Online is reached", wait)


def _moment(milliseconds: str | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(milliseconds or "") / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _date(response: httpx.Response) -> datetime | None:
    """The server's clock, to the second."""
    try:
        return parsedate_to_datetime(response.headers.get("Date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return None


def _retry_after(response: httpx.Response) -> timedelta | None:
    """Exact does not send it; what stands before Exact may."""
    text = response.headers.get("Retry-After", "")
    return timedelta(seconds=int(text)) if re.fullmatch(r"[1-9]\d{0,5}", text) else None


def _parsed(response: httpx.Response) -> Any:
    """A body that is no JSON, or has an error glued behind half of it, is a failed answer and never an empty one."""
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise TemporaryFailure("Exact Online sent an answer that broke off") from error


_Page = tuple[list[dict[str, Any]], str]
"""Rows, and the address of the next page; "" on the last one."""


def _page(body: Any) -> _Page:
    """From the shapes that `d` takes: a bare array, an object with results, one entity."""
    match body:
        case {"d": {"results": list(rows), **rest}}:
            following = rest.get("__next") or ""
        case {"d": list(rows)}:
            following = ""
        case {"d": {"results": _}}:
            raise TemporaryFailure("Exact Online sent results that are no list")
        case {"d": dict(entity)}:
            rows, following = [entity], ""
        case _:
            raise TemporaryFailure("Exact Online sent an answer without rows")
    if not isinstance(following, str) or not all(isinstance(row, dict) for row in rows):
        raise TemporaryFailure("Exact Online sent rows that are no objects")
    return rows, following


def _message(response: httpx.Response) -> str:
    match _json_or_none(response):
        case {"error": {"message": {"value": str(text)}}}:
            return text
    return response.reason_phrase


def _json_or_none(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None


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
        TemporaryFailure: the service failed, or nobody knows what became of the request.
    """
    try:
        response = http.post(f"{host}/api/oauth2/token", data=dict(form), headers={"Accept": "application/json"})
    except httpx.HTTPError as error:
        raise TemporaryFailure(f"Exact Online's token service did not answer: {type(error).__name__}") from error
    if response.status_code == 200:
        return _token_set(_parsed(response), now=now)
    raise _token_refusal(response)


def _token_set(body: Any, *, now: datetime) -> TokenSet:
    """`expires_in` comes as a string of digits, and in places as a number."""
    match body:
        case {"access_token": str(access), "refresh_token": str(refresh), "expires_in": str() | int() as seconds}:
            if access and refresh and re.fullmatch(r"\d{1,9}", str(seconds)):
                expires_at = now + timedelta(seconds=int(seconds))
                return TokenSet(access_token=access, refresh_token=refresh, obtained_at=now, expires_at=expires_at)
    raise TemporaryFailure("Exact Online's token service sent an incomplete answer")


def _token_refusal(response: httpx.Response) -> Exception:
    """What a refusal means. Spent tokens and early requests share status and error with others: the text decides."""
    error, description = _oauth_error(response)
    said = description or error or response.reason_phrase
    if response.status_code in (400, 401):
        # 400, or 401 in older times: "Rate limit exceeded: access_token not expired", "... has not expired"
        if re.search(r"\bnot (yet )?expired\b", f"{error} {description}", re.IGNORECASE):
            return NotExpired(f"Exact Online keeps the present access token: {said}")
        if error == "invalid_grant" or "old refresh token" in description.lower():
            return ConsentLost(f"Exact Online asks for a person's new consent: {said}")
        if error == "invalid_client":
            return PermanentFailure(f"Exact Online does not know this client id and secret: {said}")
    again = _retry_after(response)
    if response.status_code == 429:
        again = again or TOKEN_CALLS_AGAIN_AFTER
    return TemporaryFailure(f"Exact Online's token service answered {response.status_code}: {said}", again)


def _oauth_error(response: httpx.Response) -> tuple[str, str]:
    """`error` and `error_description`; a body that has none is all description."""
    match _json_or_none(response):
        case {"error": str(error), **rest}:
            return error, str(rest.get("error_description") or "")
    return "", response.text[:300] if "html" not in response.headers.get("Content-Type", "") else ""
