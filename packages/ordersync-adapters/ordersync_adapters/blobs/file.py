"""Blobs as files below one folder. No name leads out of it, also not over a symbolic link that lies inside."""

import errno
import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from ordersync_core.kernel.blobs import blob_name
from ordersync_core.kernel.errors import Conflict, InvalidInput, NotFound, TemporaryFailure

DRAFTS = ".drafts"
"""No blob's name begins with a dot."""

ABANDONED_AFTER = timedelta(days=1)

_PIECE = 65_536
_TRIES = 100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# without O_NONBLOCK the opening of a pipe that somebody put there would wait for ever
_CONTENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_MODE = 0o770
_FILE_MODE = 0o660


class FileBlobs:
    """One file a blob. It is written as a draft, made durable, and then takes its place in one step.

    folder: made when it is missing; may itself be reached over symbolic links.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        with _writing():
            (folder / DRAFTS).mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            self._remove_abandoned_drafts()

    def put(self, name: str, content: bytes | Iterable[bytes], if_absent: bool = False) -> None:
        *parents, last = blob_name(name).split("/")
        with self._draft(content) as (drafts, draft), _writing(name):
            for _ in range(_TRIES):
                # the folder may go with its last blob while we are about to enter another one
                with suppress(FileNotFoundError), self._made(parents) as folder:
                    self._place(drafts, draft, folder, last, if_absent=if_absent)
                    os.fsync(folder)
                    return
        raise TemporaryFailure(f"the folder of blob {name} is removed again and again")

    def get(self, name: str) -> bytes:
        return b"".join(self.open(name))

    def open(self, name: str) -> Iterator[bytes]:
        *parents, last = blob_name(name).split("/")
        with _reading(name), self._at(parents) as folder:
            content = os.open(last, _CONTENT, dir_fd=folder)
        pieces = _pieces(content, name)
        next(pieces)
        return pieces

    def delete(self, name: str) -> bool:
        *parents, last = blob_name(name).split("/")
        try:
            with _reading(name), self._at(parents) as folder:
                if not stat.S_ISREG(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                    return False
                os.unlink(last, dir_fd=folder)
                os.fsync(folder)
        except NotFound:
            return False
        self._remove_empty(parents)
        return True

    def names(self, prefix: str = "", limit: int = 1_000, after: str = "") -> list[str]:
        return list(itertools.islice(self._names((), prefix, after), limit))

    @contextmanager
    def _draft(self, content: bytes | Iterable[bytes]) -> Iterator[tuple[int, str]]:
        """The complete content in a file of its own: its folder and its name there."""
        with ExitStack() as opened:
            with _writing():
                drafts = opened.enter_context(self._made([DRAFTS]))
                draft = f"{os.getpid()}-{time.time_ns()}-{next(self._numbers)}"
                file = os.open(draft, _NEW_FILE, _FILE_MODE, dir_fd=drafts)
            opened.callback(_remove, drafts, draft)
            _fill(file, content)
            yield drafts, draft

    def _place(self, drafts: int, draft: str, folder: int, last: str, *, if_absent: bool) -> None:
        for _ in range(_TRIES):
            try:
                if if_absent:
                    os.link(draft, last, src_dir_fd=drafts, dst_dir_fd=folder, follow_symlinks=False)
                else:
                    os.replace(draft, last, src_dir_fd=drafts, dst_dir_fd=folder)
                return
            except (FileExistsError, IsADirectoryError):
                # an empty folder is nothing: one is left when a process dies before its blob took its place
                os.rmdir(last, dir_fd=folder)

    @contextmanager
    def _at(self, parents: Sequence[str]) -> Iterator[int]:
        """The folder, opened step by step without following a link; OSError when that one cannot be, TemporaryFailure
        when the folder of all blobs cannot be: without it nobody can tell what there is."""
        with _writing():
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in parents:
                inner = os.open(segment, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    @contextmanager
    def _made(self, parents: Sequence[str]) -> Iterator[int]:
        """The folder, made as far as it is missing."""
        for depth, segment in enumerate(parents):
            with self._at(parents[:depth]) as folder, suppress(FileExistsError):
                os.mkdir(segment, _FOLDER_MODE, dir_fd=folder)
                os.fsync(folder)
        with self._at(parents) as folder:
            yield folder

    def _remove_empty(self, parents: Sequence[str]) -> None:
        with suppress(OSError, TemporaryFailure):
            for depth in range(len(parents), 0, -1):
                with self._at(parents[: depth - 1]) as folder:
                    os.rmdir(parents[depth - 1], dir_fd=folder)

    def _names(self, parents: tuple[str, ...], prefix: str, after: str) -> Iterator[str]:
        for entry in self._entries(parents):
            name = "/".join((*parents, entry))
            if entry.endswith("/"):
                if (name > after or after.startswith(name)) and (name.startswith(prefix) or prefix.startswith(name)):
                    yield from self._names((*parents, entry[:-1]), prefix, after)
            elif name > after and name.startswith(prefix) and _is_name(name):
                yield name

    def _entries(self, parents: Sequence[str]) -> list[str]:
        """In the order of the whole names: a folder stands where its names do, and has a slash at its end."""
        try:
            with _reading("/".join(parents)), self._at(parents) as folder, os.scandir(folder) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
                folders = [f"{e.name}/" for e in entries if e.is_dir(follow_symlinks=False)]
                files = [e.name for e in entries if e.is_file(follow_symlinks=False)]
                return sorted(folders + files)
        except NotFound:
            return []

    def _remove_abandoned_drafts(self) -> None:
        """What processes left behind that died while they wrote."""
        now = time.time()
        for draft in (self._folder / DRAFTS).iterdir():
            with suppress(FileNotFoundError):
                if now - draft.stat().st_mtime > ABANDONED_AFTER.total_seconds():
                    draft.unlink()


def _pieces(content: int, name: str) -> Iterator[bytes]:
    """First an empty piece, so that whoever asks for it knows that the blob is there."""
    try:
        with _reading(name):
            mode = os.fstat(content).st_mode
        if not stat.S_ISREG(mode):
            raise NotFound(f"there is no blob {name}")
        yield b""
        while piece := _read(content, name):
            yield piece
    finally:
        os.close(content)


def _read(content: int, name: str) -> bytes:
    with _reading(name):
        return os.read(content, _PIECE)


def _fill(file: int, content: bytes | Iterable[bytes]) -> None:
    """Durable once this returns; the file is closed in any case. What the content itself raises passes as it is."""
    try:
        for piece in [content] if isinstance(content, bytes) else content:
            _write(file, piece)
        with _writing():
            os.fsync(file)
    finally:
        os.close(file)


def _remove(drafts: int, draft: str) -> None:
    """One that took its place is gone already; one that stays is removed when it is abandoned."""
    with suppress(OSError):
        os.unlink(draft, dir_fd=drafts)


def _write(file: int, piece: bytes) -> None:
    with _writing():
        left = memoryview(piece)
        while left:
            left = left[os.write(file, left) :]


def _is_name(name: str) -> bool:
    try:
        blob_name(name)
    except InvalidInput:
        return False
    return True


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise NotFound(f"there is no blob {name}") from error
        raise _unusable(error) from error


@contextmanager
def _writing(name: str | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if name is not None and error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.ELOOP):
            raise Conflict(f"{name} cannot be entered: the name, or a part of it, is taken") from error
        raise _unusable(error) from error


def _unusable(error: OSError) -> TemporaryFailure:
    return TemporaryFailure(f"the folder of blobs cannot be used: {error.strerror}")
