"""The whole platform on one machine: which programs, on which ports, and when they are ready."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import httpx
from attrs import evolve, frozen

from ordersync_admin.settings import AdminSettings
from ordersync_admin.supervisor import Program, python
from ordersync_core.kernel.errors import ExternalFailure

READY_WITHIN = 60.0
ANSWER_WITHIN = 2.0
LOOK_EVERY = 0.1


@frozen(kw_only=True)
class Addresses:
    api: str
    functions: str


def programs(settings: AdminSettings, environment: Mapping[str, str]) -> list[Program]:
    """API, Functions and Jobs as separate processes, each with this environment and the ports of the settings."""
    complete = {
        **environment,
        "ORDERSYNC_API_PORT": str(settings.api_port),
        "ORDERSYNC_FUNCTIONS_PORT": str(settings.functions_port),
    }
    return [
        Program(name="api", arguments=python("ordersync_api"), environment=complete),
        Program(name="functions", arguments=python("ordersync_functions"), environment=complete),
        Program(name="jobs", arguments=python("ordersync_jobs", "--launch"), environment=complete),
    ]


def addresses(settings: AdminSettings) -> Addresses:
    return Addresses(
        api=f"http://127.0.0.1:{settings.api_port}", functions=f"http://127.0.0.1:{settings.functions_port}"
    )


def with_named_ports(settings: AdminSettings) -> AdminSettings:
    """The same settings, with a free port wherever 0 asks for one.

    Raises:
        ExternalFailure: something else listens on a port; the text names it and its setting.
    """
    for name, port in (("API", settings.api_port), ("FUNCTIONS", settings.functions_port)):
        if port and not is_free(port):
            raise ExternalFailure(f"port {port} is taken; choose another one with ORDERSYNC_{name}_PORT, or 0")
    return with_free_ports(settings)


def with_free_ports(settings: AdminSettings) -> AdminSettings:
    """The same settings, with another port wherever the wanted one is taken."""
    api, functions = free_ports(settings.api_port, settings.functions_port)
    return evolve(settings, api_port=api, functions_port=functions)


def free_ports(*wanted: int) -> list[int]:
    """Each of them if nobody listens there, otherwise one that the system picks, as for 0; no port twice."""
    with ExitStack() as held:
        return [_bind(held, port) or _bind(held, 0) for port in wanted]


def is_free(port: int) -> bool:
    with ExitStack() as held:
        return bool(_bind(held, port))


def _bind(held: ExitStack, port: int) -> int:
    """Hold the port until the stack is left; 0 when somebody else has it."""
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a process that ended a moment ago is free
    try:
        probe.bind(("127.0.0.1", port))
        probe.listen()  # until then another one could have the same port
    except OSError:
        return 0
    bound: int = probe.getsockname()[1]
    return bound


def _never() -> bool:
    return False


def wait_until_ready(where: Addresses, *, given_up: Callable[[], bool] = _never) -> None:
    """Returns when every shell answers, or when `given_up` says so.

    Raises:
        ExternalFailure: a shell does not answer within a minute.
    """
    for url in (f"{where.api}/health/ready", f"{where.functions}/health/live"):
        wait_until_it_answers(url, given_up=given_up)


def wait_until_it_answers(url: str, *, given_up: Callable[[], bool] = _never) -> None:
    """Raises ExternalFailure when nothing good is answered within a minute."""
    deadline = time.monotonic() + READY_WITHIN
    while not (_answers(url) or given_up()):
        if time.monotonic() > deadline:
            raise ExternalFailure(f"{url} does not answer; the log above says why")
        time.sleep(LOOK_EVERY)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=ANSWER_WITHIN, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
