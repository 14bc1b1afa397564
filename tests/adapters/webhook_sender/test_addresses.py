import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from ordersync_adapters.webhook_sender.addresses import (
    REFUSED,
    Resolve,
    TargetRefused,
    check_url,
    checking_socket_factory,
    refuse,
)

PUBLIC = "93.184.215.14"
ipv4 = st.ip_addresses(v=4)
ipv6 = st.ip_addresses(v=6)


def leads_to(*addresses: str) -> Resolve:
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


def leads_nowhere(*_: object, **__: object) -> list[tuple[Any, ...]]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def refusal(url: str, *, allow_private: bool = False, resolve: Resolve | None = None) -> str:
    with pytest.raises(TargetRefused) as refused:
        check_url(url, allow_private=allow_private, resolve=resolve or leads_to(PUBLIC))
    return str(refused.value)


class TestRefuse:
    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("0.0.0.0", "the unspecified address"),
            ("0.1.2.3", "an address of this network"),
            ("10.255.255.255", "a private address"),
            ("100.64.0.1", "a shared address of a provider"),
            ("100.127.255.255", "a shared address of a provider"),
            ("100.100.100.200", "a cloud's metadata address"),
            ("127.0.0.1", "a loopback address"),
            ("127.255.255.254", "a loopback address"),
            ("168.63.129.16", "a cloud's metadata address"),
            ("169.254.169.254", "a cloud's metadata address"),
            ("169.254.1.1", "a link-local address"),
            ("172.16.0.1", "a private address"),
            ("172.31.255.255", "a private address"),
            ("192.0.0.8", "a reserved address"),
            ("192.0.2.1", "an address for documentation"),
            ("192.88.99.1", "a 6to4 relay's address"),
            ("192.168.1.1", "a private address"),
            ("198.18.0.1", "an address for benchmarks"),
            ("198.19.255.255", "an address for benchmarks"),
            ("198.51.100.1", "an address for documentation"),
            ("203.0.113.1", "an address for documentation"),
            ("224.0.0.1", "a multicast address"),
            ("240.0.0.1", "a reserved address"),
            ("255.255.255.255", "the broadcast address"),
            ("::", "the unspecified address"),
            ("::1", "a loopback address"),
            ("::ffff:8.8.8.8", "an IPv4-mapped address"),
            ("::ffff:0:8.8.8.8", "an IPv4-translated address"),
            ("::8.8.8.8", "an IPv4-compatible address"),
            ("64:ff9b::7f00:1", "a NAT64 address"),
            ("64:ff9b:1::1", "a NAT64 address"),
            ("100::1", "a reserved address"),
            ("2001::1", "a Teredo address"),
            ("2001:2::1", "a reserved address"),
            ("2001:db8::1", "an address for documentation"),
            ("2002:7f00:1::", "a 6to4 address"),
            ("3fff::1", "an address for documentation"),
            ("5f00::1", "a reserved address"),
            ("fd00:ec2::254", "a cloud's metadata address"),
            ("fd20:ce::254", "a cloud's metadata address"),
            ("fd12::1", "a private address"),
            ("fe80::1", "a link-local address"),
            ("fe80::1%eth0", "a link-local address"),
            ("fec0::1", "a site-local address"),
            ("ff02::1", "a multicast address"),
            ("localhost", "no IP address"),
            ("", "no IP address"),
            ("2130706433", "no IP address"),
        ],
    )
    def test_says_what_is_wrong_with_it(self, address: str, reason: str) -> None:
        assert refuse(address) == reason

    @pytest.mark.parametrize(
        "address",
        [
            *("8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
            *("172.15.255.255", "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
            *("2001:200::1", "2003::1", "2606:4700::1111", "2a00:1450::1"),
        ],
    )
    def test_calls_what_is_public(self, address: str) -> None:
        assert refuse(address) is None

    @given(st.one_of(ipv4, ipv6))
    def test_is_stricter_than_the_standard_library(self, address: IPv4Address | IPv6Address) -> None:
        if refuse(str(address)) is None:
            assert address.is_global

    @pytest.mark.parametrize("network", [network for network, _ in REFUSED], ids=str)
    def test_refuses_each_network_from_end_to_end(self, network: Any) -> None:
        assert refuse(str(network[0])) is not None
        assert refuse(str(network[-1])) is not None

    @given(ipv4, st.integers(0, 2**32 - 1))
    def test_refuses_every_way_to_put_ipv4_into_ipv6(self, inside: IPv4Address, rest: int) -> None:
        number = int(inside)
        for whole in (
            0xFFFF << 32 | number,
            0xFFFF << 48 | number,
            number,
            0x64FF9B << 96 | number,
            0x64FF9B0001 << 80 | rest << 32 | number,
            0x2002 << 112 | number << 80 | rest,
            0x20010000 << 96 | rest << 32 | number,
        ):
            assert refuse(str(IPv6Address(whole))) is not None


class TestCheckUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com",
            "HTTPS://Example.com:8443/hooks?a=b",
            "https://example.com./",
            f"https://{PUBLIC}/",
            "https://[2606:4700::1111]:8443/",
        ],
    )
    def test_takes_public_https(self, url: str) -> None:
        check_url(url, allow_private=False, resolve=leads_to(PUBLIC, "2606:4700::1111"))

    @pytest.mark.parametrize("url", ["http://localhost:8080/", "https://10.0.0.1/", "http://[::1]:80/", "http://hook/"])
    def test_takes_anything_callable_where_private_is_allowed(self, url: str) -> None:
        check_url(url, allow_private=True, resolve=leads_nowhere)

    @pytest.mark.parametrize("url", ["http://example.com/", "ftp://example.com/", "example.com", "//example.com", ""])
    def test_wants_https(self, url: str) -> None:
        assert refusal(url) == "the URL must start with https://"

    def test_wants_http_or_https_where_private_is_allowed(self) -> None:
        assert refusal("file:///etc/passwd", allow_private=True) == "the URL must start with https:// or http://"

    @pytest.mark.parametrize("url", ["https://a@example.com/", "https://a:b@example.com/", "https://@example.com/"])
    def test_wants_no_user(self, url: str) -> None:
        assert refusal(url) == "the URL must not hold a user or a password"

    @pytest.mark.parametrize("url", ["https://", "https:///path", "https://./", "https://:443/"])
    def test_wants_a_host(self, url: str) -> None:
        assert refusal(url) == "the URL has no host"

    @pytest.mark.parametrize(
        "url",
        [
            "https://exa mple.com/",
            "https://example.com/\n",
            "https://a\tb/",
            "https://evil\\@10.0.0.1/",
            "https://a\0b/",
        ],
    )
    def test_wants_no_characters_that_parsers_read_differently(self, url: str) -> None:
        assert refusal(url) == "the URL must not hold blanks, control characters or backslashes"

    @pytest.mark.parametrize(
        "url",
        [
            "https://[::1",
            "https://[::1]x/",
            "https://[fe80::1%25eth0]/",
            "https://127.0.0.1%00.example.com/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:port/",
        ],
    )
    def test_refuses_what_is_malformed(self, url: str) -> None:
        assert refusal(url).startswith("the URL is malformed: ")

    @pytest.mark.parametrize(
        "host",
        [
            *("2130706433", "0x7f000001", "017700000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "127.0.0.1."),
            *("0X7F.0.0.1", "0", "127.0.0.01"),
        ],
    )
    @pytest.mark.parametrize("allow_private", [False, True])
    def test_refuses_unusual_spellings_of_an_address(self, host: str, allow_private: bool) -> None:
        meant = socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
        assert refusal(f"https://{host}/", allow_private=allow_private) == (
            f"the URL writes an address in an unusual way; write {meant}"
        )

    @pytest.mark.parametrize(
        ("host", "text"),
        [
            ("127.0.0.1", "127.0.0.1, a loopback address"),
            ("169.254.169.254", "169.254.169.254, a cloud's metadata address"),
            ("[::1]", "::1, a loopback address"),
            ("[::ffff:127.0.0.1]", "::ffff:7f00:1, an IPv4-mapped address"),
            ("[0:0:0:0:0:ffff:7f00:1]", "::ffff:7f00:1, an IPv4-mapped address"),
            ("[FD00:EC2::254]", "fd00:ec2::254, a cloud's metadata address"),
        ],
    )
    def test_refuses_an_address_that_is_not_called(self, host: str, text: str) -> None:
        assert refusal(f"https://{host}/") == f"the URL leads to {text}, which is not called"

    def test_refuses_a_name_when_any_of_its_addresses_is_not_called(self) -> None:
        text = refusal("https://example.com/", resolve=leads_to(PUBLIC, "10.0.0.7"))
        assert text == "the URL leads to 10.0.0.7, a private address, which is not called"

    def test_refuses_a_name_that_leads_nowhere(self) -> None:
        assert refusal("https://nowhere.example/", resolve=leads_nowhere) == (
            "the URL's host nowhere.example does not resolve"
        )

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "１２７.0.0.1", "ⓛocalhost"])
    def test_the_systems_own_resolver_finds_loopback(self, host: str) -> None:
        assert "a loopback address" in refusal(f"https://{host}/", resolve=socket.getaddrinfo)

    @pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".example"])
    def test_a_name_that_cannot_be_encoded_does_not_resolve(self, host: str) -> None:
        assert refusal(f"https://{host}/", resolve=socket.getaddrinfo).endswith("does not resolve")

    @given(st.text(max_size=80), st.booleans())
    def test_takes_or_refuses_any_text(self, text: str, allow_private: bool) -> None:
        for url in (text, f"https://{text}", f"https://[{text}]/"):
            try:
                check_url(url, allow_private=allow_private, resolve=leads_to(PUBLIC))
            except TargetRefused:
                continue

    @given(st.one_of(ipv4, ipv6))
    def test_a_literal_and_a_name_for_it_are_judged_alike(self, address: IPv4Address | IPv6Address) -> None:
        host = f"[{address}]" if address.version == 6 else str(address)
        for url, resolve in ((f"https://{host}/", leads_nowhere), ("https://name/", leads_to(str(address)))):
            if refuse(str(address)) is None:
                check_url(url, allow_private=False, resolve=resolve)
            else:
                assert str(refuse(str(address))) in refusal(url, resolve=resolve)


