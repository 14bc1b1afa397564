"""What lies outside: the source system, and the endpoints that receive webhooks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import orjson
from attrs import define, evolve, field, frozen

from ordersync_core.connections.model import TokenSet
from ordersync_core.connections.ports import (
    ConnectorDescription,
    ConsentLost,
    OpenConnection,
    SourcePage,
    SourceRecord,
    Tombstone,
)
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.localised import localised_text
from ordersync_core.testing.simulation.scheduler import Scheduler
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse
from ordersync_core.webhooks.signing import SignatureRefused, verify

PAGE: Final = 3
CONNECTOR: Final = "simulated"


@frozen(kw_only=True)
class Row:
    """A row of the source. `name` None: the row cannot be mapped."""

    key: str
    version: int
    code: str
    name: str | None
    deleted: bool = False


@define(eq=False)
class Catalogue:
    """The source system's own truth. Each change takes the next version."""

    rows: dict[str, Row] = field(factory=dict)
    version: int = 0

    def put(self, key: str, code: str, name: str | None) -> None:
        self.version += 1
        self.rows[key] = Row(key=key, version=self.version, code=code, name=name)

    def delete(self, key: str) -> None:
        if key in self.rows and not self.rows[key].deleted:
            self.version += 1
            self.rows[key] = evolve(self.rows[key], version=self.version, deleted=True)

    def after(self, version: int) -> list[Row]:
        return sorted((row for row in self.rows.values() if row.version > version), key=lambda row: row.version)

    def items(self) -> dict[str, str]:
        """The names of the items that a perfect copy holds, by code."""
        return {row.code: row.name for row in self.rows.values() if not row.deleted and row.name is not None}


ACCESS_LASTS: Final = timedelta(minutes=10)


@define(eq=False)
class AuthorisationServer:
    """Gives pairs of tokens; a refresh token is good for one use.

    spent: how often one was presented that had been used before.
    """

    scheduler: Scheduler
    given: int = 0
    spent: int = 0

    def give(self) -> TokenSet:
        self.given += 1
        now = self.scheduler.now
        return TokenSet(
            access_token=f"access {self.given}",
            refresh_token=f"refresh {self.given}",
            obtained_at=now,
            expires_at=now + ACCESS_LASTS,
        )

    def refresh(self, tokens: TokenSet) -> TokenSet:
        if tokens.refresh_token != f"refresh {self.given}":
            self.spent += 1
            raise ConsentLost("the refresh token was used before")
        return self.give()


@define(eq=False)
class CatalogueSource:
    catalogue: Catalogue
    scheduler: Scheduler
    random: Random
    access_token: Callable[[], str]

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        version = 0 if cursor is None else int(cursor["version"])
        begun_at = self.catalogue.version if cursor is None else version
        while rows := self.catalogue.after(version)[:PAGE]:
            self._take_time()
            version = rows[-1].version
            gone = [row for row in rows if row.deleted and row.version > begun_at]
            yield SourcePage(
                records=[_record(row) for row in rows if not row.deleted],
                tombstones=[Tombstone(key=row.key, version=row.version) for row in gone],
                cursor={"version": version},
            )

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        self._take_time()
        wanted = set(codes)
        rows = [row for row in self.catalogue.after(0) if row.code in wanted and not row.deleted]
        yield SourcePage(records=[_record(row) for row in rows])

    def _take_time(self) -> None:
        """Mostly quick; sometimes longer than a lease lasts."""
        self.access_token()
        self.scheduler.sleep(timedelta(seconds=self.random.choice((0.1, 0.2, 0.5, 2.0, 45.0))))


def _record(row: Row) -> SourceRecord:
    return SourceRecord.of(key=row.key, version=row.version, raw={"Code": row.code, "Name": row.name})


