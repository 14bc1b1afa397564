"""Encryption at rest by Fernet (AES-128-CBC and HMAC-SHA256), with rotation of keys."""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ordersync_adapters.system import make_once
from ordersync_core.kernel.errors import InvalidInput, PermanentFailure

SETTING = "ORDERSYNC_SECRET_KEYS"


class FernetSecrets:
    """keys: at least one; the first encrypts, all decrypt. To rotate, put a new one in front and keep the others.

    Raises:
        InvalidInput: a key is none; the text names the setting and the key's place, never the key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise InvalidInput(f"{SETTING} names no key")
        self._fernet = MultiFernet([_fernet(key, place) for place, key in enumerate(keys, start=1)])

    def encrypt(self, plain: bytes) -> bytes:
        return self._fernet.encrypt(plain)

    def decrypt(self, sealed: bytes) -> bytes:
        try:
            if _is_as_written(sealed):
                return self._fernet.decrypt(sealed)
        except InvalidToken:
            pass
        raise PermanentFailure(f"no key in {SETTING} opens this secret")

    def random(self, length: int) -> bytes:
        return secrets.token_bytes(length)


def make_key_file(path: Path) -> str:
    """The key in the file, which is made on the first call.

    Raises:
        InvalidInput: the file holds something else.
    """
    make_once(path, Fernet.generate_key)
    key = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        Fernet(key)
    except ValueError:
        raise InvalidInput(f"{path} does not hold a key: restore it, or name the keys in {SETTING}") from None
    return key


def _fernet(key: str, place: int) -> Fernet:
    try:
        return Fernet(key.strip())
    except ValueError:
        raise InvalidInput(
            f"{SETTING}: key {place} is not a Fernet key, which is 32 bytes in URL-safe Base64"
        ) from None


def _is_as_written(sealed: bytes) -> bool:
    """Python's Base64 passes over what is no part of its alphabet and over what comes after the padding."""
    try:
        return urlsafe_b64encode(urlsafe_b64decode(sealed)) == sealed
    except ValueError:
        return False
