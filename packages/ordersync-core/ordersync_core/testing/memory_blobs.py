import threading
from collections.abc import Iterable, Iterator

from ordersync_core.kernel.blobs import blob_name
from ordersync_core.kernel.errors import Conflict, NotFound

PIECE = 65_536


class MemoryBlobs:
    """Safe for use by many threads."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._mutex = threading.Lock()

    def put(self, name: str, content: bytes | Iterable[bytes], if_absent: bool = False) -> None:
        blob_name(name)
        whole = content if isinstance(content, bytes) else b"".join(content)
        with self._mutex:
            if if_absent and name in self._contents:
                raise Conflict(f"there is a blob {name} already")
            for other in self._contents:
                if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
                    raise Conflict(f"{name} and {other} cannot both be blobs")
            self._contents[name] = whole

    def get(self, name: str) -> bytes:
        blob_name(name)
        try:
            return self._contents[name]
        except KeyError:
            raise NotFound(f"there is no blob {name}") from None

    def open(self, name: str) -> Iterator[bytes]:
        content = self.get(name)
        return (content[start : start + PIECE] for start in range(0, len(content), PIECE))

    def delete(self, name: str) -> bool:
        blob_name(name)
        with self._mutex:
            return self._contents.pop(name, None) is not None

    def names(self, prefix: str = "", limit: int = 1_000, after: str = "") -> list[str]:
        with self._mutex:
            return sorted(name for name in self._contents if name.startswith(prefix) and name > after)[:limit]
