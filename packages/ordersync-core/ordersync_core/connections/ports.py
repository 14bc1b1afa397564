from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self
from uuid import UUID

import orjson
from attrs import field, frozen

from ordersync_core.connections.model import AuthorisationState, Connection, TokenSet
from ordersync_core.kernel.canonical import spelling
from ordersync_core.kernel.errors import InvalidInput, PermanentFailure
from ordersync_core.kernel.unit_of_work import AdminUnitOfWork, Queries, UnitOfWork


class ConsentLost(PermanentFailure):
    """The authorisation server refuses our refresh token: only a person's new consent helps."""


class NotExpired(PermanentFailure):
    """The authorisation server says that the present access token still holds: keep using it."""


class CursorTooOld(PermanentFailure):
    """The source may have forgotten what it removed since the cursor: only reading everything tells what is gone."""


class ConnectionRepository(Protocol):
    def add(self, connection: Connection) -> None: ...

    def find(self, id: UUID) -> Connection | None:
        """Locked."""
        ...

    def all(self) -> list[Connection]: ...

    def save(self, connection: Connection) -> None: ...

    def flows_of(self, id: UUID) -> Sequence[str]:
        """The kinds of the flows that read over it."""
        ...

    def delete(self, id: UUID) -> None:
        """With its cursors, raw records and tombstones; what was built from them stays."""
        ...


class ConnectionsUnitOfWork(UnitOfWork, Protocol):
    @property
    def connections(self) -> ConnectionRepository: ...


class AuthorisationStateRepository(Protocol):
    def add(self, state: AuthorisationState) -> None: ...

    def take(self, id: UUID) -> AuthorisationState | None:
        """Remove and answer it: it can be used once."""
        ...


class AuthorisationUnitOfWork(AdminUnitOfWork, Protocol):
    @property
    def authorisation_states(self) -> AuthorisationStateRepository: ...


class ConnectionQueries(Queries, Protocol):
    def connections(self) -> Sequence[Connection]: ...

    def connection(self, id: UUID) -> Connection | None: ...


class SourceRecord(NamedTuple):
    """A record as the source sent it: a tuple with a text in it. A read of everything makes one for each record, and of
    most it only needs to be seen that they are spelled as they were.

    key: the source's own key, stable when the code changes.
    version: rises with each change at the source; None when the source has none.
    spelled: the record as JSON, by `kernel.canonical.spelling`.
    """

    key: str
    version: int | None
    spelled: str

    @classmethod
    def of(cls, *, key: str, version: int | None, raw: Mapping[str, Any]) -> Self:
        """Raises InvalidInput for a record that JSON does not know."""
        try:
            return cls(key, version, spelling(raw))
        except TypeError as error:
            raise InvalidInput(f"the record cannot be kept as JSON: {error}") from error

    @property
    def raw(self) -> dict[str, Any]:
        """Decoded each time."""
        raw: dict[str, Any] = orjson.loads(self.spelled)
        return raw


@frozen(kw_only=True)
class Tombstone:
    """The source says that it removed the record. `version` is comparable with `SourceRecord.version`."""

    key: str
    version: int | None


@frozen(kw_only=True)
class SourcePage:
    """What one call brought.

    cursor: where to go on after this page; None when this kind of read has no cursor.
    broken: entries that could not even be told apart, each with the reason: they go to quarantine.
    answered: in a read of named records, the codes of which all has been brought with this page, found or not.
    """

    records: Sequence[SourceRecord] = ()
    tombstones: Sequence[Tombstone] = ()
    broken: Sequence[tuple[Any, str]] = ()
    answered: Sequence[str] = ()
    cursor: Mapping[str, Any] | None = None


class Source(Protocol):
    """One entity of one connection, ready to be read."""

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        """All changes after `cursor`, oldest first; None reads everything from the beginning.

        Raises:
            CursorTooOld: before anything was read.
            TemporaryFailure: worth another attempt; `retry_after` over 60 s means that the run should wait.
            PermanentFailure: another attempt would fail the same way.
        """
        ...

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        """The present records of these codes; the pages have no cursor. A code the source does not know is left out."""
        ...


@frozen(kw_only=True)
class ConnectorDescription:
    """What a connector can do.

    settings_schema, secrets_schema: JSON Schema (2020-12) of what a connection needs, rendered by the App.
    entities: for each entity it reads, the aspects it can supply.
    """

    name: str
    title: str
    settings_schema: Mapping[str, Any]
    secrets_schema: Mapping[str, Any]
    entities: Mapping[str, tuple[str, ...]]


@frozen(kw_only=True)
class OpenConnection:
    """A connection as its connector sees it: settings in the clear, and a way to a valid access token.

    access_token: gives one that holds for at least 30 s more; called before each request.
    """

    id: UUID
    settings: Mapping[str, Any]
    secret_settings: Mapping[str, Any] = field(repr=False)
    access_token: Callable[[], str]


class Connector(Protocol):
    """Code that talks to one external system."""

    @property
    def description(self) -> ConnectorDescription: ...

    def check(self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any]) -> None:
        """InvalidInput with every violation."""
        ...

    def consent_url(
        self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any], *, state: str, redirect_uri: str
    ) -> str: ...

    def exchange(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        *,
        code: str,
        redirect_uri: str,
        now: datetime,
    ) -> TokenSet: ...

    def refresh(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        *,
        tokens: TokenSet,
        now: datetime,
    ) -> TokenSet:
        """The next token set.

        Raises:
            ConsentLost: the refresh token is spent or unknown.
            NotExpired: too early; the present access token holds.
            TemporaryFailure: nobody knows yet.
        """
        ...

    def source(self, entity: str, connection: OpenConnection) -> Source: ...


class Connectors(Protocol):
    def __getitem__(self, name: str) -> Connector:
        """KeyError for an unknown one."""
        ...

    def names(self) -> Sequence[str]: ...
