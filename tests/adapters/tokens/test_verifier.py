"""Which tokens are believed: each refusal is shown beside the same token without its fault."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_elliptic_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from ordersync_adapters.tokens.keys import KeySet, key_set
from ordersync_adapters.tokens.local_issuer import LocalIssuer
from ordersync_adapters.tokens.verifier import TokenRefused, TokenVerifier, make_verifier
from ordersync_core.kernel.errors import InvalidInput, NotAllowed
from ordersync_core.testing.clocks import ManualClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ISSUER = "https://issuer.example/"
AUDIENCE = "https://api.example/"
RSA = new_rsa_key(public_exponent=65537, key_size=2048)
OTHER_RSA = new_rsa_key(public_exponent=65537, key_size=2048)
SMALL_RSA = new_rsa_key(public_exponent=65537, key_size=1024)
ELLIPTIC = new_elliptic_key(SECP256R1())
WRONG_CURVE = new_elliptic_key(SECP384R1())


def rsa_document(key: RSAPrivateKey, kid: str = "rsa", **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


def elliptic_document(key: EllipticCurvePrivateKey, kid: str = "elliptic", **more: Any) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


class HeldKeys:
    """Keys that a test changes; counts how often they were looked at anew."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self.keys = key_set({"keys": list(documents)})
        self.next: KeySet | None = None
        self.renewals = 0

    def current(self) -> KeySet:
        return self.keys

    def renewed(self) -> KeySet:
        self.renewals += 1
        self.keys = self.next or self.keys
        return self.keys


def claims(**changed: Any) -> dict[str, Any]:
    all_claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "auth0|ada",
        "iat": int(NOON.timestamp()),
        "exp": int((NOON + timedelta(hours=1)).timestamp()),
        **changed,
    }
    return {name: value for name, value in all_claims.items() if value is not ...}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changed: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers)


def by_hand(header: dict[str, Any], payload: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token as an attacker writes it, without a library that would refuse to."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(payload).encode())}"
    return f"{signed}.{part(sign(signed.encode()))}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def keys() -> HeldKeys:
    return HeldKeys(rsa_document(RSA), elliptic_document(ELLIPTIC))


@pytest.fixture
def verifier(keys: HeldKeys, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


@pytest.mark.parametrize(
    "good",
    [
        token(),
        token(ELLIPTIC, "ES256", "elliptic"),
        token(aud=["another", AUDIENCE]),
        token(nbf=int(NOON.timestamp())),
        token(iat=int((NOON + timedelta(seconds=20)).timestamp())),
    ],
    ids=["RS256", "ES256", "one of several audiences", "nbf", "issuer's clock ahead"],
)
def test_a_good_token_names_its_subject_the_second_time_too(verifier: TokenVerifier, good: str) -> None:
    assert verifier.subject(good) == "auth0|ada"
    assert verifier.subject(good) == "auth0|ada"


PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
LATER = int((NOON + timedelta(minutes=5)).timestamp())
BEFORE = int((NOON - timedelta(seconds=1)).timestamp())

REFUSED = {
    "another key": token(OTHER_RSA),
    "an unknown key id": token(kid="unknown"),
    "no key id though there are two keys": token(kid=None),
    "the other key's id": token(kid="elliptic"),
    "an elliptic signature under the RSA key's id": token(ELLIPTIC, "ES256", "rsa"),
    "another issuer": token(iss="https://evil.example/"),
    "no issuer": token(iss=...),
    "another audience": token(aud="https://other.example/"),
    "no audience": token(aud=...),
    "expired": token(exp=BEFORE),
    "expires now": token(exp=int(NOON.timestamp())),
    "no expiry": token(exp=...),
    "an expiry that is no number": by_hand(
        {"alg": "RS256", "kid": "rsa"},
        claims(exp="tomorrow"),
        lambda signed: RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed, RSA),
    ),
    "an expiry that is infinite": by_hand(
        {"alg": "RS256", "kid": "rsa"},
        claims(exp=float("inf")),
        lambda signed: RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed, RSA),
    ),
    "not valid yet": token(nbf=LATER),
    "issued in the future": token(iat=LATER),
    "no moment of issue": token(iat=...),
    "no subject": token(sub=...),
    "an empty subject": token(sub=""),
    "a subject with a line break": token(sub="ada\nroot"),
    "alg none": by_hand({"alg": "none"}, claims(), lambda _: b""),
    "alg None": by_hand({"alg": "None", "kid": "rsa"}, claims(), lambda _: b""),
    "HS256 with the public key": by_hand(
        {"alg": "HS256", "kid": "rsa"}, claims(), lambda signed: hmac.digest(PUBLIC_PEM, signed, hashlib.sha256)
    ),
    "HS256 with an empty key": by_hand(
        {"alg": "HS256", "kid": "rsa"}, claims(), lambda signed: hmac.digest(b"", signed, hashlib.sha256)
    ),
    "RS512": token(RSA, "RS512"),
    "PS256": token(RSA, "PS256"),
    "a key that the token brings along": jwt.encode(
        claims(), OTHER_RSA, algorithm="RS256", headers={"jwk": rsa_document(OTHER_RSA), "kid": "own"}
    ),
    "a critical extension": by_hand(
        {"alg": "RS256", "kid": "rsa", "crit": ["urn:x"], "urn:x": 1},
        claims(),
        lambda signed: RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed, RSA),
    ),
    "changed after signing": token().replace(token().split(".")[1], token(sub="auth0|eve").split(".")[1]),
    "without a signature": token().rpartition(".")[0] + ".",
    "two parts": "eyJhbGciOiJSUzI1NiJ9.e30",
    "no token": "hello",
    "empty": "",
    "not ASCII": "ключ.ключ.ключ",
    "half a character": "\ud800.e30.e30",
    "too long": "a" * 10_000,
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_token_is_refused_each_time(verifier: TokenVerifier, bad: str) -> None:
    for _ in range(2):
        with pytest.raises(TokenRefused) as refused:
            verifier.subject(bad)
        assert isinstance(refused.value, NotAllowed)
        assert not bad or bad not in str(refused.value)


