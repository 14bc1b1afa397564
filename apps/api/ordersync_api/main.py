"""The API as a process.

`python -m ordersync_api` serves by itself; a server of one's own takes the factory:
`uvicorn --factory ordersync_api.main:app`.
"""

import argparse
import logging
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from ordersync_adapters.settings import load
from ordersync_api import composition
from ordersync_api.settings import ApiSettings
from ordersync_core.kernel.errors import InvalidInput, OrderSyncError

HOST = "127.0.0.1"
DRAIN = 25
"""Seconds that requests under way are given when the process is asked to end; platforms kill after 30."""

_log = logging.getLogger("ordersync.api")


def app() -> Starlette:
    """The ASGI application, by the settings of the environment."""
    return composition.compose(load(ApiSettings))


def main() -> int:
    """Serves until SIGTERM or SIGINT. Answers 1, after one line, when it cannot start."""
    parser = argparse.ArgumentParser(prog="ordersync-api", description="The public API of OrderSync.")
    parser.add_argument("--host", default=HOST, help="the address to listen on (%(default)s); 0.0.0.0 for all")
    parser.add_argument(
        "--proxies", metavar="ADDRESSES", default="", help="proxies whose X-Forwarded headers are believed"
    )
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = load(ApiSettings)
        serve(composition.compose(settings), host=arguments.host, port=settings.api_port, proxies=arguments.proxies)
    except OrderSyncError as error:
        print(f"ordersync-api: {error}", file=sys.stderr)
        return 1
    return 0


def _end(*_: object) -> None:
    """uvicorn raises the signal anew once it has ended. The process then ends in the usual way, so that what works
    beside it, such as the thread of the wake-up hints, finishes too."""
    raise SystemExit(0)


def serve(api: Starlette, *, host: str = HOST, port: int, proxies: str = "") -> None:
    """Serve until the process is asked to end.

    port: 0 for a free one; the address is logged.
    proxies: comma-separated addresses, `*` for any, "" for none.

    Raises:
        InvalidInput: nobody can listen there.
    """
    opened = listen(host, port)
    _log.info("listening on http://%s:%d", host, opened.getsockname()[1])
    config = uvicorn.Config(
        api,
        access_log=False,
        lifespan="off",
        log_config=None,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
    )
    # each failure has a line of its own; uvicorn's about its coming and going are too much
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    uvicorn.Server(config).run(sockets=[opened])


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(2048)
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot listen on {host} port {port} (ORDERSYNC_API_PORT): {reason}") from None
    return opened
