import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import rich_click as click

from ordersync_admin.output import folding, show_rows
from ordersync_admin.platform import is_free
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_core.administrations.model import Administration, AdministrationState
from ordersync_core.kernel.errors import OrderSyncError, PermanentFailure
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import Queues

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "ceph", "glusterfs"}
)
FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
UPGRADE = "it is not at the present revision: ordersync db upgrade"


@click.command(name="doctor")
@json_option
@pass_shell
def command(shell: Shell, as_json: bool) -> int:
    """Check settings, state folder, keys, issuer, databases, queues and ports; exit code 1 if anything is wrong."""
    rows = list(_checks(shell))
    show_rows(rows, {"check": "check", "verdict": "verdict", "detail": folding("detail")}, as_json=as_json, empty="")
    return 1 if any(row["verdict"] == "wrong" for row in rows) else 0


def _checks(shell: Shell) -> Iterator[dict[str, str]]:
    settings = shell.settings
    yield _check("settings", lambda: f"state folder {settings.state.absolute()}")
    yield _check("state folder", lambda: _state_folder(settings.state.absolute()))
    yield _check("keys", lambda: _keys(settings.keys_folder))
    yield _check("token issuer", lambda: _issuer(shell))
    yield _check("admin database", lambda: _admin_database(shell))
    yield _check("queues", lambda: _queues(shell))
    for administration in _administrations(shell):
        yield _check(administration.code, lambda found=administration: _tenant(shell, found))  # type: ignore[misc]
    for name, port in (("API", settings.api_port), ("Functions", settings.functions_port)):
        yield {"check": f"port of {name}", "verdict": "fine", "detail": _port(port)}


def _check(name: str, look: Callable[[], str]) -> dict[str, str]:
    try:
        return {"check": name, "verdict": "fine", "detail": look()}
    except OrderSyncError as error:
        return {"check": name, "verdict": "wrong", "detail": str(error)}
    except OSError as error:
        return {"check": name, "verdict": "wrong", "detail": f"{error.filename}: {error.strerror}"}


def _state_folder(folder: Path) -> str:
    """Refuses a network file system: SQLite's locks and memory maps do not hold there."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    kind = file_system_of(existing, Path("/proc/mounts"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise PermanentFailure(f"{folder} lies on a network file system ({kind}); choose a local folder")
    if not folder.exists():
        return f"{folder} is not there yet"
    return f"{folder} ({kind or 'unknown file system'})"


def file_system_of(path: Path, mounts: Path) -> str | None:
    """The type of the file system that holds `path`, by a table such as /proc/mounts; None when there is no table."""
    if not mounts.exists():
        return None
    best, kind = "", None
    for line in mounts.read_text().splitlines():
        _, mount, type_, *_ = line.split(" ")
        place = mount.replace("\\040", " ")
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, type_
    return kind


def _keys(folder: Path) -> str:
    """Refuses a key that others than its owner may read: who has it can read every secret, or issue any token."""
    files = sorted(folder.iterdir()) if folder.exists() else []
    for path in (folder, *files) if files else ():
        if path.stat().st_mode & FOR_OTHERS:
            raise PermanentFailure(f"others may use {path}: chmod go= {path}")
    return f"{len(files)} files, for their owner alone" if files else "none yet; they are made when first needed"


def _issuer(shell: Shell) -> str:
    shell.check_issuer()
    return shell.settings.auth_issuer or "the local one, whose key lies in the state folder"


def _admin_database(shell: Shell) -> str:
    if not shell.admin_database_is_current():
        raise PermanentFailure(UPGRADE)
    return f"{len(shell.admin_queries.administrations())} administrations"


def _queues(shell: Shell) -> str:
    queues: Queues = shell.application.resolve(Queues)
    depths = {name: queues[name].depth() for name in QUEUES}
    return "; ".join(f"{name} {depth.ready} ready, {depth.dead} dead" for name, depth in depths.items())


def _administrations(shell: Shell) -> list[Administration]:
    try:
        return list(shell.admin_queries.administrations())
    except OrderSyncError:
        return []


def _tenant(shell: Shell, administration: Administration) -> str:
    code = administration.code
    if administration.state is AdministrationState.CREATING:
        raise PermanentFailure("its creation broke off: ordersync db upgrade goes on with it")
    if not shell.tenant_database_is_current(code):
        raise PermanentFailure(UPGRADE)
    queries = shell.queries(code)
    return f"{queries.count_items()} items, {queries.feed().last_number} events"


def _port(port: int) -> str:
    return f"{port} is free" if is_free(port) else f"{port} is in use, by OrderSync or something else"
