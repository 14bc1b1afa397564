"""Connections: their states, a person's consent, and who renews an access token. What goes over the wire is tested with
the sandboxes."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.connections.commands import (
    BeginAuthorisation,
    CompleteAuthorisation,
    CreateConnection,
    DeleteConnection,
    GetAccessToken,
    RenewConnections,
)
from ordersync_core.connections.handlers import (
    begin_authorisation,
    create_connection,
    delete_connection,
    get_access_token,
    renew_connections,
    secret_settings_of,
    store_authorisation,
    take_authorisation_state,
)
from ordersync_core.connections.model import (
    AuthorisationState,
    Connection,
    ConnectionState,
    TokenSet,
    is_fresh,
    is_unused_for_long,
    kept_in_use,
    shown,
)
from ordersync_core.connections.ports import (
    ConnectorDescription,
    Connectors,
    ConsentLost,
    NotExpired,
    OpenConnection,
    Source,
)
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import (
    ChangedMeanwhile,
    InvalidInput,
    NotFound,
    PermanentFailure,
    Stopping,
    TemporaryFailure,
    Violation,
)
from ordersync_core.kernel.lease import Lease
from ordersync_core.testing.contracts.databases import ALPHA, BETA, open_tenant
from ordersync_core.testing.contracts.examples import CONNECTOR, MINUTE, NOON, SECOND, new_id
from tests.core.embedded import Embedded, sqlite_databases

LIFE = 10 * MINUTE
REDIRECT = "https://app.example/callback"
CONNECTED, NEEDS_CONSENT = ConnectionState.CONNECTED, ConnectionState.NEEDS_CONSENT


class Authority:
    """A connector that is only its authorisation server: tokens are numbered, and each refresh token works once.

    before_refresh: what happens just before it answers; it may raise what a server's answer is told as.
    """

    description = ConnectorDescription(
        name=CONNECTOR, title="An authority", settings_schema={}, secrets_schema={}, entities={}
    )

    def __init__(self) -> None:
        self.given = 0
        self.spent: set[str] = set()
        self.asked: list[str] = []
        self.before_refresh: Callable[[], None] = lambda: None

    def check(self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any]) -> None:
        if "division" not in settings:
            raise InvalidInput("settings: division is missing", (Violation("/settings/division", "is missing"),))

    def consent_url(
        self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any], *, state: str, redirect_uri: str
    ) -> str:
        return f"https://authority.example/consent?state={state}&redirect_uri={redirect_uri}"

    def exchange(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        *,
        code: str,
        redirect_uri: str,
        now: datetime,
    ) -> TokenSet:
        self.asked.append(f"{code} from {redirect_uri} with {secret_settings['client_secret']}")
        return self._next(now)

    def refresh(
        self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any], *, tokens: TokenSet, now: datetime
    ) -> TokenSet:
        self.asked.append(tokens.refresh_token)
        self.before_refresh()
        if tokens.refresh_token in self.spent:
            raise ConsentLost("the refresh token was used before")
        self.spent.add(tokens.refresh_token)
        return self._next(now)

    def source(self, entity: str, connection: OpenConnection) -> Source:
        raise NotFound("an authority has no records")

    def _next(self, now: datetime) -> TokenSet:
        self.given += 1
        return TokenSet(
            access_token=f"access {self.given}",
            refresh_token=f"refresh {self.given}",
            obtained_at=now,
            expires_at=now + LIFE,
        )


class OneAuthority:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def __getitem__(self, name: str) -> Authority:
        return {CONNECTOR: self._authority}[name]

    def names(self) -> Sequence[str]:
        return [CONNECTOR]


class ChangedAtCommits:
    def __init__(self, databases: Any, numbers: Container[int]) -> None:
        self._databases = databases
        self._numbers = numbers
        self._commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._databases, name)

    def unit_of_work(self, context: Context) -> Any:
        uow = self._databases.unit_of_work(context)
        commit = uow.commit

        def counted() -> None:
            self._commits += 1
            if self._commits in self._numbers:
                raise ChangedMeanwhile("another transaction came first")
            commit()

        uow.commit = counted
        return uow


class Site(Embedded):
    def __init__(self, databases: Any = None) -> None:
        self.authority = Authority()
        super().__init__(databases, ports={Connectors: OneAuthority(self.authority)})

    def create(self, name: str = "Our books", administration: str = ALPHA) -> Connection:
        command = CreateConnection(
            connector=CONNECTOR, name=name, settings={"division": 7}, secret_settings={"client_secret": "hush"}
        )
        return self.run(create_connection, command, administration)

    def connected(self, name: str = "Our books") -> Connection:
        connection = self.create(name)
        self.consent(connection)
        return self.stored(connection.id)

    def begin(self, connection: Connection) -> UUID:
        """A person is sent to consent; answers the state in the address."""
        command = BeginAuthorisation(connection_id=connection.id, redirect_uri=REDIRECT)
        address = self.run(begin_authorisation, command)
        return UUID(address.partition("state=")[2].partition("&")[0])

    def come_back(self, state: UUID, code: str = "a code") -> Connection:
        """What the callback does, which knows of no administration but by the state."""
        row = self.run(take_authorisation_state, CompleteAuthorisation(state=state, code=code), None)
        return self.run(store_authorisation, (row, code), row.administration)

    def consent(self, connection: Connection) -> Connection:
        return self.come_back(self.begin(connection))

    def token(self, connection: Connection) -> str:
        return self.run(get_access_token, GetAccessToken(connection_id=connection.id, holder="a process"))

    def renew(self) -> int:
        return self.run(renew_connections, RenewConnections(holder="a timer"))

    def change_at_commits(self, *numbers: int) -> None:
        """From now on the n-th commits on a tenant's database, counted from 1, find that another one came first."""
        self.application = evolve(self.application, databases=ChangedAtCommits(self.databases, numbers))

    def stored(self, id: UUID, administration: str = ALPHA) -> Connection:
        found: Connection | None = self.queries(administration).connection(id)
        assert found is not None
        return found


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "memory":
        yield Site()
    else:
        with sqlite_databases(tmp_path) as databases:
            yield Site(databases)


