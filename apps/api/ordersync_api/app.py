"""The API as an ASGI application, given an application of the core."""

from collections.abc import Iterable
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ordersync_api.authentication import Tokens
from ordersync_api.calls import BODY_LIMIT, BULK_LIMIT, Shell
from ordersync_api.cursors import Cursors
from ordersync_api.edge import Edge
from ordersync_api.endpoints import administrations, connections, events, flows, health, items, job_runs, webhooks
from ordersync_api.metrics import Metrics
from ordersync_api.openapi import describe
from ordersync_api.operations import Operation
from ordersync_api.problems import problem_of
from ordersync_api.resources import REQUEST_ID, Resource
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.ids import Ids

OPERATIONS: tuple[Operation, ...] = tuple(
    operation
    for module in (items, webhooks, events, job_runs, connections, flows, administrations, health)
    for operation in module.operations.all
)


def build_app(
    application: Application,
    *,
    tokens: Tokens,
    cursors: Cursors,
    body_limit: int = BODY_LIMIT,
    bulk_limit: int = BULK_LIMIT,
) -> Starlette:
    """tokens: says whom a bearer token speaks for. body_limit, bulk_limit: bytes."""
    release = version("ordersync-api")
    metrics = Metrics()
    shell = Shell(
        application=application,
        tokens=tokens,
        cursors=cursors,
        metrics=metrics,
        version=release,
        openapi=describe(OPERATIONS, release),
        body_limit=body_limit,
        bulk_limit=bulk_limit,
    )
    ids: Ids = application.resolve(Ids)
    app = Starlette(
        routes=list(_routes(OPERATIONS, shell)),
        middleware=[Middleware(Edge, ids=ids, metrics=metrics)],
        exception_handlers={HTTPException: _problem},
    )
    app.router.redirect_slashes = False
    return app


async def _problem(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses, such as an unknown address."""
    return problem_of(error, request.scope[REQUEST_ID]).response()


def _routes(operations: Iterable[Operation], shell: Shell) -> Iterable[Route]:
    """One route for each address; those with an action, such as {id}:enable, before the address they begin like."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    for path in sorted(by_path, key=lambda path: (-path.count("/"), "}:" not in path)):
        yield Route(path, Resource(path, by_path[path], shell))
