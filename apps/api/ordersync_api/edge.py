"""The outermost layer: addresses in one spelling, an id for each request, problems for errors, counters."""

import time
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from attrs import frozen
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ordersync_api.metrics import Metrics
from ordersync_api.problems import problem_of
from ordersync_api.resources import REQUEST_ID, ROUTE
from ordersync_core.kernel.ids import Ids

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
DISCONNECTED = 499
"""What the counters call a request whose caller went away."""

_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, X-Administration, Accept",
    "X-Content-Type-Options": "nosniff",
}


@frozen
class Edge:
    app: ASGIApp
    ids: Ids
    metrics: Metrics
    clock: Callable[[], float] = time.perf_counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = self.clock()
        self.metrics.begin()
        scope[REQUEST_ID] = str(self.ids.new())
        scope[ROUTE] = "unknown"
        told = _Told(send, scope[REQUEST_ID])
        try:
            await self._serve(scope, receive, told)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            self.metrics.end(method, scope[ROUTE], told.status, self.clock() - started)

    async def _serve(self, scope: Scope, receive: Receive, told: "_Told") -> None:
        try:
            scope["path"] = _one_spelling(scope)
            await self.app(scope, receive, told)
        except ClientDisconnect:
            return
        except Exception as error:
            problem = problem_of(error, scope[REQUEST_ID])
            if told.started:
                raise  # half an answer is out: breaking the connection is the only way to say so
            await problem.response()(scope, receive, told)


class _Told:
    """Sends on, with the headers of every answer, and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False
        self.status = DISCONNECTED

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _one_spelling(scope: Scope) -> str:
    """The address with nothing percent-encoded but `%` and, within a part of it, `/`.

    Servers decode the address before it is split into parts, so that the code `a/b` would look like two of them.
    A part that is not UTF-8 names nothing: 404.
    """
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in scope["raw_path"].split(b"/")]
    except UnicodeDecodeError:
        raise HTTPException(404) from None
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
