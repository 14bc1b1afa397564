"""From an HTTP request to an endpoint and back: one ASGI application for each address."""

import re
from collections.abc import Callable, Mapping, Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import unquote

from attrs import frozen
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ordersync_api.authentication import Caller, authenticate, authorise
from ordersync_api.calls import Call, Shell
from ordersync_api.decoding import decode_body, decode_query, parse_object, together
from ordersync_api.media import check_content_type, negotiated
from ordersync_api.operations import Operation, call_endpoint
from ordersync_api.problems import BodyTooLarge, MethodNotAllowed
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.decoding import decode
from ordersync_core.kernel.errors import InvalidInput, NotFound

IN_MEMORY = 1_000_000
"""Bytes of a bulk body that are kept in memory before it goes to disk."""

REQUEST_ID = "ordersync.request_id"
ROUTE = "ordersync.route"
ANONYMOUS = "anonymous"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@frozen
class Resource:
    """The operations of one address, by method."""

    path: str
    operations: Mapping[str, Operation]
    shell: Shell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self.path
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self.operations:
            raise MethodNotAllowed(self._allowed())
        response = await self._answer(self.operations[method], request)
        await response(scope, receive, send)

    async def _answer(self, operation: Operation, request: Request) -> Response:
        headers = request.headers
        if operation.body is None and not operation.uploads:
            return await run_in_threadpool(self._serve, operation, request)
        call = await run_in_threadpool(self._admit, operation, request)
        if operation.uploads:
            check_content_type(headers, operation.takes)
            upload = await _upload(request, self.shell.bulk_limit)
            return await run_in_threadpool(self._finish, operation, request, call, upload=upload)
        content = await _content(request, self.shell.body_limit)
        if content:
            check_content_type(headers, operation.takes)
        return await run_in_threadpool(self._finish, operation, request, call, content=content)

    def _serve(self, operation: Operation, request: Request) -> Response:
        """The whole way of a request without a body, in one thread."""
        return self._finish(operation, request, self._admit(operation, request))

    def _admit(self, operation: Operation, request: Request) -> Call:
        """Who calls and what it wants, before anything of the body is read."""
        caller = self._caller(operation, request.headers)
        return Call(
            shell=self.shell,
            context=Context(
                administration=None if caller.membership is None else caller.membership.administration,
                triggered_by=caller.subject,
                correlation_id=request.scope[REQUEST_ID],
                traceparent=_traceparent(request.headers),
            ),
            headers=request.headers,
            path=request.scope["path"],
            media=negotiated(request.headers, operation.gives),
        )

    def _caller(self, operation: Operation, headers: Headers) -> Caller:
        if operation.public:
            return Caller(ANONYMOUS, None)
        subject = authenticate(headers, self.shell.tokens)
        if operation.role is None:
            return Caller(subject, None)
        return authorise(subject, headers, operation.role, self.shell.application.databases.admin_queries())

    def _finish(
        self,
        operation: Operation,
        request: Request,
        call: Call,
        *,
        content: bytes | None = None,
        upload: IO[bytes] | None = None,
    ) -> Response:
        try:
            arguments = _arguments(operation, request, content)
            if upload is not None:
                arguments["upload"] = upload
            return call_endpoint(operation, call, arguments)
        except BaseException:
            if upload is not None:
                upload.close()
            raise

    def _allowed(self) -> str:
        methods = set(self.operations)
        return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _arguments(operation: Operation, request: Request, content: bytes | None) -> dict[str, Any]:
    """The endpoint's arguments; InvalidInput with what is wrong in query and body together."""
    arguments = _path_arguments(operation, request.path_params)
    query, query_error = _tried(lambda: decode_query(request.scope["query_string"], operation.query))
    body, body_error = (None, None) if content is None else _tried(lambda: _body(operation, content))
    together(query_error, body_error)
    if "query" in operation.hints:
        arguments["query"] = query
    if "body" in operation.hints:
        arguments["body"] = body
    return arguments


def _path_arguments(operation: Operation, given: Mapping[str, str]) -> dict[str, Any]:
    """A part of the address that cannot name anything names nothing: NotFound. One that is taken as text is checked by
    the endpoint, which may be about to give it a meaning."""
    arguments: dict[str, Any] = {}
    for name, kind in operation.path_parameters.items():
        text = unquote(given[name])
        try:
            arguments[name] = text if kind is str else decode(text, kind)
        except InvalidInput:
            raise NotFound(f"there is no {operation.tag} {text}") from None
    return arguments


def _body(operation: Operation, content: bytes) -> Any:
    return parse_object(content) if operation.body == dict[str, Any] else decode_body(content, operation.body)


def _tried(attempt: Callable[[], Any]) -> tuple[Any, InvalidInput | None]:
    try:
        return attempt(), None
    except InvalidInput as error:
        return None, error


async def _content(request: Request, limit: int) -> bytes:
    _check_length(request.headers, limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        parts.append(part)
    return b"".join(parts)


async def _upload(request: Request, limit: int) -> IO[bytes]:
    """The whole body, from its beginning, on disk if it is large: only then is answered, for many a client does not
    read before it has sent everything."""
    _check_length(request.headers, limit)
    upload = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - whoever answers closes it
    try:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise BodyTooLarge(limit)
            upload.write(part)
        upload.seek(0)
    except BaseException:
        upload.close()
        raise
    return upload


def _check_length(headers: Headers, limit: int) -> None:
    length = headers.get("Content-Length", "0")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLarge(limit)


def _traceparent(headers: Headers) -> str | None:
    """The caller's trace (W3C Trace Context); one that is malformed is passed over."""
    values: Sequence[str] = headers.getlist("traceparent")
    return values[0] if len(values) == 1 and _TRACEPARENT.fullmatch(values[0]) else None