def test_a_verified_token_ends_when_it_says_so(verifier: TokenVerifier, clock: ManualClock) -> None:
    good = token()
    assert verifier.subject(good) == "auth0|ada"
    clock.advance(timedelta(minutes=59, seconds=59))
    assert verifier.subject(good) == "auth0|ada"
    clock.advance(timedelta(seconds=1))
    with pytest.raises(TokenRefused, match="expired"):
        verifier.subject(good)


def test_a_verified_token_is_verified_once(
    verifier: TokenVerifier, keys: HeldKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token()
    verifier.subject(good)
    monkeypatch.setattr(jwt, "decode", None)
    assert verifier.subject(good) == "auth0|ada"


def test_a_token_of_a_withdrawn_key_is_forgotten(verifier: TokenVerifier, keys: HeldKeys) -> None:
    good = token()
    verifier.subject(good)
    keys.keys = keys.next = key_set({"keys": [rsa_document(OTHER_RSA, "new")]})
    with pytest.raises(TokenRefused, match="unknown key"):
        verifier.subject(good)


def test_an_unknown_key_id_is_looked_for_once_more(verifier: TokenVerifier, keys: HeldKeys) -> None:
    keys.next = key_set({"keys": [rsa_document(RSA), rsa_document(OTHER_RSA, "new")]})
    assert verifier.subject(token(OTHER_RSA, kid="new")) == "auth0|ada"
    assert keys.renewals == 1


def test_a_set_with_one_key_also_serves_a_token_that_names_none(clock: ManualClock) -> None:
    verifier = TokenVerifier(HeldKeys(rsa_document(RSA)), issuer=ISSUER, audience=AUDIENCE, clock=clock)
    assert verifier.subject(token(kid=None)) == "auth0|ada"


@pytest.mark.parametrize(
    "document",
    [
        rsa_document(SMALL_RSA),
        rsa_document(RSA, use="enc"),
        rsa_document(RSA, alg="RS512"),
        rsa_document(RSA, alg="HS256"),
        elliptic_document(WRONG_CURVE),
        elliptic_document(WRONG_CURVE, alg="ES256"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        {"kty": "RSA"},
        {},
        "text",
        None,
    ],
    ids=(
        "too small",
        "for encryption",
        "another RSA algorithm",
        "a shared-key algorithm",
        "wrong curve",
        "wrong curve that claims another",
        "shared key",
        "no numbers",
        "empty",
        "text",
        "nothing",
    ),
)
def test_an_unusable_key_is_left_out(document: Any) -> None:
    assert list(key_set({"keys": [document, rsa_document(RSA)]}).keys) == ["rsa"]


@pytest.mark.parametrize("document", [None, [], "keys", {"keys": None}, {"keys": {"a": 1}}, {}])
def test_what_is_no_key_set_has_no_keys(document: Any) -> None:
    assert not key_set(document).keys


def test_settings_name_all_of_the_issuer_or_nothing(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="set together"):
        make_verifier(issuer=ISSUER, audience=None, jwks=None, folder=tmp_path, clock=clock)
    with pytest.raises(InvalidInput, match="https"):
        make_verifier(issuer=ISSUER, audience=AUDIENCE, jwks="http://issuer.example/keys", folder=tmp_path, clock=clock)
    verifier = make_verifier(issuer=None, audience=None, jwks=None, folder=tmp_path, clock=clock)
    assert verifier.subject(LocalIssuer(tmp_path, clock).issue("ada")) == "ada"
