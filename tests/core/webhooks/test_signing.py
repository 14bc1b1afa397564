from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.webhooks.signing import (
    TOLERANCE,
    SignatureRefused,
    new_secret,
    signature,
    verify,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

secrets = st.binary(min_size=24, max_size=64).map(new_secret)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
message_ids = st.uuids().map(str)
bodies = st.text().map(str.encode)


def timestamp_header(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def headers(message_id: str, timestamp: str, signatures: str) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def check(
    secret: str, *, body: bytes = b"{}", message_id: str = "m1", sent: datetime = NOON, now: datetime = NOON
) -> None:
    signatures = signature([new_secret(b"s" * 24)], message_id="m1", timestamp=NOON, body=b"{}")
    verify([secret], headers(message_id, timestamp_header(sent), signatures), body, now=now)


class TestSecret:
    @given(st.binary(min_size=24, max_size=64))
    def test_is_the_bytes_in_base64(self, random_bytes: bytes) -> None:
        assert new_secret(random_bytes) == "whsec_" + b64encode(random_bytes).decode()

    @pytest.mark.parametrize("length", [0, 23, 65])
    def test_refuses_too_few_and_too_many(self, length: int) -> None:
        with pytest.raises(ValueError, match="24 to 64 bytes"):
            new_secret(b"s" * length)


class TestPublishedLibrary:
    def test_agrees_with_the_published_vector(self) -> None:
        assert signature(
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=datetime.fromtimestamp(1614265330, UTC),
            body=b'{"test": 2432232314}',
        ) == ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")

    @given(secret=secrets, message_id=message_ids, timestamp=moments, body=bodies)
    def test_signs_the_same(self, secret: str, message_id: str, timestamp: datetime, body: bytes) -> None:
        ours = signature([secret], message_id=message_id, timestamp=timestamp, body=body)
        assert ours == standardwebhooks.Webhook(secret).sign(message_id, timestamp, body.decode())

    @given(old=secrets, new=secrets, message_id=message_ids, body=bodies)
    def test_accepts_ours_under_either_secret_of_a_rotation(
        self, old: str, new: str, message_id: str, body: bytes
    ) -> None:
        now = datetime.now(UTC)
        signatures = signature([new, old], message_id=message_id, timestamp=now, body=body)
        for secret in (old, new):
            sent = headers(message_id, timestamp_header(now), signatures)
            standardwebhooks.Webhook(secret).verify(body, sent, json_parse=False)

    @given(secret=secrets, other=secrets, message_id=message_ids, timestamp=moments, body=bodies)
    def test_is_accepted_by_ours(
        self, secret: str, other: str, message_id: str, timestamp: datetime, body: bytes
    ) -> None:
        theirs = standardwebhooks.Webhook(secret).sign(message_id, timestamp, body.decode())
        received = headers(message_id, timestamp_header(timestamp), f"v1a,public v1,bm8= {theirs}")
        verify([other, secret], received, body, now=timestamp)


class TestVerify:
    SECRET = new_secret(b"s" * 24)

    def test_accepts_its_own(self) -> None:
        check(self.SECRET)
        check(self.SECRET.rstrip("="))

    @given(body=st.binary().filter(lambda body: body != b"{}"))
    def test_refuses_another_body(self, body: bytes) -> None:
        with pytest.raises(SignatureRefused, match="no signature"):
            check(self.SECRET, body=body)

    @given(secret=secrets.filter(lambda secret: secret != new_secret(b"s" * 24)))
    def test_refuses_another_secret(self, secret: str) -> None:
        with pytest.raises(SignatureRefused, match="no signature"):
            check(secret)

    def test_refuses_another_id_and_another_time(self) -> None:
        with pytest.raises(SignatureRefused, match="no signature"):
            check(self.SECRET, message_id="m2")
        with pytest.raises(SignatureRefused, match="no signature"):
            check(self.SECRET, sent=NOON + timedelta(seconds=1))

    def test_the_tolerance_is_inclusive(self) -> None:
        check(self.SECRET, now=NOON + TOLERANCE)
        check(self.SECRET, now=NOON - TOLERANCE)
        with pytest.raises(SignatureRefused, match="outside the tolerance"):
            check(self.SECRET, now=NOON + TOLERANCE + timedelta(seconds=1))
        with pytest.raises(SignatureRefused, match="outside the tolerance"):
            check(self.SECRET, now=NOON - TOLERANCE - timedelta(seconds=1))

    @given(
        timestamp=st.text(st.characters(), max_size=20),
        signatures=st.text(st.characters(), max_size=100),
        message_id=st.text(st.characters()),
    )
    def test_refuses_any_other_headers(self, timestamp: str, signatures: str, message_id: str) -> None:
        for stamp in (timestamp, timestamp_header(NOON)):
            with pytest.raises(SignatureRefused):
                verify([self.SECRET], headers(message_id, stamp, signatures), b"{}", now=NOON)

    @pytest.mark.parametrize("timestamp", ["", "soon", "1.5", "9" * 18, "9" * 400, "9" * 5_000, "-" + "9" * 18])
    def test_refuses_timestamps_of_no_year(self, timestamp: str) -> None:
        with pytest.raises(SignatureRefused, match="malformed"):
            verify([self.SECRET], headers("m", timestamp, "v1,"), b"", now=NOON)

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_refuses_without_one_of_the_headers(self, name: str) -> None:
        received = headers("m", timestamp_header(NOON), "v1,")
        del received[name]
        with pytest.raises(SignatureRefused, match="missing"):
            verify([self.SECRET], received, b"", now=NOON)

    def test_header_bytes_that_are_no_text_are_refused_and_no_error(self) -> None:
        with pytest.raises(SignatureRefused, match="no signature"):
            verify([self.SECRET], headers("m\udcff", timestamp_header(NOON), "v1,\udcff v1,\xe9"), b"", now=NOON)


class TestSignature:
    @pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é", "whsec_a", "whsec_ab cd"])
    def test_a_malformed_secret_is_an_error(self, secret: str) -> None:
        with pytest.raises(ValueError, match="a signing secret is"):
            signature([secret], message_id="m", timestamp=NOON, body=b"")

    def test_no_secret_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no secret"):
            signature([], message_id="m", timestamp=NOON, body=b"")