class Receiver:
    """A real server on 127.0.0.1 that counts what reaches it."""

    def __init__(self) -> None:
        self.connections = 0
        self.paths: list[str] = []
        self.port = 0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.paths.append(request.path)
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{self.port}/elsewhere"})
        return web.Response(text="taken")


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = web.Server(receiver.answer)

    def connected() -> asyncio.Protocol:
        receiver.connections += 1
        return server()

    listening = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    receiver.port = listening.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        listening.close()
        await server.shutdown(1)
        await listening.wait_closed()


class Rebinding(AbstractResolver):
    """A name server whose answers differ from one question to the next; the last is repeated."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    def look_up(self, host: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        """What `socket.getaddrinfo` would answer."""
        answer = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answer]

    async def close(self) -> None:
        pass


def post(
    path: str = "/", *, host: str = "receiver.example", resolver: Rebinding | None = None, allow_private: bool = False
) -> tuple[int | None, BaseException | None, Receiver]:
    """The status or the failure of one request to a real receiver, and what reached it."""

    async def run() -> tuple[int | None, BaseException | None, Receiver]:
        connector = aiohttp.TCPConnector(
            resolver=resolver or Rebinding(["127.0.0.1"]),
            socket_factory=checking_socket_factory(allow_private=allow_private),
        )
        async with receiving() as receiver, aiohttp.ClientSession(connector=connector) as session:
            url = f"http://{host}:{receiver.port}{path}"
            try:
                async with session.post(url, data=b"{}", allow_redirects=False) as response:
                    return response.status, None, receiver
            except aiohttp.ClientConnectorError as error:
                return None, error.os_error, receiver

    return asyncio.run(run())


class TestConnecting:
    def test_an_address_that_may_be_called_is_reached(self) -> None:
        status, error, receiver = post(allow_private=True)
        assert (status, error) == (200, None)
        assert (receiver.connections, receiver.paths) == (1, ["/"])

    def test_a_name_that_leads_to_loopback_is_not_connected(self) -> None:
        status, error, receiver = post()
        assert status is None
        assert isinstance(error, TargetRefused)
        assert str(error) == "127.0.0.1 is a loopback address"
        assert receiver.connections == 0

    @pytest.mark.parametrize(
        ("host", "address"),
        [("127.0.0.1", "127.0.0.1"), ("[::ffff:127.0.0.1]", "::ffff:7f00:1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0")],
    )
    def test_an_address_in_the_url_is_not_connected(self, host: str, address: str) -> None:
        _, error, receiver = post(host=host)
        assert isinstance(error, TargetRefused)
        assert ip_address(str(error).split()[0]) == ip_address(address)
        assert receiver.connections == 0

    def test_a_name_rebound_after_registration_is_not_connected(self) -> None:
        resolver = Rebinding([PUBLIC], ["127.0.0.1"])
        check_url("https://receiver.example/", allow_private=False, resolve=resolver.look_up)
        _, error, receiver = post(resolver=resolver)
        assert isinstance(error, TargetRefused)
        assert receiver.connections == 0

    def test_none_of_several_refused_addresses_is_connected(self) -> None:
        _, error, receiver = post(resolver=Rebinding(["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254"]))
        assert isinstance(error, TargetRefused)
        assert receiver.connections == 0

    def test_a_redirect_is_an_answer_and_is_not_followed(self) -> None:
        status, _, receiver = post("/away", allow_private=True)
        assert status == 302
        assert receiver.paths == ["/away"]
