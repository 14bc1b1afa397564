"""A tenant's use of a connector: settings, credentials, and how its access token is kept fresh."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from attrs import evolve, field, frozen

RENEW_IN_LAST = timedelta(seconds=30)
ASK_AGAIN = timedelta(seconds=30)
STATE_LIFE = timedelta(minutes=10)
KEEP_ALIVE_EVERY = timedelta(days=7)


class ConnectionState(StrEnum):
    NEEDS_CONSENT = "NeedsConsent"
    CONNECTED = "Connected"


@frozen(kw_only=True)
class TokenSet:
    """What an authorisation server gave; `expires_at` is the end of the access token."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    obtained_at: datetime
    expires_at: datetime


@frozen(kw_only=True)
class Connection:
    """One use of a connector.

    settings: what may be shown; validated by the connector.
    secret_settings: encrypted JSON object; never returned.
    tokens: encrypted token set; None before the first consent.
    refreshing_since: set before a refresh call and cleared with its result, so that a process that died in between
        leaves a trace.
    """

    id: UUID
    connector: str
    name: str
    settings: Mapping[str, Any]
    secret_settings: bytes = field(repr=False)
    state: ConnectionState = ConnectionState.NEEDS_CONSENT
    tokens: bytes | None = field(default=None, repr=False)
    refreshing_since: datetime | None = None
    created_at: datetime

    def authorised(self, tokens: bytes) -> "Connection":
        return evolve(self, tokens=tokens, state=ConnectionState.CONNECTED, refreshing_since=None)

    def refused(self) -> "Connection":
        """The authorisation server no longer knows our token: a person has to consent again."""
        return evolve(self, state=ConnectionState.NEEDS_CONSENT, refreshing_since=None)


@frozen(kw_only=True)
class AuthorisationState:
    """The row behind the OAuth parameter `state`; used once, at most 10 minutes old. The callback believes it only."""

    id: UUID
    administration: str
    connection_id: UUID
    identity: str
    redirect_uri: str
    created_at: datetime

    def expired(self, now: datetime) -> bool:
        return now >= self.created_at + STATE_LIFE


def is_fresh(tokens: TokenSet, *, now: datetime) -> bool:
    """Whether the access token may be used as it is: it is not in its last 30 seconds."""
    return now < tokens.expires_at - RENEW_IN_LAST


def is_unused_for_long(tokens: TokenSet, *, now: datetime) -> bool:
    """Whether the refresh token has to be used lest it lapses."""
    return now >= tokens.obtained_at + KEEP_ALIVE_EVERY


def kept_in_use(tokens: TokenSet, *, now: datetime) -> TokenSet:
    """The same tokens, of which the authorisation server says that they need no renewal yet: fresh for a while more,
    so that it is not asked before each call."""
    return evolve(tokens, expires_at=max(tokens.expires_at, now + RENEW_IN_LAST + ASK_AGAIN))


def shown(connection: Connection) -> dict[str, Any]:
    """The connection as JSON on the wire: without anything secret."""
    return {
        "id": str(connection.id),
        "connector": connection.connector,
        "name": connection.name,
        "settings": dict(connection.settings),
        "state": connection.state.value,
    }