class TestCreate:
    def test_waits_for_consent_and_keeps_its_secrets_encrypted(self, site: Site) -> None:
        connection = site.create()
        assert site.stored(connection.id) == connection
        assert (connection.state, connection.tokens, connection.created_at) == (NEEDS_CONSENT, None, NOON)
        assert b"hush" not in connection.secret_settings
        assert secret_settings_of(connection, site.secrets) == {"client_secret": "hush"}

    def test_what_is_shown_holds_no_secret(self, site: Site) -> None:
        connection = site.connected()
        assert shown(connection) == {
            "id": str(connection.id),
            "connector": CONNECTOR,
            "name": "Our books",
            "settings": {"division": 7},
            "state": "Connected",
        }
        for text in (str(shown(connection)), repr(connection)):
            assert "hush" not in text
            assert "access" not in text

    def test_settings_that_do_not_fit_leave_nothing(self, site: Site) -> None:
        with pytest.raises(InvalidInput) as refused:
            site.run(create_connection, CreateConnection(connector=CONNECTOR, name="Ours", settings={}))
        assert [violation.pointer for violation in refused.value.violations] == ["/settings/division"]
        assert list(site.queries().connections()) == []

    def test_an_unknown_connector_is_refused_and_the_known_ones_are_named(self, site: Site) -> None:
        with pytest.raises(InvalidInput, match=f"known are {CONNECTOR}") as refused:
            site.run(create_connection, CreateConnection(connector="sheets", name="Ours", settings={}))
        assert [violation.pointer for violation in refused.value.violations] == ["/connector"]

    def test_a_deleted_one_is_gone(self, site: Site) -> None:
        connection = site.create()
        with pytest.raises(NotFound):
            site.run(delete_connection, DeleteConnection(id=connection.id), BETA)
        site.run(delete_connection, DeleteConnection(id=connection.id))
        assert list(site.queries().connections()) == []
        with pytest.raises(NotFound):
            site.run(delete_connection, DeleteConnection(id=connection.id))


