from typing import Protocol


class Secrets(Protocol):
    """Encryption at rest, with rotation of keys, and the randomness that secrets are made of."""

    def encrypt(self, plain: bytes) -> bytes: ...

    def decrypt(self, sealed: bytes) -> bytes:
        """PermanentFailure when no key fits, or when the bytes were changed."""
        ...

    def random(self, length: int) -> bytes:
        """Unpredictable bytes."""
        ...
