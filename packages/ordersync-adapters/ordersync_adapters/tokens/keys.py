"""Public keys that a token's signature is checked with."""

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

ALGORITHMS = ("RS256", "ES256")
SMALLEST_RSA_KEY = 2048


@frozen
class KeySet:
    """The keys of an issuer by their id. Two with the same `documents` are equal."""

    documents: tuple[tuple[str, str], ...]
    keys: Mapping[str, PyJWK]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and other.documents == self.documents

    def __hash__(self) -> int:
        return hash(self.documents)

    def find(self, kid: str | None) -> PyJWK | None:
        """The key of that id; of a set with one key also for a token that names none."""
        if kid is None and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        return None if kid is None else self.keys.get(kid)


class Keys(Protocol):
    """Where the keys come from. While nothing changes, the very same set is answered."""

    def current(self) -> KeySet:
        """Raises TemporaryFailure while no key was ever obtained."""
        ...

    def renewed(self) -> KeySet:
        """Looks again, because a token names a key that is not there; not more often than is good for the issuer."""
        ...


def key_set(document: Any) -> KeySet:
    """The usable keys of a JSON Web Key Set (RFC 7517): for signatures, RS256 or ES256, RSA from 2048 bits.

    What is not usable is left out; an answer that is no key set has no keys.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, PyJWK] = {}
    documents: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        key = _usable(entry)
        if key is not None:
            kid = str(entry.get("kid", ""))
            found[kid] = key
            documents[kid] = repr(sorted((name, str(value)) for name, value in entry.items()))
    return KeySet(tuple(sorted(documents.items())), found)


def _usable(entry: Any) -> PyJWK | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    try:
        key = PyJWK.from_dict(entry)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    public = key.key
    fits = (
        isinstance(public, RSAPublicKey) and key.algorithm_name == "RS256" and public.key_size >= SMALLEST_RSA_KEY
    ) or (
        isinstance(public, EllipticCurvePublicKey)
        and key.algorithm_name == "ES256"
        and isinstance(public.curve, SECP256R1)
    )
    return key if fits else None