@define(eq=False)
class CatalogueConnector:
    """Connectors and mappings at once: there is one external system."""

    catalogue: Catalogue
    server: AuthorisationServer
    scheduler: Scheduler
    random: Random
    description: ConnectorDescription = ConnectorDescription(
        name=CONNECTOR, title="Simulated", settings_schema={}, secrets_schema={}, entities={"item": ("name",)}
    )

    def __getitem__(self, _: str) -> "CatalogueConnector":
        return self

    def names(self) -> Sequence[str]:
        return (CONNECTOR,)

    def check(self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any]) -> None: ...

    def consent_url(self, *_: Any, state: str, redirect_uri: str) -> str:
        return f"{redirect_uri}?state={state}"

    def exchange(self, *_: Any, **__: Any) -> TokenSet:
        return self.server.give()

    def refresh(self, *_: Any, tokens: TokenSet, now: datetime) -> TokenSet:
        self.scheduler.sleep(timedelta(seconds=self.random.choice((0.1, 0.3, 20.0))))
        return self.server.refresh(tokens)

    def source(self, entity: str, connection: OpenConnection) -> CatalogueSource:
        return CatalogueSource(self.catalogue, self.scheduler, self.random, connection.access_token)

    def item(self, _: str) -> Any:
        return item_of


def item_of(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> Item:
    if raw["Name"] is None:
        raise InvalidInput("it has no name")
    return Item(code=ItemCode(raw["Code"]), name=localised_text({"en": raw["Name"]}))


@frozen(kw_only=True)
class Receipt:
    """A request that reached an endpoint. `accepted`: it was answered with 2xx."""

    delivery: str
    event: str
    position: int
    attempt: int
    at: datetime
    body: bytes
    accepted: bool


@frozen
class Outage:
    begins: datetime
    ends: datetime
    hangs: bool


@define(eq=False)
class Endpoint:
    """A receiver. It checks each signature, and keeps all it gets.

    secrets: the valid signing secrets of its webhook.
    """

    url: str
    secrets: list[str] = field(factory=list)
    outages: list[Outage] = field(factory=list)
    receipts: list[Receipt] = field(factory=list)
    refused: list[str] = field(factory=list)

    def receive(self, request: WebhookRequest, at: datetime) -> int | None:
        """The status; None when it does not answer."""
        outage = next((outage for outage in self.outages if outage.begins <= at < outage.ends), None)
        if outage is not None and outage.hangs:
            return None
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            verify(self.secrets, headers, request.body, now=at)
        except SignatureRefused as error:
            self.refused.append(str(error))
        accepted = outage is None
        self.receipts.append(
            Receipt(
                delivery=str(request.delivery_id),
                event=headers["webhook-id"],
                position=int(headers["x-webhook-position"]),
                attempt=request.attempt,
                at=at,
                body=request.body,
                accepted=accepted,
            )
        )
        return 200 if accepted else 503

    def mirror(self) -> dict[str, str]:
        """The items that a consumer holds who applies what it was sent by its place in the administration's count."""
        held: dict[str, str] = {}
        for body in sorted({receipt.body for receipt in self.receipts if receipt.accepted}, key=_sequence):
            data = orjson.loads(body)["data"]
            if data["item"] is None:
                held.pop(data["code"], None)
            else:
                held[data["code"]] = data["item"]["name"]["en"]
        return held


def _sequence(body: bytes) -> int:
    return int(orjson.loads(body)["sequence"])


@define(eq=False)
class Network:
    """The way to the endpoints; a request that gets no answer takes 15 s."""

    endpoints: Mapping[str, Endpoint]
    scheduler: Scheduler
    random: Random
    sent: Callable[[WebhookRequest, bool], None]
    """Told each request that reached its endpoint, and whether it was accepted."""

    async def send(self, request: WebhookRequest) -> WebhookResponse:
        started_at = self.scheduler.now
        self._take(self.random.random() * 0.2)
        status = self.endpoints[request.url].receive(request, self.scheduler.now)
        self.sent(request, status == 200)
        self._take(15.0 if status is None else 0.05)
        return WebhookResponse(
            request=request,
            started_at=started_at,
            ended_at=self.scheduler.now,
            status=status,
            error="no answer within 15 s" if status is None else None,
        )

    def _take(self, seconds: float) -> None:
        self.scheduler.sleep(timedelta(seconds=seconds))

    def check(self, url: str) -> None:
        """Every address may be called."""
