"""Settings that all shells share, read from the environment (architecture.md, "Settings").

Each shell has one attrs class that inherits from `Settings` and adds its own. Unknown or malformed values stop the
start with one clear line.
"""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NewType, TypeVar

import typed_settings
from attrs import field, fields, frozen
from typed_settings.converters import TSConverter
from typed_settings.exceptions import InvalidSettingsError

from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.webhooks.retry import RETRY_DELAYS

PREFIX = "ORDERSYNC_"

Port = NewType("Port", int)
Wait = NewType("Wait", timedelta)
Waits = NewType("Waits", tuple[timedelta, ...])
Words = NewType("Words", tuple[str, ...])

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
        if min(self.events, self.log, self.dead_letters) < 1:
            raise ValueError("each part is at least 1 day")
        if self.log <= self.dead_letters:
            raise ValueError("log (the inbox too) must be more days than dead_letters")
        if self.events >= self.log:
            raise ValueError("events must be fewer days than log (the inbox too)")


@frozen(kw_only=True)
class Settings:
    """None means the embedded default, which lies in the state folder."""

    state: Path = Path(".ordersync")
    admin_database: str | None = None
    tenant_databases: str | None = None
    queues: str | None = None
    blobs: str | None = None
    secret_keys: Words = Words(())
    auth_issuer: str | None = None
    auth_audience: str | None = None
    auth_jwks: str | None = None
    smtp: str | None = None
    api_port: Port = Port(8080)
    admin_port: Port = Port(8081)
    app_port: Port = Port(3000)
    functions_port: Port = Port(7071)
    retry_delays: Waits = Waits(RETRY_DELAYS)
    job_processes: int = 2
    sweep: Wait = Wait(timedelta(minutes=5))
    retention: Retention = field(factory=Retention)
    allow_private_targets: bool = False

    @property
    def admin_database_url(self) -> str:
        return self.admin_database or f"sqlite:///{self.state.absolute()}/admin.db"

    @property
    def tenant_databases_url(self) -> str:
        """With `{code}` where the administration's code goes."""
        return self.tenant_databases or f"sqlite:///{self.state.absolute()}/tenants/{{code}}.db"

    @property
    def queues_url(self) -> str:
        return self.queues or f"sqlite:///{self.state.absolute()}/queues.db"

    @property
    def blobs_folder(self) -> Path:
        """Where `file:` blobs lie."""
        return Path(self.blobs.removeprefix("file:").removeprefix("//")) if self.blobs else self.state / "blobs"

    @property
    def keys_folder(self) -> Path:
        return self.state / "keys"


S = TypeVar("S", bound=Settings)


def load(kind: type[S]) -> S:
    """The settings of a shell from the environment.

    Raises:
        InvalidInput: one line that names each wrong variable, never its value: it may be a secret.
    """
    problems = [f"{name} is not a setting" for name in _unknown()]
    try:
        settings = typed_settings.load_settings(
            kind, [typed_settings.EnvLoader(PREFIX)], converter=_converter(), base_dir=Path()
        )
    except InvalidSettingsError as error:
        problems += [_sentence(str(inner)) for inner in error.exceptions]
    else:
        problems += _unusable(settings)
        if not problems:
            return settings
    raise InvalidInput("; ".join(problems))


def _unknown() -> list[str]:
    """Variables with our prefix that no shell knows: a misspelt name must not pass for a default."""
    known = {PREFIX + attribute.name.upper() for attribute in fields(Settings)}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _unusable(settings: Settings) -> list[str]:
    problems = []
    if len(settings.retry_delays) != len(RETRY_DELAYS):
        problems.append(f"{PREFIX}RETRY_DELAYS must name {len(RETRY_DELAYS)} waits, for attempts 2 to 16")
    if settings.job_processes < 1:
        problems.append(f"{PREFIX}JOB_PROCESSES must be at least 1")
    if settings.tenant_databases is not None and "{code}" not in settings.tenant_databases:
        problems.append(f"{PREFIX}TENANT_DATABASES must hold {{code}} where the administration's code goes")
    if settings.blobs is not None and not settings.blobs.startswith("file:"):
        problems.append(f"{PREFIX}BLOBS must be a file: URL; Azure Storage is not supported yet")
    for name in ("admin_database", "tenant_databases", "queues"):
        url = getattr(settings, name)
        if url is not None and not url.startswith(("sqlite:", "postgres:", "postgresql:", "postgresql+psycopg:")):
            problems.append(f"{PREFIX}{name.upper()} must be a database URL that begins with sqlite: or postgresql:")
    return problems


def _converter() -> TSConverter:
    converter = TSConverter()
    hooks: dict[Any, Callable[[str], Any]] = {
        Port: _port,
        Wait: _wait,
        Waits: lambda text: tuple(_wait(part) for part in text.split(",")),
        Words: lambda text: tuple(word.strip() for word in text.split(",") if word.strip()),
        Retention: _retention,
        int: _whole_number,
        bool: _yes_or_no,
    }
    for kind, hook in hooks.items():
        converter.scalar_converters[kind] = _structure_with(hook)
    return converter


def _structure_with(hook: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: hook(value) if isinstance(value, str) else value


def _port(text: str) -> Port:
    if not text.isdecimal() or not 0 <= int(text) <= 65_535:
        raise ValueError("must be a port number from 0 (a free one) to 65535")
    return Port(int(text))


def _wait(text: str) -> Wait:
    match = _WAIT.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a wait such as 500ms, 30s, 5m, 12h or 1d")
    return Wait(timedelta(seconds=float(match[1]) * _SECONDS[match[2] or ""]))


def _retention(text: str) -> Retention:
    parts = dict(re.findall(r"(events|log|dead_letters)=(\d+)", text))
    if ",".join(f"{name}={days}" for name, days in parts.items()) != text.replace(" ", ""):
        raise ValueError("must be days such as events=30,log=90,dead_letters=60")
    return Retention(**{name: int(days) for name, days in parts.items()})


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("must be a whole number")
    return int(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1", "yes")


_FAILURE = re.compile(r"for option '(?P<option>\w+)' from loader \w+: \w+\((?P<quote>[\"'])(?P<reason>.*)(?P=quote)\)$")


def _sentence(text: str) -> str:
    """typed-settings tells a failure only as text; the value in it is left out."""
    match = _FAILURE.search(text)
    if match is None:
        return "a setting cannot be read"
    return f"{PREFIX}{match['option'].upper()} {match['reason']}"
