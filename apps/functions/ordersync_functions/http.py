"""The HTTP triggers behind Starlette, as Azure serves them: below /api."""

import hmac
from collections.abc import Sequence
from typing import Final

import azure.functions as func
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ordersync_functions.declarations import HttpTrigger

PREFIX: Final = "/api/"
LARGEST_BODY: Final = 1_000_000


def http_app(triggers: Sequence[HttpTrigger], key: str) -> Starlette:
    routes: list[BaseRoute] = [_route(trigger, key) for trigger in triggers]
    return Starlette(routes=[*routes, Route("/health/live", _live)])


async def _live(_: Request) -> Response:
    return JSONResponse({"status": "live"})


def _route(trigger: HttpTrigger, key: str) -> Route:
    async def endpoint(request: Request) -> Response:
        if trigger.auth_level != "anonymous" and not _has(key, request):
            return Response(status_code=401)
        body = await _body(request)
        if body is None:
            return Response(status_code=413)
        answer = await run_in_threadpool(trigger.call, _as_azure(request, body))
        headers = {**answer.headers, "Content-Type": f"{answer.mimetype}; charset={answer.charset}"}
        return Response(answer.get_body(), status_code=answer.status_code, headers=headers)

    return Route(PREFIX + trigger.route, endpoint, methods=list(trigger.methods), name=trigger.name)


def _has(key: str, request: Request) -> bool:
    given = request.headers.get("x-functions-key") or request.query_params.get("code", "")
    return hmac.compare_digest(given.encode(), key.encode())


async def _body(request: Request) -> bytes | None:
    """None when it is larger than 1 MB."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def _as_azure(request: Request, body: bytes) -> func.HttpRequest:
    return func.HttpRequest(
        method=request.method,
        url=str(request.url),
        headers=dict(request.headers),
        params=dict(request.query_params),
        route_params={name: str(value) for name, value in request.path_params.items()},
        body=body,
    )
