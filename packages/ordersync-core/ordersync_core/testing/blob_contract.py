"""What every blob store promises, as examples.

class TestMyBlobs(BlobsContract):
    def make_blobs(self) -> Blobs:
        return MyBlobs(...)  # new and empty
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import TypeVar

import pytest

from ordersync_core.kernel.blobs import MAXIMUM_NAME, MAXIMUM_SEGMENT, Blobs
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound, TemporaryFailure

T = TypeVar("T")

PATIENCE = 60.0

GOOD_NAMES = (
    "a",
    "A",
    "images/2026/03/0f-e.jpg",
    "a b/c+d=e, (f)~#?%25&'\"*:|<>",
    "é/日本/🪑",
    "x" * MAXIMUM_SEGMENT,
    "/".join(["seg"] * 100),
    "trailing.dot./trailing space ",
)

BAD_NAMES = (
    "",
    "/",
    "/absolute",
    "trailing/",
    "a//b",
    ".",
    "..",
    "../outside",
    "a/../../outside",
    "a/..",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "back\\slash",
    "..\\outside",
    "nul\x00",
    "line\nbreak",
    "\x7f",
    "\ud800",
    "x" * (MAXIMUM_SEGMENT + 1),
    "é" * MAXIMUM_SEGMENT,
    "/".join(["seg"] * 101),
)


class BlobsContract:
    def make_blobs(self) -> Blobs:
        raise NotImplementedError

    @pytest.fixture
    def blobs(self) -> Blobs:
        return self.make_blobs()

    # keeping

    def test_a_content_comes_back_as_it_was_put(self, blobs: Blobs) -> None:
        for content in (b"", b"hello", bytes(range(256)) * 5_000):
            blobs.put("folder/name", content)

            assert blobs.get("folder/name") == content
            assert b"".join(blobs.open("folder/name")) == content

    def test_a_content_can_come_in_pieces(self, blobs: Blobs) -> None:
        blobs.put("pieces", (bytes([n]) * 50_000 for n in range(40)))
        blobs.put("list", [b"a", b"", b"b"])
        blobs.put("none", [])

        assert blobs.get("pieces") == b"".join(bytes([n]) * 50_000 for n in range(40))
        assert (blobs.get("list"), blobs.get("none")) == (b"ab", b"")

    def test_putting_again_replaces(self, blobs: Blobs) -> None:
        blobs.put("a", b"a long first content")
        blobs.put("a", b"second")

        assert blobs.get("a") == b"second"

    def test_what_was_never_put_is_not_there(self, blobs: Blobs) -> None:
        blobs.put("folder/a", b"1")

        for name in ("b", "folder", "folder/b", "folder/a/b", "other/a"):
            with pytest.raises(NotFound):
                blobs.get(name)
            with pytest.raises(NotFound):
                blobs.open(name)
            assert blobs.delete(name) is False
        assert blobs.get("folder/a") == b"1"

    def test_a_deleted_blob_is_gone(self, blobs: Blobs) -> None:
        blobs.put("folder/a", b"1")
        blobs.put("folder/b", b"2")

        assert blobs.delete("folder/a") is True
        assert blobs.delete("folder/a") is False
        with pytest.raises(NotFound):
            blobs.get("folder/a")
        assert blobs.names() == ["folder/b"]

    def test_one_that_is_there_is_not_replaced_when_absence_is_asked_for(self, blobs: Blobs) -> None:
        blobs.put("a", b"first", if_absent=True)
        with pytest.raises(Conflict):
            blobs.put("a", b"second", if_absent=True)
        assert blobs.get("a") == b"first"

        blobs.delete("a")
        blobs.put("a", b"third", if_absent=True)
        assert blobs.get("a") == b"third"

    # names

    @pytest.mark.parametrize("name", GOOD_NAMES, ids=range(len(GOOD_NAMES)))
    def test_a_good_name_is_taken(self, blobs: Blobs, name: str) -> None:
        blobs.put(name, name.encode())

        assert blobs.get(name) == name.encode()
        assert blobs.names() == [name]
        assert blobs.delete(name) is True
        assert blobs.names() == []

    @pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
    def test_a_bad_name_is_refused(self, blobs: Blobs, name: str) -> None:
        for use in (lambda: blobs.put(name, b"1"), lambda: blobs.get(name), lambda: blobs.delete(name)):
            with pytest.raises(InvalidInput):
                use()
        with pytest.raises(InvalidInput):
            blobs.put(name, b"1", if_absent=True)
        with pytest.raises(InvalidInput):
            blobs.open(name)
        assert blobs.names() == []

    def test_the_longest_name_is_taken(self, blobs: Blobs) -> None:
        name = f"{'x' * 200}/{'y' * 199}"
        assert len(name) == MAXIMUM_NAME
        blobs.put(name, b"1")

        assert blobs.get(name) == b"1"
        with pytest.raises(InvalidInput):
            blobs.put(f"{name}z", b"1")

    def test_a_name_is_a_blob_or_a_folder(self, blobs: Blobs) -> None:
        blobs.put("a/b", b"1")
        for taken in ("a", "a/b/c", "a/b/c/d"):
            with pytest.raises(Conflict):
                blobs.put(taken, b"2")
            with pytest.raises(Conflict):
                blobs.put(taken, b"2", if_absent=True)
        assert blobs.names() == ["a/b"]

        blobs.delete("a/b")
        blobs.put("a", b"3")
        assert blobs.get("a") == b"3"

    # listing

    def test_names_are_listed_by_code_point(self, blobs: Blobs) -> None:
        names = ["a/b/c", "a-b", "a/b!", "a/B", "a.b/x", "a0", "b", "a/b/a", "é", "Z", "a/b0"]
        for name in names:
            blobs.put(name, b"")

        assert blobs.names() == sorted(names)
        for limit in (1, 2, 5, 11, 50):
            assert walked(blobs, limit=limit) == sorted(names)

    def test_a_prefix_narrows_the_list(self, blobs: Blobs) -> None:
        for name in ("2026/03/01", "2026/03/02", "2026/04/01", "2026", "2025/03/01"[:4] + "x", "audit/2026/03"):
            if name != "2026":
                blobs.put(name, b"")

        assert blobs.names("2026/03/") == ["2026/03/01", "2026/03/02"]
        assert blobs.names("2026/0") == ["2026/03/01", "2026/03/02", "2026/04/01"]
        assert blobs.names("2026/03/02") == ["2026/03/02"]
        assert blobs.names("2") == ["2025x", "2026/03/01", "2026/03/02", "2026/04/01"]
        assert walked(blobs, prefix="2026/", limit=1) == ["2026/03/01", "2026/03/02", "2026/04/01"]
        for nothing in ("3", "2026/03/02/", "../", "/", "2026//"):
            assert blobs.names(nothing) == []

    def test_a_place_that_is_no_name_can_be_gone_on_from(self, blobs: Blobs) -> None:
        for name in ("a/1", "a/2", "b"):
            blobs.put(name, b"")

        assert blobs.names(after="a") == ["a/1", "a/2", "b"]
        assert blobs.names(after="a/") == ["a/1", "a/2", "b"]
        assert blobs.names(after="a/15") == ["a/2", "b"]
        assert blobs.names(after="a/2") == ["b"]
        assert blobs.names(after="aa") == ["b"]
        assert blobs.names(after="b") == []

    # old or new, never a part

    def test_nobody_sees_a_content_that_is_being_put(self, blobs: Blobs) -> None:
        blobs.put("old", b"old")

        def pieces() -> Iterator[bytes]:
            for piece in (b"n", b"e", b"w"):
                assert blobs.get("old") == b"old"
                assert blobs.names() == ["old"]
                with pytest.raises(NotFound):
                    blobs.get("new")
                yield piece

        blobs.put("new", pieces())
        assert blobs.get("new") == b"new"
        blobs.delete("new")
        blobs.put("old", pieces())
        assert blobs.get("old") == b"new"

    def test_a_content_that_breaks_off_changes_nothing(self, blobs: Blobs) -> None:
        blobs.put("old", b"old")

        def pieces() -> Iterator[bytes]:
            yield b"half"
            raise ConnectionError("broken off")

        for name in ("old", "new", "folder/new"):
            with pytest.raises(ConnectionError):
                blobs.put(name, pieces())
        assert blobs.names() == ["old"]
        assert blobs.get("old") == b"old"

    def test_what_is_being_read_stays_whole(self, blobs: Blobs) -> None:
        old = b"o" * 1_000_000
        blobs.put("a", old)
        pieces = blobs.open("a")
        first = next(pieces)
        blobs.put("a", b"new")

        with suppress(TemporaryFailure):
            assert first + b"".join(pieces) == old
        assert blobs.get("a") == b"new"

    def test_a_reader_sees_the_old_or_the_new(self, blobs: Blobs) -> None:
        contents = (b"a" * 300_000, b"b" * 10)
        blobs.put("a", contents[0])

        def write() -> list[bytes]:
            for n in range(40):
                blobs.put("a", contents[n % 2])
            return []

        def read() -> list[bytes]:
            return [blobs.get("a") for _ in range(60)]

        seen = [content for result in together(write, read, read) for content in result]
        assert set(seen) <= set(contents)

    def test_of_many_that_ask_for_absence_one_is_kept(self, blobs: Blobs) -> None:
        def put(content: bytes) -> bytes | None:
            try:
                blobs.put("folder/a", content, if_absent=True)
            except Conflict:
                return None
            return content

        kept = [c for c in together(*[lambda n=n: put(bytes([n]) * 1_000) for n in range(8)]) if c is not None]

        assert kept == [blobs.get("folder/a")]

    def test_a_folder_that_empties_keeps_nobody_from_filling_it(self, blobs: Blobs) -> None:
        def come_and_go(name: str) -> None:
            for _ in range(40):
                blobs.put(name, b"1")
                assert blobs.delete(name)

        together(*[lambda n=n: come_and_go(f"deep/folder/{n}") for n in range(4)])

        assert blobs.names() == []


def together(*jobs: Callable[[], T]) -> list[T]:
    barrier = Barrier(len(jobs))

    def run(job: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, job) for job in jobs]]


def walked(blobs: Blobs, *, prefix: str = "", limit: int) -> list[str]:
    """All names, a page at a time."""
    names: list[str] = []
    while page := blobs.names(prefix, limit, names[-1] if names else ""):
        assert len(page) <= limit
        names += page
    return names
