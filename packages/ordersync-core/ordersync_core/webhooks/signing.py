"""Signatures by the Standard Webhooks specification: HMAC-SHA256 over id, timestamp and body."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
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
    """One signature for each valid secret, separated by blanks."""
    signed = f"{message_id}.{int(timestamp.timestamp())}.".encode() + body
    return " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets)


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
        message_id, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
        given = headers["webhook-signature"].split()
    except (KeyError, ValueError):
        raise SignatureRefused("the webhook headers are missing or malformed") from None
    sent_at = datetime.fromtimestamp(timestamp, UTC)
    if abs(now - sent_at) > tolerance:
        raise SignatureRefused("the timestamp is outside the tolerance")
    expected = signature(secrets, message_id=message_id, timestamp=sent_at, body=body).split()
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise SignatureRefused("no signature fits")


def _sign(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(PREFIX))
    return b64encode(hmac.new(key, signed, sha256).digest()).decode()
