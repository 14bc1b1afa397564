"""The sandbox as an HTTP server: the wire, the scripted faults on it, and how long it runs."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import orjson
import uvicorn
from attrs import evolve
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .answers import Answer, Call, error_body
from .faults import Fault
from .sandbox import Sandbox
from .settings import SandboxSettings

_STARTS_WITHIN = 30.0


def run_sandbox(settings: SandboxSettings, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then return. Prints nothing. Call it in the main thread.

    Args:
        ready: called once with the base URL, without a slash at the end, when the server accepts connections.

    Raises:
        ItemFileError, FaultError: one line on what is wrong with the item file or the fault script.
        OSError: the address is taken, or the log cannot be written.
    """
    running = _Running(settings)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.stop)
        await running.serve(ready)

    asyncio.run(serve())


class SandboxServer:
    """A sandbox in a thread of this process, for tests: `with SandboxServer(settings) as server: server.url`."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self._settings = settings or SandboxSettings()
        self._running: _Running | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="exact-sandbox", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end; inside the `with` only."""
        if self._running is None:
            raise RuntimeError("the sandbox is not started")
        return self._running.url

    def __enter__(self) -> "SandboxServer":
        self._running = _Running(self._settings)
        self._thread.start()
        if not self._ready.wait(_STARTS_WITHIN) or self._failure is not None:
            raise RuntimeError("the sandbox did not start") from self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.stop()
            self._thread.join(_STARTS_WITHIN)

    def _serve(self) -> None:
        assert self._running is not None
        try:
            asyncio.run(self._running.serve(lambda _: self._ready.set()))
        except BaseException as error:
            self._failure = error
            self._ready.set()


class _Running:
    """A sandbox, its listening socket and its server."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._sandbox = Sandbox(settings)
        try:
            self._socket = _listening(settings.host, settings.port)
        except OSError:
            self._sandbox.close()
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            _Wire(self._sandbox, self.url),
            http=_ConnectionProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)

    async def serve(self, ready: Callable[[str], None] | None) -> None:
        self._server.when_ready = lambda: ready(self.url) if ready is not None else None
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._socket.close()
            self._sandbox.close()

    def stop(self) -> None:
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to its owner, and says when it accepts connections."""

    when_ready: Callable[[], None] = staticmethod(lambda: None)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_ready()


class _ConnectionProtocol(H11Protocol):
    """Shows the application its connection, so that a fault can close it without a word."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Wire:
    """The ASGI application: reads a call, lets a fault strike, writes the log, sends the answer."""

    def __init__(self, sandbox: Sandbox, base_url: str) -> None:
        self._sandbox = sandbox
        self._base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/_sandbox/"):
            await self._sandbox.control(scope, receive, send)
            return
        call = await self._read(scope, receive)
        if call is None:
            return
        fault = self._sandbox.faults.struck(call)
        answer, delay, closes = self._decided(call, fault)
        self._sandbox.log.note(call, None if closes else answer, fault=fault.do if fault is not None else None)
        if delay:
            await asyncio.sleep(delay)
        if closes or answer is None:
            scope["state"]["transport"].close()
            await receive()  # returns when the connection is gone; before that the server would answer 500
            return
        await _send(answer, call, send)

    def _decided(self, call: Call, fault: Fault | None) -> tuple[Answer | None, float, bool]:
        """The answer (None: nothing was done), how long it is held back, and whether the connection closes instead."""
        if fault is None:
            return self._sandbox.answer(call), 0, False
        match fault.do:
            case "drop":
                return None, 0, True
            case "hang":
                return None, fault.seconds, True
            case "status":
                return self._scripted(call, fault), 0, False
            case "short_page":
                return self._sandbox.answer(call, halve_pages=True), 0, False
        answer = self._sandbox.answer(call)
        match fault.do:
            case "half_json":
                return evolve(answer, body=answer.body[: len(answer.body) // 2]), 0, False
            case "error_glued":
                return evolve(answer, body=answer.body[: len(answer.body) // 2] + _GLUED), 0, False
            case "slow":
                return answer, fault.seconds, False
        return answer, 0, True  # answer_lost, token_answer_lost

    def _scripted(self, call: Call, fault: Fault) -> Answer:
        answer = self._sandbox.scripted_status(call, fault.status, fault.text)
        if fault.retry_after is None:
            return answer
        return answer.with_headers({"Retry-After": str(fault.retry_after)})

    async def _read(self, scope: Scope, receive: Receive) -> Call | None:
        """The whole request; None when the caller left in the middle of it."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host")
        return Call(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=bytes(body),
            base_url=f"http://{host}" if host else self._base_url,
        )


_GLUED = orjson.dumps(error_body("A problem has occurred while streaming."))


async def _send(answer: Answer, call: Call, send: Send) -> None:
    headers: dict[str, Any] = {**answer.headers}
    if answer.content_type is not None:
        headers["Content-Type"] = answer.content_type
    if answer.status != 204:
        headers["Content-Length"] = str(len(answer.body))
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else answer.body})


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, because asyncio switches Nagle's delay off only for sockets that say so (40 ms an answer).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
