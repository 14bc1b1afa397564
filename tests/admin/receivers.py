"""A subscriber on 127.0.0.1 that checks what it gets with the published `standardwebhooks` library."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field
from standardwebhooks import Webhook


@define
class Receiver:
    """status: what it answers. secret: of the webhook; None verifies nothing. verified: the bodies that were signed."""

    status: int
    url: str = ""
    secret: str | None = None
    verified: list[Any] = field(factory=list)


@contextmanager
def a_receiver(status: int = 204) -> Iterator[Receiver]:
    receiver = Receiver(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if receiver.secret is not None:
                receiver.verified.append(Webhook(receiver.secret).verify(body, dict(self.headers)))
            answer = b"" if receiver.status == 204 else b"no [/] today"
            self.send_response(receiver.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
