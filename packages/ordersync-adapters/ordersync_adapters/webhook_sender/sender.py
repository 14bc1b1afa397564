"""POSTs webhook requests, and gets away from whatever a receiver does with them."""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import datetime
from typing import Final, NamedTuple

import aiohttp
from aiohttp import AddrInfoType, SocketFactoryType
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import define, frozen

from ordersync_adapters.webhook_sender.addresses import TargetRefused as AddressRefused
from ordersync_adapters.webhook_sender.addresses import check_url, checking_socket_factory
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.errors import Violation
from ordersync_core.webhooks.ports import TargetRefused, WebhookRequest, WebhookResponse

KEPT_BYTES: Final = 16 * 1024
READ_BYTES: Final = 64 * 1024
"""A body that ends within this leaves the connection usable; a longer one costs it."""

IDLE_SECONDS: Final = 4.0
"""Less than the 5 s after which common servers close an idle connection, so that both rarely act at once."""

STALE_SECONDS: Final = 1.0
"""A kept connection that is closed shows it within this."""

CONNECTIONS_PER_HOST: Final = 200
"""As many as are ever in flight: with fewer, one tenant's hanging requests would use up the time that another tenant's
request to the same host has to connect."""

_RESOLVER_THREADS: Final = 32
_LONGEST_ERROR: Final = 300


@frozen(kw_only=True)
class Patience:
    """Seconds: until a connection stands, until everything has come, and from the head of the answer to the end of its
    body, which decides nothing any more."""

    connect: float = 5.0
    total: float = 15.0
    body: float = 5.0


@define
class _Call:
    """One `send`, as the sockets that are opened for it see it."""

    opened: bool = False


_call: ContextVar[_Call] = ContextVar("call")


class Answer(NamedTuple):
    """What came of one request, as the port's `WebhookResponse` says; `body` is the first 16 KiB."""

    status: int | None
    retry_after: str | None
    error: str | None
    body: bytes


class UrlTargetPolicy:
    """Refuses at registration what the sender would refuse to call.

    allow_private: private, loopback and link-local addresses are allowed too, for a local set-up.
    """

    def __init__(self, allow_private: bool = False) -> None:
        self._allow_private = allow_private

    def check(self, url: str) -> None:
        try:
            check_url(url, allow_private=self._allow_private)
        except OSError as error:
            raise TargetRefused(str(error), (Violation("/url", str(error)),)) from error


class AiohttpWebhookSender:
    """Sends on one event loop, with connections that are kept for the next request; `close()` ends them for good.

    The address is checked when a connection is made, on what the name resolved to then. No redirect is followed, no
    proxy and no credential is taken from the environment, no cookie is kept.
    """

    def __init__(
        self,
        clock: Clock,
        allow_private: bool = False,
        user_agent: str = "OrderSync",
        *,
        patience: Patience | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._clock = clock
        self._patience = patience or Patience()
        self._allow_private = allow_private
        self._user_agent = user_agent
        self._resolver = resolver or ThreadResolver()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: WebhookRequest) -> WebhookResponse:
        started_at = self._clock.now()
        answer = await self.exchange(request.url, request.headers, request.body)
        return to_response(request, answer, started_at=started_at, ended_at=self._clock.now())

    async def exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        status: int | None = None
        retry_after: str | None = None
        error: str | None = None
        kept = b""
        try:
            async with await self._post(url, headers, body) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                kept = await _head(response, self._patience.body)
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            # after the status is known a failure costs the rest of the body only
            error = None if status is not None else describe(failure, self._patience)
        return Answer(status, retry_after, error, kept)

    async def open(self) -> None:
        self._open_session()

    async def close(self) -> None:
        if self._session is not None and self._loop is asyncio.get_running_loop():
            await self._session.close()
            await self._resolver.close()
        self._session = None

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        """The answer's head. A kept connection that its receiver had closed meanwhile costs one more try at once."""
        call, began = _Call(), time.monotonic()
        _call.set(call)
        try:
            return await self._try(url, headers, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            if call.opened or time.monotonic() - began > STALE_SECONDS:
                raise
            return await self._try(url, headers, body)

    async def _try(self, url: str, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        return await self._open_session().post(url, data=body, headers=headers, allow_redirects=False)

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._session, self._loop = self._new_session(), loop
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=CONNECTIONS_PER_HOST,
            keepalive_timeout=IDLE_SECONDS,
            resolver=self._resolver,
            socket_factory=_noted(checking_socket_factory(allow_private=self._allow_private)),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._patience.total, connect=self._patience.connect),
            headers={"User-Agent": self._user_agent, "Accept": "*/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )


def to_response(
    request: WebhookRequest, answer: Answer, *, started_at: datetime, ended_at: datetime
) -> WebhookResponse:
    return WebhookResponse(
        request=request,
        started_at=started_at,
        ended_at=ended_at,
        status=answer.status,
        retry_after=answer.retry_after,
        error=answer.error,
        response=answer.body,
    )


class ThreadResolver(AbstractResolver):
    """Resolves in threads of its own: a name server that does not answer holds up nothing else of the process."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        entries = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in entries
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False)


def _noted(open_socket: SocketFactoryType) -> SocketFactoryType:
    """Tells the call that it did not get a kept connection; a trace of aiohttp's would cost each request."""

    def open_noted(target: AddrInfoType) -> socket.socket:
        _call.get().opened = True
        return open_socket(target)

    return open_noted


async def _head(response: aiohttp.ClientResponse, seconds: float) -> bytes:
    """The first 16 KiB of the body, or what came of it in time."""
    if response.content.at_eof():
        return b""  # most receivers answer with nothing
    kept = bytearray()
    read = 0
    try:
        async with asyncio.timeout(seconds):
            while read < READ_BYTES and (part := await response.content.readany()):
                read += len(part)
                kept += part[: KEPT_BYTES - len(kept)]
    except (aiohttp.ClientError, OSError, ValueError):
        response.close()
    if not response.content.at_eof():
        response.close()
    return bytes(kept)


def describe(error: BaseException, patience: Patience) -> str:
    """Why no answer came, in one line."""
    line = " ".join(_reason(error, patience).split())
    printable = "".join(character if character.isprintable() else "?" for character in line)
    return printable if len(printable) <= _LONGEST_ERROR else f"{printable[:_LONGEST_ERROR]}..."


def _reason(error: BaseException, patience: Patience) -> str:
    refused = _cause(error, AddressRefused)
    if refused is not None:
        return f"the address is not called: {refused}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {patience.connect:g} s"
        case TimeoutError():
            return f"no answer within {patience.total:g} s"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS: {error.certificate_error}"
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ssl.SSLError):
            return f"TLS: {error.os_error}"
        case aiohttp.ClientConnectorError():
            return f"no connection: {error.os_error.strerror or error.os_error}"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return "the receiver closed the connection without an answer"
        case aiohttp.InvalidURL():
            return "the URL is not one that can be called"
        case aiohttp.ClientResponseError():
            return f"the answer is not HTTP: {error.message}"
        case aiohttp.ClientOSError():
            return f"the connection broke: {error.strerror or error}"
        case _:
            return f"{type(error).__name__}: {error}"


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first error of that kind among the error and its causes, grouped ones included."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__, getattr(current, "os_error", None)]
        if isinstance(current, BaseExceptionGroup):
            waiting += list(current.exceptions)
    return None