class TestConsent:
    def test_connects(self, site: Site) -> None:
        connection = site.create()
        connected = site.consent(connection)
        assert connected == site.stored(connection.id)
        assert connected.state is CONNECTED
        assert site.authority.asked == [f"a code from {REDIRECT} with hush"]
        assert site.token(connection) == "access 1"

    def test_the_tokens_are_kept_encrypted(self, site: Site) -> None:
        connection = site.connected()
        assert connection.tokens is not None
        assert b"access 1" not in connection.tokens
        assert orjson.loads(site.secrets.decrypt(connection.tokens))["refresh_token"] == "refresh 1"

    def test_an_answer_counts_once(self, site: Site) -> None:
        state = site.begin(site.create())
        site.come_back(state)
        with pytest.raises(InvalidInput, match="was used before") as refused:
            site.come_back(state)
        assert [violation.pointer for violation in refused.value.violations] == ["/state"]
        assert len(site.authority.asked) == 1

    def test_a_database_that_changed_meanwhile_spends_no_code_twice(self, site: Site) -> None:
        connection = site.create()
        state = site.begin(connection)
        site.change_at_commits(1, 2)
        assert site.come_back(state).state is CONNECTED
        assert len(site.authority.asked) == 1
        assert site.token(connection) == "access 1"

    def test_what_cannot_be_kept_is_told_and_not_asked_again(self, site: Site) -> None:
        connection = site.create()
        state = site.begin(connection)
        site.change_at_commits(*range(1, 10))
        with pytest.raises(TemporaryFailure, match="could not be kept"):
            site.come_back(state)
        assert len(site.authority.asked) == 1

    def test_an_answer_that_comes_after_ten_minutes_does_not_count_and_is_used_up(self, site: Site) -> None:
        connection = site.create()
        state = site.begin(connection)
        site.pass_time(10 * MINUTE)
        for _ in range(2):
            with pytest.raises(InvalidInput, match="is too old"):
                site.come_back(state)
        assert site.stored(connection.id).state is NEEDS_CONSENT
        assert site.authority.asked == []

    def test_an_answer_just_before_that_counts(self, site: Site) -> None:
        connection = site.create()
        state = site.begin(connection)
        site.pass_time(10 * MINUTE - SECOND)
        assert site.come_back(state).state is CONNECTED

    def test_an_unknown_state_does_not_count(self, site: Site) -> None:
        site.begin(site.create())
        with pytest.raises(InvalidInput, match="is unknown"):
            site.come_back(new_id())

    def test_the_row_says_for_whom_it_is(self, site: Site) -> None:
        connection = site.create()
        state = site.begin(connection)
        row = site.run(take_authorisation_state, CompleteAuthorisation(state=state, code="a code"), None)
        assert row == AuthorisationState(
            id=state,
            administration=ALPHA,
            connection_id=connection.id,
            identity="somebody",
            redirect_uri=REDIRECT,
            created_at=NOON,
        )
        with pytest.raises(NotFound):
            site.run(store_authorisation, (row, "a code"), BETA)

    def test_of_a_connection_that_was_deleted_meanwhile_nothing_is_kept(self, site: Site) -> None:
        connection = site.create()
        state = site.begin(connection)
        site.run(delete_connection, DeleteConnection(id=connection.id))
        with pytest.raises(NotFound):
            site.come_back(state)

    def test_nobody_is_asked_for_another_tenant_s_connection(self, site: Site) -> None:
        foreign = site.create(administration=BETA)
        with pytest.raises(NotFound):
            site.begin(foreign)

    def test_consenting_anew_replaces_the_tokens(self, site: Site) -> None:
        connection = site.connected()
        site.consent(connection)
        assert site.token(connection) == "access 2"


