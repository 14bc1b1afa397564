"""Connections: setting them up, a person's consent, and an access token that always holds."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import orjson
from attrs import evolve

from ordersync_core.connections.commands import (
    BeginAuthorisation,
    CompleteAuthorisation,
    CreateConnection,
    DeleteConnection,
    GetAccessToken,
    RenewConnections,
)
from ordersync_core.connections.model import (
    AuthorisationState,
    Connection,
    ConnectionState,
    TokenSet,
    is_fresh,
    is_unused_for_long,
    kept_in_use,
)
from ordersync_core.connections.ports import (
    AuthorisationUnitOfWork,
    ConnectionsUnitOfWork,
    Connector,
    Connectors,
    ConsentLost,
    NotExpired,
)
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import (
    ChangedMeanwhile,
    Conflict,
    InvalidInput,
    LeaseLost,
    NotFound,
    OrderSyncError,
    Stopping,
    TemporaryFailure,
    Violation,
)
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.lease import Lease
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.kernel.unit_of_work import Opens

K = TypeVar("K")

TRIES_TO_KEEP = 3


def create_connection(
    command: CreateConnection,
    *,
    uow: ConnectionsUnitOfWork,
    connectors: Connectors,
    secrets: Secrets,
    ids: Ids,
    clock: Clock,
) -> Connection:
    connector = _connector(connectors, command.connector)
    connector.check(command.settings, command.secret_settings)
    connection = Connection(
        id=ids.new(),
        connector=command.connector,
        name=command.name,
        settings=command.settings,
        secret_settings=secrets.encrypt(orjson.dumps(dict(command.secret_settings))),
        created_at=clock.now(),
    )
    with uow:
        uow.connections.add(connection)
        uow.commit()
    return connection


def delete_connection(command: DeleteConnection, *, uow: ConnectionsUnitOfWork) -> None:
    """Raises Conflict while a flow reads over it."""
    with uow:
        connection = _find(uow, command.id)
        flows = uow.connections.flows_of(command.id)
        if flows:
            raise Conflict(f"the {flows[0]} flow reads over {connection.name!r}: let it read over another one first")
        uow.connections.delete(command.id)
        uow.commit()


def begin_authorisation(
    command: BeginAuthorisation,
    *,
    uow: ConnectionsUnitOfWork,
    admin: AuthorisationUnitOfWork,
    connectors: Connectors,
    secrets: Secrets,
    ids: Ids,
    clock: Clock,
    context: Context,
) -> str:
    """The address to which a person's browser goes to consent. Its `state` is good for one answer within 10 minutes."""
    with uow:
        connection = _find(uow, command.connection_id)
    state = AuthorisationState(
        id=ids.new(),
        administration=context.administration or "",
        connection_id=connection.id,
        identity=context.triggered_by,
        redirect_uri=command.redirect_uri,
        created_at=clock.now(),
    )
    with admin:
        admin.authorisation_states.add(state)
        admin.commit()
    return _connector(connectors, connection.connector).consent_url(
        connection.settings,
        secret_settings_of(connection, secrets),
        state=str(state.id),
        redirect_uri=command.redirect_uri,
    )


def take_authorisation_state(
    command: CompleteAuthorisation, *, admin: AuthorisationUnitOfWork, clock: Clock
) -> AuthorisationState:
    """The row behind `state`: it alone says which administration and connection the answer is for.

    Raises:
        InvalidInput: it is unknown, was used before, or is older than 10 minutes.
    """
    with admin:
        state = admin.authorisation_states.take(command.state)
        admin.commit()
    if state is None or state.expired(clock.now()):
        text = "is unknown, was used before, or is too old: begin again"
        raise InvalidInput(f"the authorisation state {text}", (Violation("/state", text),))
    return state


