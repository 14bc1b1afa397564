"""Keys by HTTP, from a real server on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import RSAAlgorithm

from ordersync_adapters.tokens.jwks import LIFETIME, PAUSE, JwksKeys
from ordersync_core.kernel.errors import InvalidInput, TemporaryFailure


def document(kid: str) -> dict[str, Any]:
    public = generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": kid}


ONE, TWO = document("one"), document("two")


class Issuer:
    """What the server answers next, and how often it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.body = json.dumps({"keys": [ONE]}).encode()
        self.location: str | None = None
        self.instead: bytes | None = None
        self.asked = 0


@contextmanager
def serving(issuer: Issuer) -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            if issuer.instead is not None:
                self.wfile.write(issuer.instead)
                return
            self.send_response(issuer.status)
            if issuer.location:
                self.send_header("Location", issuer.location)
            self.end_headers()
            self.wfile.write(issuer.body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        issuer.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        yield issuer
        server.shutdown()
        thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serving(Issuer()) as running:
        yield running


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def kids(keys: JwksKeys) -> list[str]:
    return sorted(keys.current().keys)


def test_they_are_fetched_once_and_then_kept(issuer: Issuer) -> None:
    keys = JwksKeys(issuer.url, monotonic=Seconds())
    assert keys.current() is keys.current()
    assert kids(keys) == ["one"]
    assert issuer.asked == 1


def test_a_rotation_is_seen_when_a_token_asks_for_the_new_key_but_not_at_every_such_token(issuer: Issuer) -> None:
    seconds = Seconds()
    keys = JwksKeys(issuer.url, monotonic=seconds)
    keys.current()
    issuer.body = json.dumps({"keys": [ONE, TWO]}).encode()
    assert sorted(keys.renewed().keys) == ["one"]
    seconds.now += PAUSE.total_seconds()
    assert sorted(keys.renewed().keys) == ["one", "two"]
    for _ in range(10):
        keys.renewed()
    assert issuer.asked == 2


def test_a_withdrawn_key_is_forgotten_when_the_set_has_become_old(issuer: Issuer) -> None:
    seconds = Seconds()
    keys = JwksKeys(issuer.url, monotonic=seconds)
    first = keys.current()
    issuer.body = json.dumps({"keys": [TWO]}).encode()
    seconds.now += LIFETIME.total_seconds() - 1
    assert keys.current() is first
    seconds.now += 1
    assert kids(keys) == ["two"]


def test_an_unchanged_set_stays_the_very_same(issuer: Issuer) -> None:
    seconds = Seconds()
    keys = JwksKeys(issuer.url, monotonic=seconds)
    first = keys.current()
    seconds.now += LIFETIME.total_seconds()
    assert keys.current() is first
    assert issuer.asked == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (404, b""),
        (200, b"<html>"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kty": "oct", "k": "eA"}]}'),
        (200, b"\xff\xfe"),
        (200, b" " * 1_000_001),
        (200, b"[" * 200_000),
    ],
    ids=["500", "404", "no JSON", "no key", "no usable key", "no text", "too long", "too deep"],
)
def test_a_failed_fetch_leaves_the_old_keys_in_use(issuer: Issuer, status: int, body: bytes) -> None:
    seconds = Seconds()
    keys = JwksKeys(issuer.url, monotonic=seconds)
    first = keys.current()
    issuer.status, issuer.body = status, body
    seconds.now += LIFETIME.total_seconds()
    assert keys.current() is first


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
    ids=["nothing", "no status", "too many headers", "half a chunk"],
)
def test_an_answer_that_is_no_http_leaves_the_old_keys_in_use(issuer: Issuer, answer: bytes) -> None:
    seconds = Seconds()
    keys = JwksKeys(issuer.url, monotonic=seconds)
    first = keys.current()
    issuer.instead = answer
    seconds.now += LIFETIME.total_seconds()
    assert keys.current() is first
    with pytest.raises(TemporaryFailure):
        JwksKeys(issuer.url).current()


def test_an_issuer_that_never_answered_is_a_temporary_failure_and_is_left_in_peace(issuer: Issuer) -> None:
    seconds = Seconds()
    keys = JwksKeys(issuer.url, monotonic=seconds)
    issuer.status = 503
    for _ in range(3):
        with pytest.raises(TemporaryFailure) as failure:
            keys.current()
        assert failure.value.retry_after == PAUSE
    assert issuer.asked == 1
    issuer.status = 200
    seconds.now += PAUSE.total_seconds()
    assert kids(keys) == ["one"]


def test_nobody_listens() -> None:
    with serving(Issuer()) as gone:
        url = gone.url
    with pytest.raises(TemporaryFailure):
        JwksKeys(url).current()


def test_a_redirect_is_not_followed(issuer: Issuer) -> None:
    with serving(Issuer()) as elsewhere:
        issuer.status, issuer.location = 302, elsewhere.url
        with pytest.raises(TemporaryFailure):
            JwksKeys(issuer.url).current()
        assert elsewhere.asked == 0


def test_many_threads_make_one_fetch(issuer: Issuer) -> None:
    keys = JwksKeys(issuer.url)
    threads = [threading.Thread(target=keys.current) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks.json",
        "file:///etc/passwd",
        "ftp://127.0.0.1/keys",
        "https:///x",
        "http://[::2]/",
        "",
    ],
)
def test_keys_are_fetched_by_https_or_from_this_machine(url: str) -> None:
    with pytest.raises(InvalidInput, match="https"):
        JwksKeys(url)


@pytest.mark.parametrize("url", ["https://issuer.example/jwks.json", "http://localhost:1/k", "http://[::1]:1/k"])
def test_addresses_that_are_allowed(url: str) -> None:
    JwksKeys(url)
