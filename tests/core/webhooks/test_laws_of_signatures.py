"""Signatures as a law: whatever is altered on the way, a receiver with the published Standard Webhooks library and one
with ours come to the same verdict."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st

from ordersync_core.webhooks.signing import SignatureRefused, new_secret, signature, verify

SECRETS = st.binary(min_size=24, max_size=64).map(new_secret)
BODIES = st.text(max_size=40).map(str.encode)
IDS = st.uuids().map(str)
AGES = st.integers(-290, 290) | st.integers(310, 100_000) | st.integers(-100_000, -310)
"""Seconds; not near the tolerance of 300, for the library asks the clock itself."""

ALTERED = st.sampled_from(
    ("nothing", "body", "id", "time", "secret", "signature", "version", "no signature", "list", "header")
)


def ours(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        verify([secret], headers, body, now=datetime.now(UTC))
    except SignatureRefused:
        return False
    return True


def theirs(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        standardwebhooks.Webhook(secret).verify(body, dict(headers), json_parse=False)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


@given(
    secrets=st.lists(SECRETS, min_size=1, max_size=2, unique=True),
    other=SECRETS,
    id=IDS,
    age=AGES,
    body=BODIES,
    altered=ALTERED,
    published=st.booleans(),
)
@example(
    secrets=[new_secret(b"s" * 24)],
    other=new_secret(b"t" * 24),
    id="m",
    age=0,
    body=b"{}",
    altered="nothing",
    published=False,
)
def test_both_take_what_was_sent_and_refuse_what_was_altered(
    secrets: list[str], other: str, id: str, age: int, body: bytes, altered: str, published: bool
) -> None:
    sent = datetime.now(UTC) - timedelta(seconds=age)
    if published:
        signed = " ".join(standardwebhooks.Webhook(secret).sign(id, sent, body.decode()) for secret in secrets)
    else:
        signed = signature(secrets, message_id=id, timestamp=sent, body=body)
    headers = {"webhook-id": id, "webhook-timestamp": str(int(sent.timestamp())), "webhook-signature": signed}
    secret = secrets[-1]
    match altered:
        case "body":
            body += b" "
        case "id":
            headers["webhook-id"] += "1"
        case "time":
            headers["webhook-timestamp"] = str(int(sent.timestamp()) + 1)
        case "secret":
            secret = other if other not in secrets else new_secret(b"u" * 24)
        case "signature":
            headers["webhook-signature"] = " ".join(one[:-5] + "AAAA=" for one in signed.split())
        case "version":
            headers["webhook-signature"] = signed.replace("v1,", "v2,")
        case "no signature":
            headers["webhook-signature"] = ""
        case "list":
            headers["webhook-signature"] = f"v1a,bm8= v1,bm8= {signed}"
        case "header":
            del headers["webhook-timestamp"]
    expected = altered in ("nothing", "list") and abs(age) < 300
    assert ours(secret, headers, body) is expected
    assert theirs(secret, headers, body) is expected