def store_authorisation(
    command: tuple[AuthorisationState, str],
    *,
    uows: Opens[ConnectionsUnitOfWork],
    connectors: Connectors,
    secrets: Secrets,
    clock: Clock,
) -> Connection:
    """Exchange the code for tokens and keep them, for the connection that the state row names.

    Raises:
        TemporaryFailure: they could not be kept; the code is spent, so that a person must consent once more.
    """
    state, code = command
    with uows() as uow:
        connection = _find(uow, state.connection_id)
    tokens = _connector(connectors, connection.connector).exchange(
        connection.settings,
        secret_settings_of(connection, secrets),
        code=code,
        redirect_uri=state.redirect_uri,
        now=clock.now(),
    )
    sealed = _sealed(tokens, secrets)

    def keep() -> Connection:
        with uows() as uow:
            authorised = _find(uow, state.connection_id).authorised(sealed)
            uow.connections.save(authorised)
            uow.commit()
        return authorised

    return _kept(keep)


def get_access_token(
    command: GetAccessToken,
    *,
    uows: Opens[ConnectionsUnitOfWork],
    connectors: Connectors,
    secrets: Secrets,
    ids: Ids,
    clock: Clock,
) -> str:
    """An access token that holds for at least 30 seconds; renewed if need be, by one caller at a time.

    The mark `refreshing_since` is committed before the call and the new pair before it is used, so a process that
    dies in between leaves a trace; who finds it tries the old refresh token once.

    Raises:
        ConsentLost: only a person's new consent helps; the connection says so from now on.
        TemporaryFailure: another caller is renewing it, or the authorisation server failed.
    """
    with uows() as uow:
        connection = _find(uow, command.connection_id)
    tokens = _tokens(connection, secrets)
    if is_fresh(tokens, now=clock.now()) and connection.refreshing_since is None:
        return tokens.access_token
    renewed = _renew(
        command,
        lambda tokens: not is_fresh(tokens, now=clock.now()),
        uows=uows,
        connectors=connectors,
        secrets=secrets,
        ids=ids,
        clock=clock,
    )
    return renewed.access_token


def renew_connections(
    command: RenewConnections,
    *,
    uows: Opens[ConnectionsUnitOfWork],
    connectors: Connectors,
    secrets: Secrets,
    ids: Ids,
    clock: Clock,
) -> int:
    """Use each refresh token at least weekly, for they lapse unused; answers how many were used.

    One that fails does not keep the others from their turn; its connection shows it.
    """

    def due(tokens: TokenSet) -> bool:
        return is_unused_for_long(tokens, now=clock.now())

    with uows() as uow:
        connections = [c for c in uow.connections.all() if c.state is ConnectionState.CONNECTED]
    used = 0
    for connection in connections:
        wanted = GetAccessToken(connection_id=connection.id, holder=command.holder)
        try:
            if due(_tokens(connection, secrets)):
                _renew(wanted, due, uows=uows, connectors=connectors, secrets=secrets, ids=ids, clock=clock)
                used += 1
        except OrderSyncError:
            continue
    return used


def secret_settings_of(connection: Connection, secrets: Secrets) -> dict[str, Any]:
    settings: dict[str, Any] = orjson.loads(secrets.decrypt(connection.secret_settings))
    return settings


def _renew(
    command: GetAccessToken,
    due: Callable[[TokenSet], bool],
    *,
    uows: Opens[ConnectionsUnitOfWork],
    connectors: Connectors,
    secrets: Secrets,
    ids: Ids,
    clock: Clock,
) -> TokenSet:
    """The next token set, or the present one when it turns out, under the lease, that somebody has renewed it."""
    with uows() as uow:
        # A holder for this renewal alone: a process gets a lease that it holds already, and its threads would share it.
        lease = uow.leases.take(f"connection:{command.connection_id}", f"{command.holder}/{ids.new()}")
        if lease is None:
            raise TemporaryFailure("the access token of this connection is being renewed")
        connection = _find(uow, command.connection_id)
        tokens = _tokens(connection, secrets)
        if not due(tokens) and connection.refreshing_since is None:
            return tokens
        uow.connections.save(evolve(connection, refreshing_since=clock.now()))
        uow.commit()
    try:
        fresh = _connector(connectors, connection.connector).refresh(
            connection.settings, secret_settings_of(connection, secrets), tokens=tokens, now=clock.now()
        )
    except NotExpired:
        fresh = kept_in_use(tokens, now=clock.now())
    except ConsentLost:
        _keep(connection, Connection.refused, lease, uows)
        raise
    except (Exception, Stopping):
        _release(lease, uows)
        raise
    sealed = _sealed(fresh, secrets)
    _keep(connection, lambda present: present.authorised(sealed), lease, uows)
    return fresh


