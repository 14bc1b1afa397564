"""The opaque places in lists and in the events feed."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

from attrs import frozen

from ordersync_core.kernel.errors import InvalidInput, Violation
from ordersync_core.kernel.paging import CursorKey


@frozen
class Cursors:
    """Signs with the first key and believes them all, so that a cursor outlives the exchange of a key."""

    keys: tuple[CursorKey, ...]

    @classmethod
    def of(cls, secrets: Sequence[bytes]) -> "Cursors":
        """secrets: at least one; the newest first. What signs a cursor is derived from them and is none of them."""
        return cls(tuple(CursorKey(blake2b(b"ordersync cursor", key=secret[:64]).digest()) for secret in secrets))

    def encode(self, position: Sequence[Any], *, administration: str, resource: str) -> str:
        return self.keys[0].encode(position, administration=administration, resource=resource)

    def decode(self, cursor: str, *, administration: str, resource: str, name: str = "cursor") -> tuple[Any, ...]:
        """InvalidInput, pointing at the parameter `name`, for anything that was not given out for this list."""
        for key in self.keys:
            try:
                return key.decode(cursor, administration=administration, resource=resource)
            except InvalidInput:
                continue
        text = "is not one that this list gave out to this administration"
        raise InvalidInput(f"{name} {text}", (Violation(f"/{name}", text),))


EVENTS = "events"


@frozen
class FeedPlace:
    """After which number of which epoch; the epoch changes when a database is restored."""

    number: int
    epoch: UUID

    def encode(self, cursors: Cursors, administration: str) -> str:
        return cursors.encode((self.number, str(self.epoch)), administration=administration, resource=EVENTS)

    @classmethod
    def decode(cls, cursor: str, cursors: Cursors, administration: str) -> "FeedPlace":
        number, epoch = cursors.decode(cursor, administration=administration, resource=EVENTS, name="after")
        return cls(number, UUID(epoch))
