import logging
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from ordersync_api import documentation, metrics
from ordersync_api.calls import Answer, Call
from ordersync_api.operations import Operations
from ordersync_api.shapes import Alive, Ready
from ordersync_core.administrations.ports import AdministrationQueries
from ordersync_core.messaging.envelope import EVENTS
from ordersync_core.messaging.queue import Queues

operations = Operations("health")

_log = logging.getLogger(__name__)


@operations.get("/health/live", public=True, answers={200: Alive})
def live(call: Call) -> Answer:
    """Whether the process answers, and which release it is."""
    return Answer(body={"status": "live", "version": call.shell.version})


@operations.get("/health/ready", public=True, answers={200: Ready, 503: Ready})
def ready(call: Call) -> Answer:
    """Whether what the API depends on can be reached."""
    parts = {
        "admin_database": _is_up(lambda: call.run(_ask_admin_database, None)),
        "queues": _is_up(lambda: call.run(_ask_queues, None)),
    }
    up = all(parts.values())
    shown = {name: "up" if part else "down" for name, part in parts.items()}
    return Answer(body={"status": "ready" if up else "not ready", **shown}, status=200 if up else 503)


@operations.get("/metrics", public=True, gives=("text/plain",), answers={200: str})
def show_metrics(call: Call) -> Response:
    """Counters of this process, in the text format of Prometheus."""
    return Response(call.shell.metrics.text(call.shell.version), headers={"Content-Type": metrics.MEDIA_TYPE})


@operations.get("/openapi.json", public=True, answers={200: dict[str, Any]})
def show_openapi(call: Call) -> Answer:
    """This description."""
    return Answer(body=call.shell.openapi)


@operations.get("/docs", public=True, gives=("text/html",), answers={200: str})
def show_documentation(call: Call) -> Response:
    """This description, for people."""
    return documentation.page(call.shell.openapi)


def _ask_admin_database(_: None, *, administrations: AdministrationQueries) -> None:
    administrations.active()


def _ask_queues(_: None, *, queues: Queues) -> None:
    queues[EVENTS].depth()


def _is_up(ask: Callable[[], None]) -> bool:
    try:
        ask()
    except Exception as error:
        _log.warning("not ready: %s", error)
        return False
    return True