def _keep(
    renewed: Connection, outcome: Callable[[Connection], Connection], lease: Lease, uows: Opens[ConnectionsUnitOfWork]
) -> None:
    """Keep how a renewal came out.

    Raises:
        TemporaryFailure: it counts no more, because a person has consented anew or another caller took over; or it
            could not be kept.
    """

    def keep() -> bool:
        with uows() as uow:
            uow.leases.hold(lease)
            present = _find(uow, renewed.id)
            consented_anew = present.tokens != renewed.tokens
            if not consented_anew:
                uow.connections.save(outcome(present))
            uow.leases.release(lease)
            uow.commit()
        return consented_anew

    try:
        consented_anew = _kept(keep)
    except LeaseLost as error:
        raise TemporaryFailure("another caller took over the renewal of the access token") from error
    if consented_anew:
        raise TemporaryFailure("a person has consented anew while the access token was renewed")


def _kept(keep: Callable[[], K]) -> K:
    """Keep what an authorisation server has answered: tried several times, because what it was asked with is spent.
    Nobody may then repeat the whole, so that ChangedMeanwhile is no answer."""
    for _ in range(TRIES_TO_KEEP):
        try:
            return keep()
        except ChangedMeanwhile as error:
            changed = error
    raise TemporaryFailure("what the authorisation server answered could not be kept") from changed


def _release(lease: Lease, uows: Opens[ConnectionsUnitOfWork]) -> None:
    """One that cannot be released runs out; why it was given up matters more."""
    with suppress(OrderSyncError), uows() as uow:
        uow.leases.release(lease)
        uow.commit()


def _find(uow: ConnectionsUnitOfWork, id: Any) -> Connection:
    connection = uow.connections.find(id)
    if connection is None:
        raise NotFound(f"there is no connection {id}")
    return connection


def _tokens(connection: Connection, secrets: Secrets) -> TokenSet:
    if connection.tokens is None or connection.state is not ConnectionState.CONNECTED:
        raise ConsentLost(f"connection {connection.name!r} waits for a person's consent")
    return _opened(connection.tokens, secrets)


def _connector(connectors: Connectors, name: str) -> Connector:
    try:
        return connectors[name]
    except KeyError:
        known = ", ".join(connectors.names())
        text = f"is not a connector; known are {known}"
        raise InvalidInput(f"{name!r} {text}", (Violation("/connector", text),)) from None


def _sealed(tokens: TokenSet, secrets: Secrets) -> bytes:
    return secrets.encrypt(
        orjson.dumps(
            {
                "access_token": tokens.access_token,
                "refresh_token": tokens.refresh_token,
                "obtained_at": rfc3339(tokens.obtained_at),
                "expires_at": rfc3339(tokens.expires_at),
            }
        )
    )


def _opened(sealed: bytes, secrets: Secrets) -> TokenSet:
    kept = orjson.loads(secrets.decrypt(sealed))
    return TokenSet(
        access_token=kept["access_token"],
        refresh_token=kept["refresh_token"],
        obtained_at=datetime.fromisoformat(kept["obtained_at"]),
        expires_at=datetime.fromisoformat(kept["expires_at"]),
    )
