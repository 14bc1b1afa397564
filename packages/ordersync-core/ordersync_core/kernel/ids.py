from typing import Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

DERIVED = uuid5(NAMESPACE_URL, "urn:ordersync:derived")


class Ids(Protocol):
    def new(self) -> UUID:
        """A new UUIDv7; ids of one process rise."""
        ...


def derived_id(*parts: object) -> UUID:
    """The same id (UUIDv5) for the same parts, so that a repeated effect meets its own earlier self."""
    return uuid5(DERIVED, "\x1f".join(str(part) for part in parts))
