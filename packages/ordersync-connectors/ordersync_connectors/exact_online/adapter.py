"""Exact Online behind the core's ports."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import httpx
from attrs import evolve

from ordersync_connectors.exact_online.client import TIMEOUT, ExactClient, consent_url, request_tokens
from ordersync_connectors.exact_online.mapping import (
    DELETED_FIELDS,
    ITEM_ASPECTS,
    ITEM_FIELDS,
    is_deleted_item,
    source_record,
    timestamp,
    tombstone,
)
from ordersync_connectors.exact_online.settings import (
    HOSTS,
    SECRETS_SCHEMA,
    SETTINGS_SCHEMA,
    ExactSecrets,
    ExactSettings,
)
from ordersync_core.connections.model import TokenSet
from ordersync_core.connections.ports import (
    ConnectorDescription,
    CursorTooOld,
    OpenConnection,
    Source,
    SourcePage,
)
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.decoding import decode
from ordersync_core.kernel.errors import InvalidInput, Violation

T = TypeVar("T")

NAME = "exact_online"
CODES_PER_CALL = 25
"""Conditions joined by `or` in one filter; integrators keep it that small."""

FIRST_TIMESTAMP = 1

REMOVALS_ARE_TOLD_FOR = timedelta(days=50)
"""Exact Online keeps `sync/Deleted` for about two months."""


class ExactOnline:
    """The connector.

    allow_other_hosts: also call hosts that are not Exact's own, such as a sandbox.
    sleep: waits that many seconds, at most 61.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        allow_other_hosts: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> None:
        self._clock = clock
        self._allow_other_hosts = allow_other_hosts
        self._sleep = sleep
        self._timeout = timeout

    @property
    def description(self) -> ConnectorDescription:
        return ConnectorDescription(
            name=NAME,
            title="Exact Online",
            settings_schema=SETTINGS_SCHEMA,
            secrets_schema=SECRETS_SCHEMA,
            entities={"item": ITEM_ASPECTS},
        )

    def check(self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any]) -> None:
        violations = [*_violations(settings, ExactSettings, "/settings")]
        violations += _violations(secret_settings, ExactSecrets, "/secret_settings")
        if not violations and not self._allow_other_hosts:
            host = decode(dict(settings), ExactSettings).host
            if host not in HOSTS:
                violations.append(Violation("/settings/host", f"must be one of {', '.join(HOSTS)}"))
        if violations:
            first = violations[0]
            raise InvalidInput(f"{first.pointer} {first.message}", tuple(violations))

    def consent_url(
        self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any], *, state: str, redirect_uri: str
    ) -> str:
        exact = decode(dict(settings), ExactSettings)
        return consent_url(exact.host, client_id=exact.client_id, redirect_uri=redirect_uri, state=state)

    def exchange(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        *,
        code: str,
        redirect_uri: str,
        now: datetime,
    ) -> TokenSet:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return self._tokens(settings, secret_settings, form, now=now)

    def refresh(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        *,
        tokens: TokenSet,
        now: datetime,
    ) -> TokenSet:
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        return self._tokens(settings, secret_settings, form, now=now)

    def source(self, entity: str, connection: OpenConnection) -> Source:
        if entity != "item":
            raise InvalidInput(f"Exact Online supplies no {entity}s yet")
        exact = decode(dict(connection.settings), ExactSettings)
        client = ExactClient(
            exact.host,
            exact.division,
            access_token=connection.access_token,
            clock=self._clock,
            sleep=self._sleep,
            http=self._http(),
        )
        return ItemSource(client, self._clock)

    def _tokens(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        form: Mapping[str, str],
        *,
        now: datetime,
    ) -> TokenSet:
        exact = decode(dict(settings), ExactSettings)
        secret = decode(dict(secret_settings), ExactSecrets)
        app = {"client_id": exact.client_id, "client_secret": secret.client_secret}
        with self._http() as http:
            return request_tokens(http, exact.host, {**form, **app}, now=now)

    def _http(self) -> httpx.Client:
        return httpx.Client(timeout=self._timeout, follow_redirects=False, trust_env=False)


class ItemSource:
    """Items of one company: what changed by `sync/Logistics/Items`, what was removed by `sync/Deleted`."""

    def __init__(self, client: ExactClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        """The cursor holds the highest Timestamp of each of the two that was handed out so far, and the day on which
        the latest read began that brought all removals; of a first read, on which it began itself.

        Changes come first and removals after them; a removal of something that was made anew is told apart by its
        lower Timestamp.
        """
        today = self._clock.now().date()
        if cursor is not None and date.fromisoformat(cursor["read_on"]) < today - REMOVALS_ARE_TOLD_FOR:
            raise CursorTooOld(f"the items were last read on {cursor['read_on']}")
        first = {"items": FIRST_TIMESTAMP, "deleted": FIRST_TIMESTAMP, "read_on": today.isoformat()}
        place = first if cursor is None else dict(cursor)
        with self._client:
            yield from self._changed(place)
            yield from self._deleted(place)
        if place["read_on"] != today.isoformat():
            yield SourcePage(cursor=place | {"read_on": today.isoformat()})

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        with self._client:
            for first in range(0, len(codes), CODES_PER_CALL):
                asked = codes[first : first + CODES_PER_CALL]
                conditions = [f"Code eq {_quoted(code)}" for code in asked]
                parameters = {"$filter": " or ".join(conditions), "$select": ",".join(ITEM_FIELDS)}
                for rows in self._client.pages("logistics/Items", parameters):
                    yield _page(rows)
                yield SourcePage(answered=asked)

    def _changed(self, place: dict[str, Any]) -> Iterator[SourcePage]:
        parameters = _after(place["items"], ("Timestamp", *ITEM_FIELDS))
        for rows in self._client.pages("sync/Logistics/Items", parameters):
            page = _page(rows)
            place["items"] = max([place["items"], *(r.version for r in page.records if r.version is not None)])
            yield evolve(page, cursor=dict(place))

    def _deleted(self, place: dict[str, Any]) -> Iterator[SourcePage]:
        for rows in self._client.pages("sync/Deleted", _after(place["deleted"], DELETED_FIELDS)):
            tombstones, broken = _each(tombstone, [row for row in rows if is_deleted_item(row)])
            place["deleted"] = max([place["deleted"], *_each(timestamp, rows)[0]])
            yield SourcePage(tombstones=tombstones, broken=broken, cursor=dict(place))


def _after(timestamp: int, fields: Sequence[str]) -> dict[str, str]:
    return {"$filter": f"Timestamp gt {timestamp}L", "$select": ",".join(fields)}


def _quoted(code: str) -> str:
    return "'" + code.replace("'", "''") + "'"


def _page(rows: Sequence[Mapping[str, Any]]) -> SourcePage:
    records, broken = _each(source_record, rows)
    return SourcePage(records=records, broken=broken)


def _each(read: Callable[[Mapping[str, Any]], T], rows: Sequence[Mapping[str, Any]]) -> tuple[list[T], list[Any]]:
    """What the rows were read as, and those that could not be read, each with the reason."""
    values: list[T] = []
    broken: list[tuple[Any, str]] = []
    for row in rows:
        try:
            values.append(read(row))
        except InvalidInput as error:
            broken.append((row, str(error)))
    return values, broken


def _violations(value: Mapping[str, Any], kind: type[Any], pointer: str) -> tuple[Violation, ...]:
    try:
        decode(dict(value), kind)
    except InvalidInput as error:
        return tuple(Violation(pointer + violation.pointer, violation.message) for violation in error.violations)
    return ()
