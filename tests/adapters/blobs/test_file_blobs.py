import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ordersync_adapters.blobs.file import ABANDONED_AFTER, DRAFTS, FileBlobs
from ordersync_core.kernel.errors import Conflict, NotFound, TemporaryFailure
from ordersync_core.testing.blob_contract import BlobsContract


class TestFileBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> FileBlobs:
        return FileBlobs(tmp_path / "state" / "blobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    return outside


def test_a_blob_is_a_plain_file(folder: Path) -> None:
    FileBlobs(folder).put("a/b.jpg", b"content")

    assert (folder / "a" / "b.jpg").read_bytes() == b"content"


def test_another_process_sees_the_same_blobs(folder: Path) -> None:
    FileBlobs(folder).put("a", b"1")

    assert FileBlobs(folder).get("a") == b"1"


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    FileBlobs(tmp_path / "link").put("a/b", b"1")

    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"1"


# no way out


def test_no_linked_folder_leads_out(folder: Path, outside: Path) -> None:
    blobs = FileBlobs(folder)
    (folder / "link").symlink_to(outside)

    with pytest.raises(NotFound):
        blobs.get("link/secret")
    with pytest.raises(NotFound):
        blobs.open("link/secret")
    for if_absent in (False, True):
        with pytest.raises(Conflict):
            blobs.put("link/new", b"1", if_absent=if_absent)
        with pytest.raises(Conflict):
            blobs.put("link/deeper/new", b"1", if_absent=if_absent)
    assert blobs.delete("link/secret") is False
    assert blobs.names() == []
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_no_linked_file_leads_out(folder: Path, outside: Path) -> None:
    blobs = FileBlobs(folder)
    (folder / "link").symlink_to(outside / "secret")

    with pytest.raises(NotFound):
        blobs.get("link")
    assert blobs.delete("link") is False
    assert blobs.names() == []
    with pytest.raises(Conflict):
        blobs.put("link", b"1", if_absent=True)
    blobs.put("link", b"1")
    assert blobs.get("link") == b"1"
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_pipe_is_no_blob(folder: Path) -> None:
    blobs = FileBlobs(folder)
    os.mkfifo(folder / "pipe")

    with pytest.raises(NotFound):
        blobs.get("pipe")
    assert blobs.names() == []


def test_strange_files_are_not_listed(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("good", b"1")
    (folder / "back\\slash").write_bytes(b"")
    (folder / ".hidden").write_bytes(b"")
    (folder / "line\nbreak").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_bytes(b"")

    assert blobs.names() == ["good"]


# nothing half


def test_no_draft_stays(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("a", b"1")
    blobs.put("a", b"2")
    with pytest.raises(Conflict):
        blobs.put("a", b"3", if_absent=True)
    with pytest.raises(Conflict):
        blobs.put("a/b", b"3")

    assert list((folder / DRAFTS).iterdir()) == []


def test_a_process_that_is_killed_while_it_puts_leaves_the_old_content(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("a", b"old")
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from ordersync_adapters.blobs.file import FileBlobs\n"
        "def pieces():\n"
        "    yield b'n' * 100_000\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
        "FileBlobs(Path(sys.argv[1])).put('a', pieces())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()

    assert blobs.get("a") == b"old"
    assert blobs.names() == ["a"]
    (draft,) = (folder / DRAFTS).iterdir()

    FileBlobs(folder)
    assert draft.exists(), "it may be another process's, still at work"
    long_ago = time.time() - ABANDONED_AFTER.total_seconds() - 1
    os.utime(draft, (long_ago, long_ago))
    FileBlobs(folder)
    assert not draft.exists()


def test_a_folder_left_empty_is_no_hindrance(folder: Path) -> None:
    blobs = FileBlobs(folder)
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    blobs.put("a", b"1")
    blobs.put("b", b"2", if_absent=True)

    assert blobs.names() == ["a", "b"]


def test_emptied_folders_go(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("a/b/c", b"1")
    blobs.put("a/d", b"2")
    blobs.delete("a/b/c")
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["d"]
    blobs.delete("a/d")

    assert [path.name for path in folder.iterdir()] == [DRAFTS]


def test_what_is_kept_is_not_for_everybody(folder: Path) -> None:
    FileBlobs(folder).put("a/b", b"1")

    for path in (folder / "a", folder / "a" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_a_reader_that_stops_half_way_leaves_no_file_open(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("a", b"x" * 1_000_000)
    before = open_files()
    pieces = blobs.open("a")
    next(pieces)
    del pieces
    blobs.open("a")
    with pytest.raises(NotFound):
        blobs.get("b")

    assert open_files() == before


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(TemporaryFailure, match="folder of blobs"):
        FileBlobs(tmp_path / "file" / "blobs")


def test_a_folder_that_has_gone_is_no_folder_without_blobs(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("a/b", b"1")
    folder.rename(folder.with_name("away"))

    for use in every_use(blobs):
        with pytest.raises(TemporaryFailure, match="folder of blobs"):
            use()
    folder.with_name("away").rename(folder)
    assert blobs.names() == ["a/b"]


def test_the_folder_of_drafts_is_made_anew(folder: Path) -> None:
    blobs = FileBlobs(folder)
    (folder / DRAFTS).rmdir()
    blobs.put("a", b"1")

    assert blobs.get("a") == b"1"


def test_a_process_that_may_open_no_more_files_says_so(folder: Path) -> None:
    blobs = FileBlobs(folder)
    blobs.put("a/b", b"1")
    before = open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    for use in every_use(blobs):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(TemporaryFailure, match="Too many open files"):
                use()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert open_files() == before


def every_use(blobs: FileBlobs) -> list[Callable[[], object]]:
    return [
        lambda: blobs.put("a/b", b"2"),
        lambda: blobs.get("a/b"),
        lambda: blobs.open("a/b"),
        lambda: blobs.delete("a/b"),
        lambda: blobs.names(),
    ]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
