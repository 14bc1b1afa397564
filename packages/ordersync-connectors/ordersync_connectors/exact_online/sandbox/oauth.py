"""The authorization-code grant of Exact Online, with its single-use refresh tokens and its guards.

Deviations: the consent page consents at once; http redirect addresses are taken on loopback hosts; there is one user
and one app, so there is one chain of tokens.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl, quote, urlsplit

from attrs import frozen

from .answers import Answer, Call, html, json_answer, oauth_error
from .clock import SandboxClock
from .settings import SandboxSettings

CODE_LIFE = timedelta(minutes=3)
ACCESS_TOKEN_LIFE = timedelta(seconds=600)
EARLIEST_REFRESH = timedelta(seconds=570)
REFRESH_TOKEN_LIFE = timedelta(days=30)
TOKEN_CALLS_A_DAY = 200


@frozen
class _Code:
    redirect_uri: str
    given_at: datetime


@frozen
class _AccessToken:
    chain: int
    given_at: datetime


class TokenDesk:
    """Gives out codes and tokens, and knows which of them still count."""

    def __init__(self, settings: SandboxSettings, clock: SandboxClock) -> None:
        self._settings = settings
        self._clock = clock
        self._codes: dict[str, _Code] = {}
        self._chain = 0
        self._refresh_token: str | None = None
        self._given_at: datetime | None = None
        self._spent: set[str] = set()
        self._access: dict[str, _AccessToken] = {}
        self._calls: dict[str, int] = {}

    def authorise(self, call: Call) -> Answer:
        """Redirect with a code and the caller's state; an HTML page when the request is not for this app."""
        asked = dict(parse_qsl(call.query, keep_blank_values=True))
        redirect_uri = asked.get("redirect_uri", "")
        if not self._is_client(asked.get("client_id", "")):
            return html(400, "Unknown application: client_id")
        if not self._may_redirect_to(redirect_uri):
            return html(400, "redirect_uri is not the registered one")
        if asked.get("response_type") != "code":
            return html(400, "response_type must be code")
        code = f"stampNL001.{secrets.token_urlsafe(48)}/{secrets.token_urlsafe(8)}=="
        self._codes[code] = _Code(redirect_uri, self._clock.now())
        state = f"&state={quote(asked['state'], safe='')}" if "state" in asked else ""
        glue = "&" if urlsplit(redirect_uri).query else "?"
        location = f"{redirect_uri}{glue}code={quote(code, safe='')}{state}"
        return Answer(status=302, headers={"Location": location})

    def token(self, call: Call) -> Answer:
        """A new pair of tokens for a code or for the newest refresh token."""
        if call.method != "POST":
            return oauth_error(405, "invalid_request", "Use POST.")
        if not call.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
            return oauth_error(400, "invalid_request", "The body must be application/x-www-form-urlencoded.")
        if not self._counted():
            return oauth_error(429, "access_denied", f"Rate limit exceeded: {TOKEN_CALLS_A_DAY} token calls a day.")
        form = dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))
        if not self._is_client(form.get("client_id", "")) or form.get("client_secret") != self._settings.client_secret:
            return oauth_error(400, "invalid_client", "Client authentication failed.")
        match form.get("grant_type"):
            case "authorization_code":
                return self._by_code(form)
            case "refresh_token":
                return self._by_refresh_token(form)
        return oauth_error(400, "unsupported_grant_type", "Use authorization_code or refresh_token.")

    def state_of(self, authorization: str) -> Literal["valid", "expired", "unknown"]:
        """What an Authorization header is worth now."""
        scheme, _, token = authorization.partition(" ")
        access = self._access.get(token.strip())
        if scheme.lower() != "bearer" or access is None or access.chain != self._chain:
            return "unknown"
        return "valid" if self._clock.now() < access.given_at + ACCESS_TOKEN_LIFE else "expired"

    def _by_code(self, form: Mapping[str, str]) -> Answer:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or self._clock.now() >= code.given_at + CODE_LIFE:
            return oauth_error(400, "invalid_grant", "The code is used, expired or unknown.")
        if code.redirect_uri != form.get("redirect_uri"):
            return oauth_error(400, "invalid_grant", "redirect_uri is not that of the authorization request.")
        # A new consent starts a new chain; whatever the earlier one gave out is dead, its access tokens included.
        self._chain += 1
        self._spent.clear()
        self._access.clear()
        return self._new_pair()

    def _by_refresh_token(self, form: Mapping[str, str]) -> Answer:
        presented = form.get("refresh_token", "")
        if presented in self._spent:
            return oauth_error(401, "unauthorized_client", "Old refresh token used.", reason="OldRefreshToken")
        now, given_at = self._clock.now(), self._given_at
        if (
            not presented
            or presented != self._refresh_token
            or given_at is None
            or now >= given_at + REFRESH_TOKEN_LIFE
        ):
            return oauth_error(400, "invalid_grant", "Token is not allowed, because of invalid or empty chainId")
        if now < given_at + EARLIEST_REFRESH:
            text = "Rate limit exceeded: access_token not expired"
            return oauth_error(400, "access_denied", text, reason=f"TooEarlyToRefreshTokens: {text}")
        self._spent.add(presented)
        return self._new_pair()

    def _new_pair(self) -> Answer:
        now = self._clock.now()
        access, self._refresh_token = secrets.token_urlsafe(96), f"stampNL001.{secrets.token_urlsafe(64)}"
        self._given_at = now
        # An expired token is kept for a while, so that it is told from an unknown one.
        self._access = {text: kept for text, kept in self._access.items() if now < kept.given_at + timedelta(days=1)}
        self._access[access] = _AccessToken(self._chain, now)
        return json_answer(
            {
                "access_token": access,
                "token_type": "bearer",
                "expires_in": "600",  # a string, as Exact sends it
                "refresh_token": self._refresh_token,
            }
        )

    def _counted(self) -> bool:
        """Count a call of today (UTC); False when there were too many. Every call counts, refused ones too."""
        today = self._clock.now().date().isoformat()
        self._calls = {today: self._calls.get(today, 0) + 1}
        return self._calls[today] <= TOKEN_CALLS_A_DAY

    def _is_client(self, client_id: str) -> bool:
        """Many write the guid inside curly braces."""
        return client_id.strip("{}").lower() == self._settings.client_id.strip("{}").lower()

    def _may_redirect_to(self, uri: str) -> bool:
        if self._settings.redirect_uris:
            return uri in self._settings.redirect_uris
        parts = urlsplit(uri)
        if parts.scheme == "https":
            return bool(parts.hostname)
        # Deviation: Exact refuses http and localhost.
        return parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
