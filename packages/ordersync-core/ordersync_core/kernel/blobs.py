"""Large contents by name: images, attachments, the published audit trail."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from ordersync_core.kernel.errors import InvalidInput

MAXIMUM_NAME = 400
MAXIMUM_SEGMENT = 240
"""Bytes in UTF-8: what every file system and every blob store takes, with room for a suffix."""


class Blobs(Protocol):
    """Contents by name. Names are relative paths with slashes, as `blob_name` says; InvalidInput for any other.

    A name is a blob or a folder of blobs, never both: Conflict for a `put` that would make it so. TemporaryFailure
    from every method while the store cannot be used.
    """

    def put(self, name: str, content: bytes | Iterable[bytes], if_absent: bool = False) -> None:
        """Keep the content under this name, in place of any earlier one. A reader sees the old or the new one, never
        a part; a content that breaks off changes nothing.

        Raises:
            Conflict: `if_absent`, and the name is taken.
        """
        ...

    def get(self, name: str) -> bytes:
        """Raises NotFound."""
        ...

    def open(self, name: str) -> Iterator[bytes]:
        """The content in pieces, all of one `put`.

        Raises:
            NotFound: at once, before the first piece is asked for.
            TemporaryFailure: at a later piece: the content was replaced meanwhile, and the rest of it is gone.
        """
        ...

    def delete(self, name: str) -> bool:
        """False when there was none."""
        ...

    def names(self, prefix: str = "", limit: int = 1_000, after: str = "") -> list[str]:
        """The first `limit` names that begin with `prefix` and come after `after`, by code point.

        prefix: the beginning of a name, not necessarily a whole folder; "" for all.
        """
        ...


def blob_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidInput: it has more than 400 characters, or a segment that is empty, begins with a dot, has more than
            240 bytes, or holds a backslash or a control character.
    """
    if len(name) > MAXIMUM_NAME:
        raise InvalidInput(f"the name of a blob has at most {MAXIMUM_NAME} characters")
    for segment in name.split("/"):
        _check(segment)
    return name


def _check(segment: str) -> None:
    if not segment:
        raise InvalidInput("the name of a blob has no empty part: it neither begins nor ends with a slash")
    if segment.startswith("."):
        raise InvalidInput("no part of a blob's name begins with a dot")
    if "\\" in segment or any(ord(character) < 32 or ord(character) == 127 for character in segment):
        raise InvalidInput("the name of a blob holds no backslash and no control character")
    if len(_utf8(segment)) > MAXIMUM_SEGMENT:
        raise InvalidInput(f"no part of a blob's name has more than {MAXIMUM_SEGMENT} bytes")


def _utf8(segment: str) -> bytes:
    try:
        return segment.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the name of a blob holds a character that is none") from None
