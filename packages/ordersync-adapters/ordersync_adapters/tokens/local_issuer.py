"""An issuer for embedded use: its key lies in the state folder, and who can read that folder can issue tokens."""

from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import RSAAlgorithm
from jwt.utils import base64url_encode

from ordersync_adapters.system import SystemClock, make_once
from ordersync_adapters.tokens.keys import KeySet, key_set
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import PermanentFailure

LOCAL_ISSUER = "urn:ordersync:local"
LOCAL_AUDIENCE = "ordersync"
KEY_FILE = "issuer.pem"
KEY_SIZE = 2048
LIFETIME = timedelta(hours=12)


class LocalIssuer:
    """Issues RS256 tokens with the folder's key, which is made when it is first needed.

    folder: `keys/` of the state folder.
    """

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()

    def issue(self, sub: str, *, lifetime: timedelta = LIFETIME, audience: str = LOCAL_AUDIENCE) -> str:
        """A token for the identity `sub` that holds for `lifetime`; at least a second."""
        now = self._clock.now()
        key = _private_key(self._folder)
        claims = {
            "iss": LOCAL_ISSUER,
            "sub": sub,
            "aud": audience,
            "iat": _seconds(now),
            "exp": _seconds(now + lifetime),
        }
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": _thumbprint(key)})


class LocalKeys:
    """The public key of the folder's issuer, read again when the file is another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[tuple[int, int, int], KeySet] | None = None

    def current(self) -> KeySet:
        known = self._known
        try:
            version = _version(self._folder)
        except FileNotFoundError:
            make_key(self._folder)
            version = _version(self._folder)
        if known is None or known[0] != version:
            key = _private_key(self._folder)
            known = self._known = (version, key_set({"keys": [_public_document(key)]}))
        return known[1]

    def renewed(self) -> KeySet:
        return self.current()


def make_key(folder: Path) -> None:
    """Make the key file unless it is there."""
    make_once(folder / KEY_FILE, _new_key)


def _new_key() -> bytes:
    return generate_private_key(public_exponent=65537, key_size=KEY_SIZE).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _private_key(folder: Path) -> RSAPrivateKey:
    """The folder's key. PermanentFailure for a file that holds none."""
    make_key(folder)
    try:
        key = load_pem_private_key((folder / KEY_FILE).read_bytes(), password=None)
    except ValueError:
        raise PermanentFailure(f"{folder / KEY_FILE} holds no private key") from None
    if not isinstance(key, RSAPrivateKey):
        raise PermanentFailure(f"{folder / KEY_FILE} holds no RSA key")
    return key


def _version(folder: Path) -> tuple[int, int, int]:
    status = (folder / KEY_FILE).stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _public_document(key: RSAPrivateKey) -> dict[str, str]:
    public: dict[str, str] = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "n": public["n"],
        "e": public["e"],
        "kid": _thumbprint(key),
    }


def _thumbprint(key: RSAPrivateKey) -> str:
    """RFC 7638: the hash of the public key's members in one fixed spelling."""
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    text = f'{{"e":"{public["e"]}","kty":"RSA","n":"{public["n"]}"}}'
    return base64url_encode(sha256(text.encode()).digest()).decode()


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
