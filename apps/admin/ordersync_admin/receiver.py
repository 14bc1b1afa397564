"""A receiver of webhooks that does what a good one does: verify each signature, then keep the request.

One process serves several receivers, each at a path of its own: `/<name>`. For trying recovery out, a receiver can be
told to fail for a while: `PUT /<name>/settings {"fail": n}`.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
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

from ordersync_core.kernel.errors import ExternalFailure, InvalidInput
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.webhooks.signing import signature, verify

Line = dict[str, Any]


@define
class Receiver:
    """One subscriber.

    secrets: those that are valid now; none refuses everything.
    path: a file that gets one JSON line for each request; None keeps none.
    show: gets the same line.
    failures_left: how many of the next requests it answers with 503.

    Raises:
        InvalidInput: a secret is malformed, or the file cannot be written.
    """

    name: str
    secrets: tuple[str, ...] = field(default=(), validator=lambda *given: _must_sign(given[2]))
    path: str | None = field(default=None, validator=lambda *given: _must_be_writable(given[2]))
    show: Callable[[Line], None] | None = None
    failures_left: int = 0

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
        except ValueError as error:  # SignatureRefused, or there is no secret
            return str(error)
        return None

    def _keep(self, line: Line) -> None:
        text = orjson.dumps(line).decode()
        if self.path is not None:
            with Path(self.path).open("a") as file:
                file.write(text + "\n")
        if self.show is not None:
            self.show(line)


def _must_sign(secrets: Sequence[str]) -> None:
    try:
        if secrets:
            signature(secrets, message_id="", timestamp=datetime.now(UTC), body=b"")
    except ValueError as error:
        raise InvalidInput(f"a secret is not one that a webhook was created with: {error}") from None


def _must_be_writable(path: str | None) -> None:
    try:
        if path is not None:
            Path(path).open("a").close()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None


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


def serve(receivers: Sequence[Receiver], *, port: int, ready: Callable[[str], None]) -> None:
    """Serve them on 127.0.0.1 until Ctrl-C or a request to end; `port` 0 takes a free one.

    ready: gets the address as soon as requests are taken.

    Raises:
        ExternalFailure: the port is taken.
    """
    listening = _listen(port)
    app = _app({receiver.name: receiver for receiver in receivers})
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False))
    ready(f"http://127.0.0.1:{listening.getsockname()[1]}")
    with suppress(KeyboardInterrupt):  # which uvicorn raises anew once it has ended
        asyncio.run(server.serve(sockets=[listening]))


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError:
        listening.close()
        raise ExternalFailure(f"port {port} is taken; choose another one with --port") from None
    return listening


def _app(receivers: dict[str, Receiver]) -> Starlette:
    async def names(_: Request) -> Response:
        return JSONResponse(list(receivers))

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
        try:
            _configure(receiver, orjson.loads(await request.body()))
        except (InvalidInput, ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"title": str(error)}, 422)
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", names, methods=["GET"]),
            Route("/{name}", receive, methods=["POST"]),
            Route("/{name}/settings", configure, methods=["PUT"]),
        ]
    )


def _configure(receiver: Receiver, wishes: Any) -> None:
    receiver.secrets = tuple(wishes.get("secrets", receiver.secrets))
    receiver.failures_left = int(wishes.get("fail", receiver.failures_left))
