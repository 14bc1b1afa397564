"""The local host as a process."""

import asyncio
import logging
import signal
import socket
import sys

import uvicorn

from ordersync_adapters.collector import collect_rarely
from ordersync_adapters.settings import load
from ordersync_core.kernel.errors import InvalidInput, OrderSyncError
from ordersync_core.messaging.envelope import QUEUES
from ordersync_functions import composition
from ordersync_functions.declarations import declarations
from ordersync_functions.host import ADDRESS, Host, listen
from ordersync_functions.parts import Parts
from ordersync_functions.settings import FunctionsSettings

_log = logging.getLogger("ordersync.functions")


def main() -> int:
    """Runs until SIGTERM or SIGINT. Answers 1, after one line, when it cannot start."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # each request has an outcome on a row; a line for each as well is too much
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        settings = load(FunctionsSettings)
        parts = composition.parts()
        _must_answer(parts)
        opened = _listen(settings.functions_port)
        key = composition.function_key(settings.keys_folder)
    except (OrderSyncError, OSError) as error:
        print(f"ordersync-functions: {error}", file=sys.stderr)
        return 1
    collect_rarely()
    with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
        runner.run(_serve(parts, opened, key))
    parts.close()
    return 0


def _must_answer(parts: Parts) -> None:
    """TemporaryFailure when the admin database or the queues cannot be reached."""
    parts.administrations.codes()
    for name in QUEUES:
        parts.queues[name].depth()


def _listen(port: int) -> socket.socket:
    try:
        return listen(port)
    except OSError as error:
        reason = error.strerror or error
        raise InvalidInput(f"cannot listen on port {port}, which ORDERSYNC_FUNCTIONS_PORT names: {reason}") from error


async def _serve(parts: Parts, opened: socket.socket, key: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _log.info("listening on http://%s:%d", ADDRESS, opened.getsockname()[1])
    await Host(parts, declarations(), opened=opened, key=key).run(stop)
    _log.info("stopped")
