"""Which addresses OrderSync calls for a customer: an explicit table, because `is_global` lets some through.

Prefixes that carry an IPv4 address inside (IPv4-mapped, IPv4-compatible, 6to4, NAT64, Teredo) are refused wholly:
what they lead to is decided by a translator that OrderSync does not know, so nothing is read out of them.
"""

import re
import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiohttp import AddrInfoType, SocketFactoryType

_METADATA = "a cloud's metadata address"
_RESERVED = "a reserved address"
_DOCUMENTATION = "an address for documentation"

REFUSED = tuple(
    (ip_network(network), reason)
    for network, reason in (
        # metadata first, so that the plainest reason is given
        ("169.254.169.254/32", _METADATA),
        ("169.254.170.2/32", _METADATA),  # AWS, containers
        ("100.100.100.200/32", _METADATA),  # Alibaba Cloud
        ("168.63.129.16/32", _METADATA),  # Azure's platform, looks public
        ("192.0.0.192/32", _METADATA),  # Oracle Cloud
        ("fd00:ec2::/32", _METADATA),  # AWS
        ("fd20:ce::254/128", _METADATA),  # Google Cloud
        # IPv4: the registry of special-purpose addresses, RFC 6890 and its updates
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a shared address of a provider"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", _RESERVED),
        ("192.0.2.0/24", _DOCUMENTATION),
        ("192.88.99.0/24", "a 6to4 relay's address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", _DOCUMENTATION),
        ("203.0.113.0/24", _DOCUMENTATION),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", _RESERVED),
        # IPv6
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", _RESERVED),
        ("2001:db8::/32", _DOCUMENTATION),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", _DOCUMENTATION),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
        # all the rest outside 2000::/3 is not given out
        ("::/3", _RESERVED),
        ("4000::/2", _RESERVED),
        ("8000::/1", _RESERVED),
    )
)
"""The networks that are not called, and what an address in them is; the first that fits gives the reason."""

_BRACKETED = re.compile(r"\[[^\[\]]*\](:[0-9]*)?")

Resolve = Callable[..., list[tuple[Any, ...]]]


class TargetRefused(OSError):
    """The URL, or the address that its name leads to, is not called; the text is one sentence that says why."""


def refuse(address: str) -> str | None:
    """Why this address is not called, such as "a private address"; None for one that may be.

    A zone (`fe80::1%eth0`) is ignored. Text that is no address is refused as such.
    """
    try:
        return _reason(ip_address(address.partition("%")[0]))
    except ValueError:
        return "no IP address"


def check_url(url: str, *, allow_private: bool, resolve: Resolve = socket.getaddrinfo) -> None:
    """Refuse a URL when a person registers it. Passing does not make it safe for ever: a name may lead elsewhere
    later, and `checking_socket_factory` looks again at each connection.

    It must be https, without user and password, with a host that is an address in its usual spelling or a name; all
    addresses that the name leads to now must be callable, so a name that leads nowhere is refused. Any port will do.
    With `allow_private` http will do too, and names are not looked up at all.

    Raises:
        TargetRefused
    """
    parts = _parts(url)
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes:
        raise TargetRefused(f"the URL must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if parts.username is not None or parts.password is not None:
        raise TargetRefused("the URL must not hold a user or a password")
    host = _host(parts)
    for address in _literal(host) or ([] if allow_private else _resolved(host, resolve)):
        reason = None if allow_private else refuse(address)
        if reason is not None:
            raise TargetRefused(f"the URL leads to {address}, {reason}, which is not called")


def checking_socket_factory(allow_private: bool) -> SocketFactoryType:
    """For `aiohttp.TCPConnector(socket_factory=...)`: opens a socket for a resolved address that may be called.

    The factory raises TargetRefused for any other; aiohttp wraps it as the `os_error` of a ClientConnectorError.
    """

    def open_socket(target: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, destination = target
        address = str(destination[0])
        reason = None if allow_private else refuse(address)
        if reason is not None:
            raise TargetRefused(f"{address} is {reason}")
        return socket.socket(family=family, type=kind, proto=protocol)

    return open_socket


@lru_cache(maxsize=4096)
def _reason(address: IPv4Address | IPv6Address) -> str | None:
    for network, reason in REFUSED:
        if address.version == network.version and address in network:
            return reason
    return None


def _parts(url: str) -> SplitResult:
    """What parsers disagree on is refused first: blanks, control characters, and backslashes read as slashes."""
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise TargetRefused("the URL must not hold blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetRefused(f"the URL is malformed: {error}") from None
    if port == 0:
        raise TargetRefused("the URL is malformed: port 0 cannot be called")
    return parts


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host.strip("."):
        raise TargetRefused("the URL has no host")
    if "%" in host or ("]" in parts.netloc and not _BRACKETED.fullmatch(parts.netloc)):
        raise TargetRefused("the URL is malformed: its host is neither a name nor an address")
    return host


def _literal(host: str) -> list[str]:
    """The address that a host spells out; nothing for a name.

    The C library also takes 2130706433, 0x7f.1 and 0177.0.0.1 for 127.0.0.1; nobody writes a URL so in good faith,
    and aiohttp calls none that it sees through.
    """
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    try:
        meant = socket.inet_ntoa(socket.inet_aton(host.removesuffix(".")))
    except (OSError, ValueError):
        return []
    raise TargetRefused(f"the URL writes an address in an unusual way; write {meant}")


def _resolved(host: str, resolve: Resolve) -> list[str]:
    try:
        entries = resolve(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        entries = []
    if not entries:
        raise TargetRefused(f"the URL's host {host} does not resolve")
    return sorted({str(entry[4][0]) for entry in entries})