class TestAccessToken:
    def test_is_used_until_its_last_thirty_seconds(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE - 31 * SECOND)
        assert site.token(connection) == "access 1"
        site.pass_time(SECOND)
        assert site.token(connection) == "access 2"
        assert site.token(connection) == "access 2"
        assert site.authority.asked[1:] == ["refresh 1"]

    def test_there_is_none_before_the_first_consent_nor_for_an_unknown_connection(self, site: Site) -> None:
        connection = site.create()
        with pytest.raises(ConsentLost, match="'Our books' waits for a person's consent"):
            site.token(connection)
        with pytest.raises(NotFound):
            site.run(get_access_token, GetAccessToken(connection_id=connection.id, holder="a process"), BETA)

    def test_a_refusal_asks_for_consent_and_nobody_asks_the_server_again(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE)
        site.authority.spent.add("refresh 1")
        with pytest.raises(ConsentLost, match="was used before"):
            site.token(connection)
        refused = site.stored(connection.id)
        assert (refused.state, refused.refreshing_since) == (NEEDS_CONSENT, None)
        with pytest.raises(ConsentLost, match="waits for a person's consent"):
            site.token(connection)
        assert len(site.authority.asked) == 2

        site.consent(connection)
        assert site.token(connection) == "access 2"

    def test_a_failure_for_now_changes_nothing_and_the_next_call_tries_again(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE)
        site.authority.before_refresh = raising(TemporaryFailure("the authority is away"))
        with pytest.raises(TemporaryFailure, match="is away"):
            site.token(connection)
        assert site.stored(connection.id).state is CONNECTED
        site.authority.before_refresh = lambda: None
        assert site.token(connection) == "access 2"

    @pytest.mark.parametrize("error", [Stopping(), ValueError("a fault of ours")])
    def test_whatever_ends_a_renewal_leaves_the_next_caller_its_turn(self, site: Site, error: BaseException) -> None:
        connection = site.connected()
        site.pass_time(LIFE)
        site.authority.before_refresh = raising(error)
        with pytest.raises(type(error)):
            site.token(connection)
        site.authority.before_refresh = lambda: None
        assert site.token(connection) == "access 2"

    def test_that_still_holds_is_used_on(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE - SECOND)
        site.authority.before_refresh = raising(NotExpired("too early"))
        assert site.token(connection) == "access 1"
        assert site.token(connection) == "access 1"
        assert len(site.authority.asked) == 2
        site.pass_time(30 * SECOND)
        site.authority.before_refresh = lambda: None
        assert site.token(connection) == "access 2"

    def test_is_renewed_by_one_caller_at_a_time(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE)
        second: list[str] = []

        def meanwhile() -> None:
            with pytest.raises(TemporaryFailure, match="is being renewed") as busy:
                site.token(connection)
            second.append(str(busy.value))

        site.authority.before_refresh = meanwhile
        assert site.token(connection) == "access 2"
        assert len(second) == 1
        assert site.authority.asked[1:] == ["refresh 1"]

    def test_the_mark_is_there_before_the_call_and_gone_with_its_result(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE)
        marks: list[datetime | None] = []
        site.authority.before_refresh = lambda: marks.append(site.stored(connection.id).refreshing_since)
        site.token(connection)
        assert marks == [site.clock.now()]
        assert site.stored(connection.id).refreshing_since is None

    def test_who_finds_the_mark_of_a_process_that_died_tries_the_old_token_once(self, site: Site) -> None:
        """Though the access token would hold still: nobody knows whether its refresh token was spent."""
        for spent, expected in ((False, CONNECTED), (True, NEEDS_CONSENT)):
            connection = site.connected()
            site.pass_time(LIFE)
            site.authority.before_refresh = raising(Died())
            with pytest.raises(Died):
                site.token(connection)
            site.authority.before_refresh = lambda: None
            if spent:
                site.authority.spent.add(f"refresh {site.authority.given}")
            assert site.stored(connection.id).refreshing_since is not None

            let_leases_run_out(site, connection)
            with suppress(ConsentLost):
                site.token(connection)

            after = site.stored(connection.id)
            assert (after.state, after.refreshing_since) == (expected, None)

    def test_a_person_who_consents_meanwhile_comes_first(self, site: Site) -> None:
        connection = site.connected()
        site.pass_time(LIFE)

        def consent() -> None:
            site.authority.before_refresh = lambda: None
            site.consent(connection)

        site.authority.before_refresh = consent
        with pytest.raises(TemporaryFailure, match="a person has consented anew"):
            site.token(connection)
        assert site.stored(connection.id).state is CONNECTED
        assert site.token(connection) == "access 2"

    def test_whoever_is_overtaken_keeps_nothing(self) -> None:
        site = Site()
        connection = site.connected()
        site.pass_time(LIFE)

        def be_slow() -> None:
            site.authority.before_refresh = lambda: None
            site.pass_time(61 * SECOND)
            assert site.token(connection) == "access 2"

        site.authority.before_refresh = be_slow
        with pytest.raises(TemporaryFailure, match="another caller took over"):
            site.token(connection)
        assert site.stored(connection.id).state is CONNECTED
        assert site.token(connection) == "access 2"


