"""The whole platform on one machine: which programs, on which ports, and when they are ready."""

import socket
import threading
import time
from collections.abc import Mapping

import httpx
from attrs import evolve, frozen

from ordersync_admin.settings import AdminSettings
from ordersync_admin.supervisor import Program, python
from ordersync_core.kernel.errors import ExternalFailure

READY_WITHIN = 60.0
LOOK_EVERY = 0.1


@frozen(kw_only=True)
class Addresses:
    api: str
    functions: str


def programs(environment: Mapping[str, str]) -> list[Program]:
    """API, Functions and Jobs as separate processes, each with this environment."""
    return [
        Program(name="api", arguments=python("ordersync_api"), environment=environment),
        Program(name="functions", arguments=python("ordersync_functions"), environment=environment),
        Program(name="jobs", arguments=python("ordersync_jobs", "--launch"), environment=environment),
    ]


def addresses(settings: AdminSettings) -> Addresses:
    return Addresses(
        api=f"http://127.0.0.1:{settings.api_port}", functions=f"http://127.0.0.1:{settings.functions_port}"
    )


def must_be_free(settings: AdminSettings) -> None:
    """Raises ExternalFailure naming the port that something else listens on."""
    for name, port in (("API", settings.api_port), ("FUNCTIONS", settings.functions_port)):
        if not is_free(port):
            raise ExternalFailure(f"port {port} is taken; choose another one with ORDERSYNC_{name}_PORT")


def with_free_ports(settings: AdminSettings) -> AdminSettings:
    """The same settings, with another port wherever the wanted one is taken."""
    return evolve(settings, api_port=free_port(settings.api_port), functions_port=free_port(settings.functions_port))


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, otherwise one that the system picks."""
    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until_ready(where: Addresses, given_up: threading.Event | None = None) -> None:
    """Returns when every shell answers, or when `given_up` is set.

    Raises:
        ExternalFailure: a shell does not answer within a minute.
    """
    deadline = time.monotonic() + READY_WITHIN
    for url in (f"{where.api}/health/ready", f"{where.functions}/health/live"):
        while not _answers(url):
            if given_up is not None and given_up.is_set():
                return
            if time.monotonic() > deadline:
                raise ExternalFailure(f"{url} does not answer; the log above says why")
            time.sleep(LOOK_EVERY)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
