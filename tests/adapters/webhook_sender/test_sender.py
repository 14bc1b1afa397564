import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from uuid import UUID

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from ordersync_adapters.system import SystemClock
from ordersync_adapters.webhook_sender.process import ProcessWebhookSender
from ordersync_adapters.webhook_sender.sender import (
    KEPT_BYTES,
    AiohttpWebhookSender,
    Patience,
    UrlTargetPolicy,
)
from ordersync_core.webhooks.ports import TargetRefused, WebhookRequest, WebhookResponse
from tests.adapters.webhook_sender.receivers import Reader, Receiver, Writer, answering, receiver, response

QUICK = Patience(connect=0.3, total=0.5, body=0.3)
Sender = AiohttpWebhookSender | ProcessWebhookSender
_kind: type[Sender] = AiohttpWebhookSender
Act = Callable[[Receiver, Reader, Writer], Awaitable[None]]


def a_request(url: str, **headers: str) -> WebhookRequest:
    return WebhookRequest(
        delivery_id=UUID(int=1),
        webhook_id=UUID(int=2),
        attempt=1,
        url=url,
        headers={"content-type": "application/json", "webhook-id": "m1", **headers},
        body=b'{"type":"item.created"}',
    )


@pytest.fixture(params=[AiohttpWebhookSender, ProcessWebhookSender], ids=["here", "in a process"], autouse=True)
def _each_sender(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}._kind", request.param)


def make_sender(*, allow_private: bool = True, resolver: AbstractResolver | None = None) -> Sender:
    """Names are resolved by a test's own resolver in this process only."""
    if resolver is not None:
        return AiohttpWebhookSender(SystemClock(), allow_private, patience=QUICK, resolver=resolver)
    return _kind(SystemClock(), allow_private, patience=QUICK)


async def send_to(act: Act, *, times: int = 1) -> tuple[list[WebhookResponse], Receiver]:
    sender = make_sender()
    async with receiver(act) as told:
        try:
            return [await sender.send(a_request(told.url)) for _ in range(times)], told
        finally:
            await sender.close()


def send(act: Act) -> tuple[WebhookResponse, Receiver]:
    responses, told = asyncio.run(send_to(act))
    return responses[0], told


def send_url(url: str, *, allow_private: bool = True, resolver: AbstractResolver | None = None) -> WebhookResponse:
    async def go() -> WebhookResponse:
        sender = make_sender(allow_private=allow_private, resolver=resolver)
        try:
            return await sender.send(a_request(url))
        finally:
            await sender.close()

    return asyncio.run(go())


def test_a_receiver_gets_the_request_as_it_stands_and_its_answer_is_told() -> None:
    answer, told = send(answering(response("200 OK", body=b"thanks")))

    assert (answer.status, answer.error, answer.response) == (200, None, b"thanks")
    assert answer.started_at <= answer.ended_at
    assert told.requests[0][0][0] == "POST /hook HTTP/1.1"
    assert told.requests[0][1] == b'{"type":"item.created"}'
    assert told.header("webhook-id") == "m1"
    assert told.header("content-type") == "application/json"
    assert told.header("user-agent") == "OrderSync"


@pytest.mark.parametrize("status", ["204 No Content", "400 Bad", "410 Gone", "429 Slow Down", "500 Oops", "599 Odd"])
def test_every_status_is_an_answer_and_no_error(status: str) -> None:
    answer, _ = send(answering(response(status)))

    assert (answer.status, answer.error) == (int(status.split()[0]), None)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(status: str) -> None:
    async def behave(told: Receiver, reader: Reader, writer: Writer) -> None:
        location = f"Location: http://127.0.0.1:{told.port}/elsewhere\r\n"
        await answering(response(status, headers=location))(told, reader, writer)

    answer, told = send(behave)

    assert answer.status == int(status.split()[0])
    assert len(told.requests) == 1


def test_retry_after_is_told_as_received() -> None:
    answer, _ = send(answering(response("503 Busy", headers="Retry-After: 120\r\n")))

    assert answer.retry_after == "120"


