import itertools
from collections.abc import Sequence
from hashlib import blake2b

from ordersync_core.kernel.errors import PermanentFailure

_NUMBER = 8
_SEAL = 16


class MemorySecrets:
    """A toy: whoever reads this can open what it seals. It refuses changed bytes and unknown keys as the real one does.

    keys: the first one encrypts.
    """

    def __init__(self, keys: Sequence[bytes] = (b"toy",)) -> None:
        self._keys = tuple(keys)
        self._numbers = itertools.count(1)

    def encrypt(self, plain: bytes) -> bytes:
        number = next(self._numbers).to_bytes(_NUMBER, "big")
        hidden = number + _mask(plain, self._keys[0], number)
        return _seal(hidden, self._keys[0]) + hidden

    def decrypt(self, sealed: bytes) -> bytes:
        seal, hidden = sealed[:_SEAL], sealed[_SEAL:]
        for key in self._keys:
            if len(hidden) >= _NUMBER and seal == _seal(hidden, key):
                return _mask(hidden[_NUMBER:], key, hidden[:_NUMBER])
        raise PermanentFailure("no key opens these bytes")

    def random(self, length: int) -> bytes:
        """The same series in every run, and no value of it twice."""
        return _stream(b"random", next(self._numbers).to_bytes(_NUMBER, "big"), length)


def _seal(hidden: bytes, key: bytes) -> bytes:
    return blake2b(hidden, key=key, digest_size=_SEAL).digest()


def _mask(text: bytes, key: bytes, number: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(text, _stream(key, number, len(text)), strict=True))


def _stream(key: bytes, number: bytes, length: int) -> bytes:
    blocks = (blake2b(number + i.to_bytes(8, "big"), key=key).digest() for i in range(length // 64 + 1))
    return b"".join(blocks)[:length]