class Died(BaseException):
    """The process ends here."""


def let_leases_run_out(site: Site, connection: Connection) -> None:
    """That of a process that died: by the databases' own clock, which on SQLite is a real one."""
    name = f"connection:{connection.id}"
    with open_tenant(site.databases) as uow:
        for term in range(1, 10):
            uow.leases.release(Lease(name=name, holder="", term=term))
        uow.commit()


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


class TestKeepingAlive:
    def test_each_refresh_token_is_used_weekly(self, site: Site) -> None:
        site.connected("First")
        site.pass_time(timedelta(days=3))
        site.connected("Second")
        site.pass_time(timedelta(days=4) - SECOND)
        assert site.renew() == 0
        site.pass_time(SECOND)
        assert site.renew() == 1
        assert site.renew() == 0
        site.pass_time(timedelta(days=3))
        assert site.renew() == 1
        assert site.authority.asked[2:] == ["refresh 1", "refresh 2"]

    def test_one_that_fails_keeps_no_other_from_its_turn(self, site: Site) -> None:
        connections = [site.connected(f"Number {n}") for n in range(3)]
        site.pass_time(timedelta(days=8))
        site.authority.spent |= {"refresh 1", "refresh 2"}
        assert site.renew() == 1
        states = [site.stored(connection.id).state for connection in connections]
        assert states == [NEEDS_CONSENT, NEEDS_CONSENT, CONNECTED]

    def test_nor_does_one_whose_connector_is_not_there_any_more(self, site: Site) -> None:
        orphan = site.connected("An orphan")
        site.connected("Ours")
        site.pass_time(timedelta(days=8))
        with open_tenant(site.databases) as uow:
            uow.connections.delete(orphan.id)
            uow.connections.add(evolve(orphan, connector="gone"))
            uow.commit()
        assert site.renew() == 1

    def test_those_that_wait_for_consent_have_nothing_to_keep_alive(self, site: Site) -> None:
        site.create()
        site.pass_time(timedelta(days=30))
        assert site.renew() == 0
        assert site.authority.asked == []


tokens = st.builds(
    TokenSet,
    access_token=st.just("access"),
    refresh_token=st.just("refresh"),
    obtained_at=st.just(NOON),
    expires_at=st.timedeltas(timedelta(0), timedelta(days=1)).map(lambda life: NOON + life),
)
ages = st.timedeltas(timedelta(0), timedelta(days=10))


@given(tokens=tokens, age=ages)
def test_a_fresh_token_holds_for_thirty_seconds_more(tokens: TokenSet, age: timedelta) -> None:
    now = NOON + age
    assert is_fresh(tokens, now=now) == (tokens.expires_at - now > 30 * SECOND)
    assert is_unused_for_long(tokens, now=now) == (age >= timedelta(days=7))


@given(tokens=tokens, age=ages)
def test_one_that_is_kept_in_use_is_fresh_and_lapses_no_later(tokens: TokenSet, age: timedelta) -> None:
    now = NOON + age
    kept = kept_in_use(tokens, now=now)
    assert is_fresh(kept, now=now)
    assert kept.expires_at >= tokens.expires_at
    assert kept.obtained_at == tokens.obtained_at


def test_a_permanent_failure_of_one_connector_is_told_as_it_is() -> None:
    site = Site()
    connection = site.connected()
    site.pass_time(LIFE)
    site.authority.before_refresh = raising(PermanentFailure("the client secret is wrong"))
    with pytest.raises(PermanentFailure, match="the client secret is wrong"):
        site.token(connection)
    assert site.stored(connection.id).state is CONNECTED
