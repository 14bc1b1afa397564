"""Signatures by the Standard Webhooks specification: HMAC-SHA256 over id, timestamp and body."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

PREFIX = "whsec_"
TOLERANCE = timedelta(minutes=5)


class SignatureRefused(ValueError):
    """The request does not come from who holds the secret, or is not of now."""


def new_secret(random_bytes: bytes) -> str:
    """A secret of 24 to 64 unpredictable bytes, as the specification writes it."""
    if not 24 <= len(random_bytes) <= 64:
        raise ValueError("a signing secret has 24 to 64 bytes")
    return PREFIX + b64encode(random_bytes).decode()


def signature(secrets: Sequence[str], *, message_id: str, timestamp: datetime, body: bytes) -> str:
    """One signature for each valid secret, separated by blanks.

    Raises:
        ValueError: there is no secret, or one is malformed.
    """
    return _signature(secrets, message_id, str(int(timestamp.timestamp())), body)


def signed_headers(secrets: Sequence[str], *, message_id: str, timestamp: datetime, body: bytes) -> dict[str, str]:
    seconds = str(int(timestamp.timestamp()))
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": _signature(secrets, message_id, seconds, body),
    }


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> None:
    """Check a request as its receiver does.

    headers: with lower-case names.

    Raises:
        SignatureRefused: a header is missing, the timestamp is too old or too new, or no signature fits.
    """
    try:
        message_id = headers["webhook-id"]
        sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        given = headers["webhook-signature"].split()
    except (KeyError, ValueError, OverflowError, OSError):  # a timestamp may be no number, or of no year there is
        raise SignatureRefused("the webhook headers are missing or malformed") from None
    if abs(now - sent_at) > tolerance:
        raise SignatureRefused("the timestamp is outside the tolerance")
    expected = signature(secrets, message_id=message_id, timestamp=sent_at, body=body).split()
    matches = [
        hmac.compare_digest(ours.encode(), theirs.encode(errors="surrogatepass"))
        for ours in expected
        for theirs in given
    ]
    if not any(matches):
        raise SignatureRefused("no signature fits")


def _signature(secrets: Sequence[str], message_id: str, seconds: str, body: bytes) -> str:
    if not secrets:
        raise ValueError("there is no secret to sign with")
    signed = f"{message_id}.{seconds}.".encode(errors="surrogatepass") + body
    return " ".join([f"v1,{_sign(secret, signed)}" for secret in secrets])


def _sign(secret: str, signed: bytes) -> str:
    return b64encode(hmac.digest(_key(secret), signed, sha256)).decode()


@lru_cache(maxsize=256)  # a webhook's deliveries come together
def _key(secret: str) -> bytes:
    """The bytes of a secret; some receivers write it down without the `=` at its end."""
    encoded = secret.removeprefix(PREFIX)
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a signing secret is whsec_ and base64")
    return key
