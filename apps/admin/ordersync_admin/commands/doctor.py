from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rich_click as click

from ordersync_admin.output import show_rows
from ordersync_admin.platform import is_free
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_core.administrations.model import AdministrationState
from ordersync_core.kernel.errors import OrderSyncError, PermanentFailure
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import Queues

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "ceph", "glusterfs"}
)


@click.command(name="doctor")
@json_option
@pass_shell
def command(shell: Shell, as_json: bool) -> int:
    """Check settings, state folder, databases, queues and ports; exit code 1 if anything is wrong."""
    rows = list(_checks(shell))
    show_rows(rows, {"check": "check", "verdict": "verdict", "detail": "detail"}, as_json=as_json, empty="")
    return 1 if any(row["verdict"] == "wrong" for row in rows) else 0


def _checks(shell: Shell) -> Iterator[dict[str, str]]:
    yield _check("settings", lambda: f"state folder {shell.settings.state.absolute()}")
    yield _check("state folder", lambda: _state_folder(shell.settings.state.absolute()))
    yield _check("admin database", lambda: _admin_database(shell))
    yield _check("queues", lambda: _queues(shell))
    yield from _tenants(shell)
    for name, port in (("API", shell.settings.api_port), ("Functions", shell.settings.functions_port)):
        yield {
            "check": f"port of {name}",
            "verdict": "fine",
            "detail": f"{port} is free" if is_free(port) else f"{port} is in use, by OrderSync or something else",
        }


def _check(name: str, look: Callable[[], str]) -> dict[str, str]:
    try:
        return {"check": name, "verdict": "fine", "detail": look()}
    except OrderSyncError as error:
        return {"check": name, "verdict": "wrong", "detail": str(error)}


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


def _admin_database(shell: Shell) -> str:
    return f"{len(shell.admin_queries.administrations())} administrations"


def _queues(shell: Shell) -> str:
    queues: Queues = shell.application.resolve(Queues)
    depths = {name: queues[name].depth() for name in QUEUES}
    return ", ".join(f"{name}: {depth.ready} ready, {depth.dead} dead" for name, depth in depths.items())


def _tenants(shell: Shell) -> Iterator[dict[str, str]]:
    try:
        administrations: Any = shell.admin_queries.administrations()
    except OrderSyncError:
        return
    for administration in administrations:
        if administration.state is AdministrationState.CREATING:
            yield {
                "check": administration.code,
                "verdict": "wrong",
                "detail": "its creation broke off; 'ordersync db upgrade' goes on with it",
            }
            continue
        yield _check(administration.code, lambda code=administration.code: _tenant(shell, code))  # type: ignore[misc]


def _tenant(shell: Shell, code: str) -> str:
    return f"{shell.queries(code).count_items()} items, {shell.queries(code).feed().last_number} events"
