"""The keys of an issuer elsewhere, by its JSON Web Key Set over HTTP."""

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ordersync_adapters.tokens.keys import KeySet, key_set
from ordersync_core.kernel.errors import InvalidInput, TemporaryFailure

LIFETIME = timedelta(minutes=10)
"""How old the set may get before it is fetched again: so long a withdrawn key is still believed."""

PAUSE = timedelta(seconds=30)
"""The least time between two fetches, so that tokens with made-up key ids do not become a flood at the issuer."""

TIMEOUT = timedelta(seconds=5)
LARGEST_ANSWER = 1_000_000

_log = logging.getLogger(__name__)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class JwksKeys:
    """Fetched by the first thread that needs it; meanwhile the others go on with the set from before.

    A fetch that fails leaves the old set in use. Safe for use by many threads.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """InvalidInput for a URL that is neither https nor on this machine."""
        self._url = _checked(url)
        self._monotonic = monotonic
        self._opener = build_opener(_NoRedirects)
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")

    def current(self) -> KeySet:
        return self._keys_not_older_than(LIFETIME)

    def renewed(self) -> KeySet:
        return self._keys_not_older_than(PAUSE)

    def _keys_not_older_than(self, age: timedelta) -> KeySet:
        keys = self._keys
        if keys is None or self._monotonic() - self._fetched_at >= age.total_seconds():
            if self._lock.acquire(blocking=keys is None):
                try:
                    self._refresh(age)
                finally:
                    self._lock.release()
            keys = self._keys
        if keys is None:
            raise TemporaryFailure("the keys of the token issuer cannot be fetched", retry_after=PAUSE)
        return keys

    def _refresh(self, age: timedelta) -> None:
        now = self._monotonic()
        if now - self._fetched_at < age.total_seconds() or now - self._tried_at < PAUSE.total_seconds():
            return
        self._tried_at = now
        try:
            fetched = self._fetch()
        except Exception as error:
            # also what its HTTP is no HTTP for, and JSON that is nested too deep: who checks a token can do nothing
            _log.warning("the keys of the token issuer cannot be fetched: %s %s", type(error).__name__, error)
            return
        self._fetched_at = self._monotonic()
        if fetched != self._keys:
            self._keys = fetched

    def _fetch(self) -> KeySet:
        request = Request(self._url, headers={"Accept": "application/json"})
        with self._opener.open(request, timeout=TIMEOUT.total_seconds()) as answer:
            text = answer.read(LARGEST_ANSWER + 1)
        if len(text) > LARGEST_ANSWER:
            raise ValueError("the answer is too long")
        keys = key_set(json.loads(text))
        if not keys.keys:
            raise ValueError("the answer holds no usable key")
        return keys


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname and _is_this_machine(parts.hostname):
        return url
    raise InvalidInput("the address of the token issuer's keys must begin with https://")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
