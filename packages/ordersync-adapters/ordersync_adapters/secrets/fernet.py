"""Encryption at rest by Fernet (AES-128-CBC and HMAC-SHA256), with rotation of keys."""

import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

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
    """The key in the file, which is made on the first call, for its owner alone; two processes that make it at once
    get the same key.

    Raises:
        InvalidInput: the file holds something else.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            _write(draft, Fernet.generate_key())
            with suppress(FileExistsError):
                os.link(draft, path)
        _sync(path.parent)
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


def _write(draft: Path, content: bytes) -> None:
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
