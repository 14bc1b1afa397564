"""Settings that all shells share, read from the environment (architecture.md, "Settings").

Each shell has one attrs class that inherits from `Settings` and adds its own. Unknown or malformed values stop the
start with one clear line.
"""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from attrs import field, fields, frozen

from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.webhooks.retry import RETRY_DELAYS

PREFIX = "ORDERSYNC_"
MOST_DAYS = 36_500

SHORTEST_WAIT, LONGEST_WAIT = timedelta(milliseconds=1), timedelta(days=365)
"""Whoever does something again without any wait does nothing else."""

_WAIT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}


@frozen(kw_only=True)
class Retention:
    """Days that rows are kept: events with their deliveries and attempts; logs, runs and inbox; dead letters.

    An inbox row outlives its message's dead letter, or a resubmission could repeat its effects.
    """

    events: int = 30
    log: int = 90
    dead_letters: int = 60

    def __attrs_post_init__(self) -> None:
        if not all(1 <= days <= MOST_DAYS for days in (self.events, self.log, self.dead_letters)):
            raise ValueError(f"each part is from 1 to {MOST_DAYS} days")
        if self.log <= self.dead_letters:
            raise ValueError("log (the inbox too) must be more days than dead_letters")
        if self.events >= self.log:
            raise ValueError("events must be fewer days than log (the inbox too)")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise ValueError("must be a port number from 0 (a free one) to 65535")
    return int(text)


def _wait(text: str) -> timedelta:
    match = _WAIT.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a wait such as 500ms, 30s, 5m, 12h or 1d")
    seconds = float(match[1]) * _SECONDS[match[2] or ""]
    if not SHORTEST_WAIT.total_seconds() <= seconds <= LONGEST_WAIT.total_seconds():
        raise ValueError("must be a wait from 1ms to 365d")
    return timedelta(seconds=seconds)


def _retry_delays(text: str) -> tuple[timedelta, ...]:
    delays = tuple(_wait(part) for part in text.split(","))
    if len(delays) != len(RETRY_DELAYS):
        raise ValueError(f"must name {len(RETRY_DELAYS)} waits, for attempts 2 to 16, separated by commas")
    return delays


def _retention(text: str) -> Retention:
    parts = dict(re.findall(r"(events|log|dead_letters)=(\d+)", text))
    if ",".join(f"{name}={days}" for name, days in parts.items()) != text.replace(" ", ""):
        raise ValueError("must be days such as events=30,log=90,dead_letters=60")
    return Retention(**{name: int(days) for name, days in parts.items()})


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("must be a whole number of at least 1")
    return int(text)


def _has_several_processors() -> bool:
    return (os.cpu_count() or 1) > 1


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1", "yes")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _database(text: str) -> str:
    if not text.startswith(("sqlite:", "postgres:", "postgresql:", "postgresql+psycopg:")):
        raise ValueError("must be a database URL that begins with sqlite: or postgresql:")
    return text


def _tenant_databases(text: str) -> str:
    if "{code}" not in text:
        raise ValueError("must hold {code} where the administration's code goes")
    return _database(text)


def _blobs(text: str) -> str:
    if not text.startswith("file:"):
        raise ValueError("must be a file: URL; Azure Storage is not supported yet")
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


def _smtp(text: str) -> str:
    if not text.startswith("smtp://"):
        raise ValueError("must be a URL that begins with smtp://")
    return text


def _setting(parse: Callable[[str], Any], **default: Any) -> Any:
    """A field that is read from ORDERSYNC_<NAME> by `parse`, which raises ValueError with what is wrong."""
    return field(metadata={"parse": parse}, **default)


@frozen(kw_only=True)
class Settings:
    """None means the embedded default, which lies in the state folder.

    sender_process: webhooks are sent by a process beside the one that prepares and records them.
    """

    state: Path = _setting(lambda text: Path(_filled(text)), default=Path(".ordersync"))
    admin_database: str | None = _setting(_database, default=None)
    tenant_databases: str | None = _setting(_tenant_databases, default=None)
    queues: str | None = _setting(_database, default=None)
    blobs: str | None = _setting(_blobs, default=None)
    secret_keys: tuple[str, ...] = _setting(_words, default=())
    auth_issuer: str | None = _setting(_filled, default=None)
    auth_audience: str | None = _setting(_filled, default=None)
    auth_jwks: str | None = _setting(_filled, default=None)
    smtp: str | None = _setting(_smtp, default=None)
    api_port: int = _setting(_port, default=8080)
    admin_port: int = _setting(_port, default=8081)
    app_port: int = _setting(_port, default=3000)
    functions_port: int = _setting(_port, default=7071)
    retry_delays: tuple[timedelta, ...] = _setting(_retry_delays, default=RETRY_DELAYS)
    job_processes: int = _setting(_count, default=2)
    sender_process: bool = _setting(_yes_or_no, factory=_has_several_processors)
    sweep: timedelta = _setting(_wait, default=timedelta(minutes=5))
    retention: Retention = _setting(_retention, factory=Retention)
    allow_private_targets: bool = _setting(_yes_or_no, default=False)

    @property
    def admin_database_url(self) -> str:
        return self.admin_database or self._file_url("admin.db")

    @property
    def tenant_databases_url(self) -> str:
        """With `{code}` where the administration's code goes."""
        return self.tenant_databases or self._file_url("tenants/{code}.db")

    @property
    def queues_url(self) -> str:
        return self.queues or self._file_url("queues.db")

    @property
    def blobs_folder(self) -> Path:
        """Where `file:` blobs lie."""
        return Path(self.blobs.removeprefix("file:").removeprefix("//")) if self.blobs else self.state / "blobs"

    @property
    def keys_folder(self) -> Path:
        return self.state / "keys"

    def _file_url(self, name: str) -> str:
        return f"sqlite:///{quote(str(self.state.absolute()))}/{name}"


S = TypeVar("S", bound=Settings)


def load(kind: type[S]) -> S:
    """The settings of a shell from the environment.

    Raises:
        InvalidInput: one line that names each wrong variable, never its value: it may be a secret.
    """
    parsers = {PREFIX + attribute.name.upper(): attribute for attribute in fields(kind)}
    values: dict[str, Any] = {}
    problems = []
    for name in sorted(variable for variable in os.environ if variable.startswith(PREFIX)):
        if name not in parsers:
            problems.append(f"{name} is not a setting")
            continue
        try:
            values[parsers[name].name] = parsers[name].metadata["parse"](os.environ[name])
        except ValueError as error:
            problems.append(f"{name} {error}")
    if problems:
        raise InvalidInput("; ".join(problems))
    return kind(**values)
