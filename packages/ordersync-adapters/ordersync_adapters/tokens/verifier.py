"""Whether a bearer token is to be believed, and whom it speaks for."""

import threading
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from attrs import frozen
from cachetools import TLRUCache
from jwt.exceptions import InvalidAudienceError, InvalidIssuerError, InvalidSignatureError, PyJWTError

from ordersync_adapters.tokens.jwks import JwksKeys
from ordersync_adapters.tokens.keys import ALGORITHMS, Keys, KeySet
from ordersync_adapters.tokens.local_issuer import LOCAL_AUDIENCE, LOCAL_ISSUER, LocalKeys
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import InvalidInput, NotAllowed

LARGEST_TOKEN = 8_192
LONGEST_SUBJECT = 255
CACHED_TOKENS = 10_000
CLOCK_SKEW = timedelta(seconds=30)
"""How far the issuer's clock may be ahead of ours. It is never added to the end of a token."""


class TokenRefused(NotAllowed):
    """The token is not to be believed; the text says why and holds nothing of the token."""


@frozen
class _Verified:
    """Times are seconds since 1970."""

    subject: str
    not_before: float
    expires_at: float


class TokenVerifier:
    """Checks tokens (RFC 7519, 8725): RS256 or ES256 by a key of the issuer, and never what the token itself names.

    What was verified is kept under the SHA-256 of the token until the token ends or the issuer's keys change. Safe
    for use by many threads.
    """

    def __init__(self, keys: Keys, *, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._lock = threading.Lock()
        self._key_set: KeySet | None = None
        self._verified: TLRUCache[bytes, _Verified] = TLRUCache(
            CACHED_TOKENS, ttu=lambda _, verified, __: verified.expires_at, timer=self._now
        )

    def subject(self, token: str) -> str:
        """The `sub` of the token.

        Raises:
            TokenRefused: it is not to be believed, or not now.
            TemporaryFailure: nobody can tell, because the issuer's keys cannot be had.
        """
        if len(token) > LARGEST_TOKEN:
            raise TokenRefused("the token is too long")
        keys = self._keys.current()
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if self._key_set is not keys:
                self._key_set = keys
                self._verified.clear()
            kept = self._verified.get(digest)
        if kept is None:
            kept = self._verify(token, keys)
            with self._lock:
                if self._key_set is keys:
                    self._verified[digest] = kept
        self._check_times(kept)
        return kept.subject

    def _verify(self, token: str, keys: KeySet) -> _Verified:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise TokenRefused(f"the token is not signed with {' or '.join(ALGORITHMS)}")
            key = keys.find(header.get("kid")) or self._keys.renewed().find(header.get("kid"))
            if key is None:
                raise TokenRefused("the token is signed with an unknown key")
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except InvalidAudienceError:
            raise TokenRefused("the token is for another audience") from None
        except InvalidIssuerError:
            raise TokenRefused("the token is from another issuer") from None
        except InvalidSignatureError:
            raise TokenRefused("the token's signature is wrong") from None
        except (PyJWTError, ValueError, TypeError) as error:
            raise TokenRefused(f"the token cannot be read: {type(error).__name__}") from None
        return _Verified(
            subject=_subject(claims),
            not_before=max(_seconds(claims, "iat"), _seconds(claims, "nbf") if "nbf" in claims else 0.0),
            expires_at=_seconds(claims, "exp"),
        )

    def _check_times(self, verified: _Verified) -> None:
        now = self._now()
        if now >= verified.expires_at:
            raise TokenRefused("the token has expired")
        if now < verified.not_before - CLOCK_SKEW.total_seconds():
            raise TokenRefused("the token is not valid yet")

    def _now(self) -> float:
        return self._clock.now().timestamp()


def make_verifier(
    *, issuer: str | None, audience: str | None, jwks: str | None, folder: Path, clock: Clock
) -> TokenVerifier:
    """The verifier that the settings ask for: of an issuer elsewhere, or of the local one when they name none.

    folder: where the local issuer's key lies.

    Raises:
        InvalidInput: some of the three are set and some are not, or the address of the keys is not safe.
    """
    if issuer is None and audience is None and jwks is None:
        return TokenVerifier(LocalKeys(folder), issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, clock=clock)
    if not issuer or not audience or not jwks:
        raise InvalidInput(
            "ORDERSYNC_AUTH_ISSUER, ORDERSYNC_AUTH_AUDIENCE and ORDERSYNC_AUTH_JWKS are set together or not at all"
        )
    return TokenVerifier(JwksKeys(jwks), issuer=issuer, audience=audience, clock=clock)


def _subject(claims: dict[str, Any]) -> str:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise TokenRefused("the token names no subject")
    return subject


def _seconds(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise TokenRefused(f"the token's {name} is not a time")
    return float(value)
