"""Pages of a list: keyset paging, with a cursor that only its own administration can use."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Generic, TypeVar

import orjson
from attrs import field, frozen, validators

from ordersync_core.kernel.errors import InvalidInput, Violation

T_co = TypeVar("T_co", covariant=True)

DEFAULT_LIMIT = 50
MAXIMUM_LIMIT = 500


@frozen(kw_only=True)
class PageRequest:
    """`after` is the sort key of the last row already seen; None asks for the first page."""

    limit: int = field(default=DEFAULT_LIMIT, validator=[validators.ge(1), validators.le(MAXIMUM_LIMIT)])
    after: tuple[Any, ...] | None = None


@frozen(kw_only=True)
class Page(Generic[T_co]):
    """`next` is the sort key to go on from; None on the last page."""

    rows: Sequence[T_co]
    next: tuple[Any, ...] | None


def position_of(request: PageRequest, *kinds: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Where to go on, each part read by its kind; None on the first page.

    Raises:
        InvalidInput: the position is one of another list or another order.
    """
    if request.after is None:
        return None
    try:
        return tuple(kind(part) for kind, part in zip(kinds, request.after, strict=True))
    except (TypeError, ValueError, AttributeError):
        text = "the cursor belongs to another list or another order"
        raise InvalidInput(text, (Violation("/cursor", text),)) from None


class CursorKey:
    """Signs cursors, so that a changed one, or one of another administration or list, is refused."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, position: Sequence[Any], *, administration: str, resource: str) -> str:
        body = orjson.dumps(list(position))
        return urlsafe_b64encode(self._sign(body, administration, resource) + body).decode().rstrip("=")

    def decode(self, cursor: str, *, administration: str, resource: str) -> tuple[Any, ...]:
        """The position; InvalidInput for anything that `encode` did not make for this list."""
        try:
            raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError:
            raise _not_ours() from None
        seal, body = raw[:16], raw[16:]
        if not hmac.compare_digest(seal, self._sign(body, administration, resource)):
            raise _not_ours()
        return tuple(orjson.loads(body))

    def _sign(self, body: bytes, administration: str, resource: str) -> bytes:
        scope = f"{administration}\x1f{resource}\x1f".encode()
        return hmac.new(self._key, scope + body, sha256).digest()[:16]


def _not_ours() -> InvalidInput:
    text = "the cursor is not one that this list gave out"
    return InvalidInput(text, (Violation("/cursor", text),))
