"""A receiver of webhooks that does what a good one does: verify each signature, then keep the request.

One process serves several receivers, each at a path of its own: `/<name>`. For trying recovery out, a receiver can be
told to fail for a while: `PUT /<name>/settings {"fail": n}`.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from attrs import define, field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ordersync_core.kernel.errors import ExternalFailure
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.webhooks.signing import SignatureRefused, verify

Line = dict[str, Any]


@define
class Receiver:
    """One subscriber.

    secrets: those that are valid now; none refuses everything.
    path: a file that gets one JSON line for each request; None keeps none.
    failures_left: how many of the next requests it answers with 503.
    """

    name: str
    secrets: tuple[str, ...] = ()
    path: str | None = None
    show: Callable[[Line], None] | None = None
    failures_left: int = 0
    echo: bool = field(default=False)

    def receive(self, headers: dict[str, str], body: bytes) -> Line:
        """Judge a request and keep its line; `status` is what it is answered with."""
        problem = self._problem(headers, body)
        if problem is not None:
            status = 401
        elif self.failures_left > 0:
            self.failures_left -= 1
            status = 503
        else:
            status = 204
        line = _line(self.name, headers, body, problem=problem, status=status)
        self._keep(line)
        return line

    def _problem(self, headers: dict[str, str], body: bytes) -> str | None:
        try:
            verify(self.secrets, headers, body, now=datetime.now(UTC))
        except SignatureRefused as error:
            return str(error)
        return None

    def _keep(self, line: Line) -> None:
        text = orjson.dumps(line).decode()
        if self.path is not None:
            with Path(self.path).open("a") as file:
                file.write(text + "\n")
        if self.show is not None:
            self.show(line)
        if self.echo:
            print(text, flush=True)


def _line(name: str, headers: dict[str, str], body: bytes, *, problem: str | None, status: int) -> Line:
    try:
        event = orjson.loads(body)
        key = event["data"].get("code")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        event, key = {}, None
    position = headers.get("x-webhook-position", "")
    return {
        "at": rfc3339(datetime.now(UTC)),
        "receiver": name,
        "id": headers.get("webhook-id"),
        "position": int(position) if position.isdecimal() else None,
        "type": headers.get("x-event-type"),
        "sequence": event.get("sequence"),
        "key": key,
        "verified": problem is None,
        "problem": problem,
        "status": status,
        "body": body.decode(errors="replace"),
    }


def serve(receivers: Sequence[Receiver], *, port: int, ready: Callable[[str], None], echo_json: bool = False) -> None:
    """Serve them on 127.0.0.1 until the process is asked to end; `port` 0 takes a free one.

    Raises:
        ExternalFailure: the port is taken.
    """
    by_name = {receiver.name: receiver for receiver in receivers}
    for receiver in receivers:
        receiver.echo = echo_json
    listening = _listen(port)
    app = _app(by_name)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False))
    ready(f"http://127.0.0.1:{listening.getsockname()[1]}")
    sys.stdout.flush()
    asyncio.run(server.serve(sockets=[listening]))


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        listening.close()
        raise ExternalFailure(f"port {port} is taken; choose another one with --port") from None
    return listening


def _app(receivers: dict[str, Receiver]) -> Starlette:
    async def receive(request: Request) -> Response:
        receiver = receivers.get(request.path_params["name"])
        if receiver is None:
            return JSONResponse({"title": "no such receiver"}, 404)
        line = receiver.receive(dict(request.headers), await request.body())
        return Response(status_code=line["status"])

    async def configure(request: Request) -> Response:
        receiver = receivers.get(request.path_params["name"])
        if receiver is None:
            return JSONResponse({"title": "no such receiver"}, 404)
        wishes = orjson.loads(await request.body())
        receiver.failures_left = wishes.get("fail", receiver.failures_left)
        receiver.secrets = tuple(wishes.get("secrets", receiver.secrets))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/{name}", receive, methods=["POST"]),
            Route("/{name}/settings", configure, methods=["PUT"]),
        ]
    )