def test_a_connection_is_kept_for_the_next_request() -> None:
    answers, told = asyncio.run(send_to(answering(response("200 OK")), times=3))

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert told.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_attempt() -> None:
    async def answer_once(told: Receiver, reader: Reader, writer: Writer) -> None:
        """Says that it keeps the connection, and closes it when the next request comes."""
        await answering(response("200 OK"), then=wait_for_more)(told, reader, writer)

    async def wait_for_more(reader: Reader, _: Writer) -> None:
        await reader.read(1)

    answers, told = asyncio.run(send_to(answer_once, times=2))

    assert [answer.status for answer in answers] == [200, 200]
    assert told.connections == 2


def test_cookies_of_one_answer_do_not_come_with_the_next_request() -> None:
    _, told = asyncio.run(send_to(answering(response("200 OK", headers="Set-Cookie: a=b\r\n")), times=2))

    assert told.header("cookie", request=1) is None


def test_a_receiver_that_never_answers_is_cut_off() -> None:
    async def hang(told: Receiver, reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(60)

    answer, _ = send(hang)

    assert (answer.status, answer.error) == (None, "no answer within 0.5 s")


def test_a_body_of_a_byte_now_and_then_is_cut_off_and_the_status_stands() -> None:
    async def drip(_: Reader, writer: Writer) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    answer, _ = send(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", then=drip))

    assert (answer.status, answer.error) == (200, None)
    assert set(answer.response) == {ord("x")}
    assert len(answer.response) < 100


def test_headers_of_a_byte_now_and_then_are_cut_off() -> None:
    async def drip(told: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    answer, _ = send(drip)

    assert (answer.status, answer.error) == (None, "no answer within 0.5 s")


def test_of_an_endless_body_16_kib_are_kept_and_little_more_is_read() -> None:
    written = 0

    async def pour(_: Reader, writer: Writer) -> None:
        nonlocal written
        while True:
            writer.write(b"y" * 65_536)
            written += 65_536
            await writer.drain()

    answer, _ = send(answering(b"HTTP/1.1 200 OK\r\n\r\n", then=pour))

    assert (answer.status, answer.response) == (200, b"y" * KEPT_BYTES)
    # what the two sockets hold, and not gigabytes
    assert written < 20_000_000


def test_a_long_body_that_ends_is_kept_in_part() -> None:
    answer, _ = send(answering(response("200 OK", body=b"z" * 40_000)))

    assert answer.response == b"z" * KEPT_BYTES


def test_a_compressed_bomb_is_not_unpacked() -> None:
    answer, told = send(answering(response("200 OK", headers="Content-Encoding: gzip\r\n", body=b"\x1f\x8bnonsense")))

    assert (answer.status, answer.response) == (200, b"\x1f\x8bnonsense")
    assert told.header("accept-encoding") == "identity"


def test_endless_headers_are_cut_off() -> None:
    async def pour(told: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: and more\r\n" * 1_000)
            await writer.drain()

    answer, _ = send(pour)

    assert answer.status is None
    assert answer.error is not None


def test_one_endless_header_is_cut_off() -> None:
    async def pour(told: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    answer, _ = send(pour)

    assert answer.status is None
    assert answer.error is not None
    assert len(answer.error) <= 303


def test_a_reset_in_mid_request_is_told() -> None:
    async def reset(told: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.read(10)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    answer, told = send(reset)

    assert (answer.status, answer.error) == (None, "the connection broke: Connection reset by peer")
    assert told.connections == 1


def test_an_end_without_an_answer_is_told() -> None:
    async def end(told: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.read(10)

    answer, _ = send(end)

    assert (answer.status, answer.error) == (None, "the receiver closed the connection without an answer")


def test_a_reset_in_the_body_leaves_the_status() -> None:
    async def end(_: Reader, writer: Writer) -> None:
        writer.write(b"half")

    answer, _ = send(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", then=end))

    assert (answer.status, answer.error, answer.response) == (200, None, b"half")


def test_an_answer_that_is_not_http_is_told_in_one_line() -> None:
    answer, _ = send(answering(b"\x00\x01\x02 SSH-2.0\r\n\x1b[31mred\r\n\r\n"))

    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith("the answer is not HTTP")
    assert answer.error.isprintable()


def test_a_refused_connection_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = send_url(f"http://127.0.0.1:{port}/hook")

    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith("no connection: ")


def test_a_receiver_that_does_not_speak_tls_is_told() -> None:
    async def go() -> WebhookResponse:
        sender = make_sender()
        async with receiver(answering(response("200 OK"))) as told:
            try:
                return await sender.send(a_request(f"https://127.0.0.1:{told.port}/hook"))
            finally:
                await sender.close()

    answer = asyncio.run(go())

    assert answer.status is None
    assert answer.error is not None
    assert answer.error.isprintable()


def test_a_name_that_does_not_resolve_is_told() -> None:
    answer = send_url("http://nowhere.invalid/hook")

    assert (answer.status, answer.error) == (None, "the name nowhere.invalid cannot be resolved")


@pytest.mark.parametrize("url", ["http://", "http:///x", "ftp://example.org/x", "not a url", "http://a:99999/"])
def test_a_url_that_cannot_be_called_is_an_answer_too(url: str) -> None:
    answer = send_url(url)

    assert answer.status is None
    assert answer.error


def test_a_header_that_cannot_be_sent_is_an_answer_too() -> None:
    async def go() -> WebhookResponse:
        sender = make_sender()
        async with receiver(answering(response("200 OK"))) as told:
            try:
                return await sender.send(a_request(told.url, **{"X-TriggeredBy-Id": "a\r\nX-Evil: b"}))
            finally:
                await sender.close()

    answer = asyncio.run(go())

    assert answer.status is None
    assert answer.error


class Names(AbstractResolver):
    """Answers each look-up with the next addresses, and with the last ones for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "64:ff9b::7f00:1"]
)
def test_an_address_that_is_not_allowed_is_refused_when_it_is_about_to_be_called(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    for answer in (
        send_url(f"http://{literal}/hook", allow_private=False),
        send_url("http://innocent.example/hook", allow_private=False, resolver=Names([address])),
    ):
        assert answer.status is None
        assert answer.error is not None
        refused, _, reason = answer.error.removeprefix("the address is not called: ").partition(" is ")
        assert ip_address(refused) == ip_address(address)
        assert reason


def test_several_addresses_that_are_not_allowed_are_refused() -> None:
    answer = send_url("http://x.example/", allow_private=False, resolver=Names(["10.0.0.1", "127.0.0.1", "::1"]))

    assert answer.error is not None
    assert answer.error.startswith("the address is not called: ")


def test_a_name_that_leads_elsewhere_after_registration_is_refused() -> None:
    """DNS rebinding: what the name led to when somebody looked does not count, only what is called."""

    async def go() -> tuple[WebhookResponse, int]:
        names = Names(["93.184.216.34"], ["127.0.0.1"])
        assert (await names.resolve("rebinding.example"))[0]["host"] == "93.184.216.34"
        sender = make_sender(allow_private=False, resolver=names)
        async with receiver(answering(response("200 OK"))) as told:
            try:
                answer = await sender.send(a_request(f"http://rebinding.example:{told.port}/hook"))
                return answer, told.connections
            finally:
                await sender.close()

    answer, connections = asyncio.run(go())

    assert answer.error == "the address is not called: 127.0.0.1 is a loopback address"
    assert connections == 0


def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")

    answer, _ = send(answering(response("200 OK")))

    assert answer.status == 200


def test_a_webhook_whose_url_leads_to_a_private_address_is_not_registered() -> None:
    with pytest.raises(TargetRefused) as refused:
        UrlTargetPolicy().check("https://127.0.0.1/hook")

    assert [violation.pointer for violation in refused.value.violations] == ["/url"]
    assert refused.value.violations[0].message == str(refused.value)


def test_an_operator_may_allow_private_addresses() -> None:
    UrlTargetPolicy(allow_private=True).check("http://127.0.0.1:8000/hook")
