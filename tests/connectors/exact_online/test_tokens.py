"""Single-use refresh tokens: one request at a time, kept before it is used, and never an endless retry."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ordersync_connectors.exact_online.adapter import ExactOnline
from ordersync_core.connections.model import ConnectionState, TokenSet
from ordersync_core.connections.ports import ConsentLost
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.errors import ChangedMeanwhile, InvalidInput, PermanentFailure, TemporaryFailure
from tests.connectors.exact_online.workplace import TIMEOUT, Killed, Site, Workplace, running, workplace

TOKEN_CALL = "oauth2/token"
NEARLY_TEN_MINUTES = timedelta(seconds=575)
"""The access token is in its last 30 s."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture(scope="module")
def template(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "template"
    with workplace(folder, site) as place:
        place.connect()
    return folder


@pytest.fixture
def place(site: Site, template: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A connection with a new consent, on a day of its own."""
    site.advance(timedelta(days=2))
    with workplace(tmp_path / "state", site, template) as place:
        place.consent()
        yield place
        site.clear_faults()


def token_calls(site: Site, action: Callable[[], object]) -> int:
    before = site.calls
    action()
    paths = site.paths(before)
    assert set(paths) <= {TOKEN_CALL}
    return len(paths)


def in_the_end(place: Workplace) -> str:
    """The token, however often its renewal is under way elsewhere."""
    for _ in range(500):
        try:
            return place.access_token()
        except TemporaryFailure:
            time.sleep(0.01)
    raise AssertionError("the renewal never ends")


class Acting(ExactOnline):
    """Does something else before or after it asks for new tokens."""

    def __init__(self, place: Workplace, *, before: Callable[[], object], after: Callable[[], object]) -> None:
        super().__init__(place.site.clock, allow_other_hosts=True, timeout=TIMEOUT)
        self._before = before
        self._after = after

    def refresh(self, *arguments: Any, **named: Any) -> TokenSet:
        self._before()
        tokens = super().refresh(*arguments, **named)
        self._after()
        return tokens


def acting(
    place: Workplace, *, before: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None
) -> Application:
    return place.made_of(place.databases, Acting(place, before=before, after=after))


def die() -> None:
    raise Killed


def test_a_token_that_holds_is_used_without_a_call(place: Workplace) -> None:
    place.site.advance(timedelta(seconds=569))
    tokens: list[str] = []
    assert token_calls(place.site, lambda: tokens.extend(place.access_token() for _ in range(5))) == 0
    assert len(set(tokens)) == 1


def test_a_token_in_its_last_30_seconds_is_renewed_once(place: Workplace) -> None:
    old = place.access_token()
    place.site.advance(NEARLY_TEN_MINUTES)
    tokens: list[str] = []
    assert token_calls(place.site, lambda: tokens.extend(place.access_token() for _ in range(5))) == 1
    assert len({old, *tokens}) == 2
    assert place.connection.refreshing_since is None


def test_twenty_callers_at_once_make_one_request_and_all_get_the_new_token(
    place: Workplace, site: Site, tmp_path: Path
) -> None:
    """Ten are threads of one process, ten of another. Rule 26."""
    old = place.access_token()
    site.advance(NEARLY_TEN_MINUTES)
    before = site.calls
    other = Workplace(tmp_path / "state", site)
    with ThreadPoolExecutor(20) as threads:
        got = list(threads.map(in_the_end, [place, other] * 10))
    other.close()
    assert site.paths(before) == [TOKEN_CALL]
    assert len(set(got)) == 1
    assert got[0] != old
    assert place.connection.state is ConnectionState.CONNECTED


def test_the_new_pair_is_kept_before_it_is_used(place: Workplace) -> None:
    """Who gets the new token could lose it at once: the next one reads it."""
    place.site.advance(NEARLY_TEN_MINUTES)
    token = place.access_token()
    found: list[str] = []
    with workplace(place.folder.parent / "copy", place.site, place.folder) as later:
        assert token_calls(place.site, lambda: found.append(later.access_token())) == 0
    assert found == [token]


def test_a_database_that_changed_meanwhile_does_not_lose_the_new_pair(place: Workplace) -> None:
    """The first commit notes the renewal; the second and third, which would keep its result, fail."""
    place.site.advance(NEARLY_TEN_MINUTES)
    application = place.fails_at_commits({2, 3}, ChangedMeanwhile)
    assert token_calls(place.site, lambda: place.access_token(application)) == 1
    assert token_calls(place.site, place.access_token) == 0
    assert place.connection.state is ConnectionState.CONNECTED


def test_a_process_that_died_before_the_call_does_no_harm(place: Workplace) -> None:
    place.site.advance(NEARLY_TEN_MINUTES)
    with pytest.raises(Killed):
        place.access_token(acting(place, before=die))
    left_behind = place.connection
    assert left_behind.refreshing_since is not None
    with pytest.raises(TemporaryFailure, match="being renewed"):
        place.access_token()
    place.let_leases_run_out()
    assert token_calls(place.site, place.access_token) == 1
    assert place.connection.refreshing_since is None
    assert place.connection.state is ConnectionState.CONNECTED


@pytest.mark.parametrize("dies", ["after the answer", "while it keeps the answer"])
def test_a_process_that_died_after_the_call_costs_the_consent_and_no_loop(place: Workplace, dies: str) -> None:
    place.site.advance(NEARLY_TEN_MINUTES)
    application = acting(place, after=die) if dies == "after the answer" else place.dies_at_commit(2)
    with pytest.raises(Killed):
        place.access_token(application)
    place.let_leases_run_out()

    def the_next_ones() -> None:
        with pytest.raises(ConsentLost, match=r"Old refresh token used"):
            place.access_token()
        assert place.connection.state is ConnectionState.NEEDS_CONSENT
        assert place.connection.refreshing_since is None
        for _ in range(3):
            with pytest.raises(ConsentLost, match="waits for a person's consent"):
                place.access_token()
        assert place.renew() == 0

    assert token_calls(place.site, the_next_ones) == 1, "the old token is tried once"
    place.consent()
    assert place.connection.state is ConnectionState.CONNECTED
    assert place.access_token()


def test_a_token_service_that_fails_is_asked_again_with_the_same_token(place: Workplace) -> None:
    place.site.advance(NEARLY_TEN_MINUTES)
    place.site.fault(match=TOKEN_CALL, do="status", status=503)
    with pytest.raises(TemporaryFailure, match="answered 503"):
        place.access_token()
    assert place.access_token()
    assert place.connection.state is ConnectionState.CONNECTED


def test_a_renewal_that_comes_too_early_keeps_the_token_and_does_not_ask_before_each_call(place: Workplace) -> None:
    """Our clock runs ahead: the token seems to end, and Exact says that it holds."""
    token = place.access_token()
    place.site.clock.advance(NEARLY_TEN_MINUTES)
    tokens: list[str] = []
    assert token_calls(place.site, lambda: tokens.extend(place.access_token() for _ in range(5))) == 1
    assert set(tokens) == {token}
    assert place.connection.state is ConnectionState.CONNECTED
    place.site.clock.advance(timedelta(seconds=31))
    assert token_calls(place.site, place.access_token) == 1
    place.site.advance(timedelta(0))
    assert place.access_token() == token
    place.site.advance(timedelta(seconds=60))
    assert place.access_token() != token, "in the end it is renewed"


def test_another_consent_of_the_same_user_ends_our_chain(place: Workplace) -> None:
    place.site.advance(NEARLY_TEN_MINUTES)
    _, code = place.consented()
    connector, connection = place.connector, place.connection
    secrets = {"client_secret": place.site.settings.client_secret}
    connector.exchange(
        connection.settings,
        secrets,
        code=code,
        redirect_uri="http://127.0.0.1:9/callback",
        now=place.site.clock.now(),
    )
    with pytest.raises(ConsentLost, match="invalid or empty chainId"):
        place.access_token()
    assert place.connection.state is ConnectionState.NEEDS_CONSENT


@pytest.mark.parametrize("moment", ["before the call", "after the call"])
def test_a_consent_during_a_renewal_counts_more_than_its_outcome(place: Workplace, moment: str) -> None:
    """Before the call, the old token is refused by then; after it, the new pair belongs to a chain that has ended."""
    place.site.advance(NEARLY_TEN_MINUTES)
    hook = {"before" if moment == "before the call" else "after": place.consent}
    with pytest.raises(TemporaryFailure, match="consented anew"):
        place.access_token(acting(place, **hook))
    assert place.connection.state is ConnectionState.CONNECTED
    assert token_calls(place.site, place.access_token) == 0
    token = place.access_token()
    answer = place.site.http.get(
        f"{place.site.url}/api/v1/current/Me",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
    )
    assert answer.status_code == 200


def test_a_renewal_whose_lease_another_caller_took_keeps_nothing(place: Workplace) -> None:
    def taken_over() -> None:
        place.let_leases_run_out()
        with pytest.raises(ConsentLost):
            place.access_token()

    place.site.advance(NEARLY_TEN_MINUTES)
    with pytest.raises(TemporaryFailure, match="took over the renewal"):
        place.access_token(acting(place, after=taken_over))
    assert place.connection.state is ConnectionState.NEEDS_CONSENT


# weekly


def test_a_connection_in_use_is_left_alone_and_an_unused_one_is_used_weekly(place: Workplace) -> None:
    place.site.advance(timedelta(days=6, hours=23))
    assert token_calls(place.site, place.renew) == 0
    place.site.advance(timedelta(hours=2))
    assert token_calls(place.site, lambda: [place.renew(), place.renew()]) == 1
    assert place.connection.state is ConnectionState.CONNECTED


def test_weekly_use_keeps_a_consent_beyond_the_life_of_a_token(place: Workplace) -> None:
    for _ in range(8):
        place.site.advance(timedelta(days=8))
        assert place.renew() == 1
    assert place.access_token()


def test_an_unused_consent_lapses(place: Workplace) -> None:
    place.site.advance(timedelta(days=31))
    assert place.renew() == 0
    assert place.connection.state is ConnectionState.NEEDS_CONSENT


def test_two_rounds_at_once_use_the_token_once(place: Workplace) -> None:
    place.site.advance(timedelta(days=8))
    with ThreadPoolExecutor(4) as threads:
        used = token_calls(place.site, lambda: list(threads.map(lambda _: place.renew(), range(4))))
    assert used == 1
    assert place.connection.state is ConnectionState.CONNECTED


def test_a_round_goes_on_when_a_connection_fails(place: Workplace) -> None:
    place.site.advance(timedelta(days=8))
    place.site.fault(match=TOKEN_CALL, do="status", status=503)
    assert place.renew() == 0
    assert place.connection.state is ConnectionState.CONNECTED
    assert place.renew() == 1


# consent


def test_a_connection_without_consent_has_no_token(place: Workplace, site: Site, tmp_path: Path) -> None:
    with workplace(tmp_path / "new", site) as new:
        new.create_connection()
        assert new.connection.state is ConnectionState.NEEDS_CONSENT
        with pytest.raises(ConsentLost, match="waits for a person's consent"):
            new.access_token()
        assert new.renew() == 0


def test_a_state_is_good_for_one_answer(place: Workplace) -> None:
    state, code = place.consented()
    place.complete(state, code)
    before = place.site.calls
    with pytest.raises(InvalidInput, match="used before"):
        place.complete(state, code)
    assert place.site.calls == before


def test_a_state_is_too_old_after_ten_minutes(place: Workplace) -> None:
    state, code = place.consented()
    place.site.clock.advance(timedelta(minutes=10))
    with pytest.raises(InvalidInput, match="too old"):
        place.complete(state, code)
    with pytest.raises(InvalidInput, match="too old"):
        place.complete(state, code)


def test_a_state_that_nobody_gave_out_is_refused(place: Workplace) -> None:
    _, code = place.consented()
    with pytest.raises(InvalidInput, match="unknown"):
        place.complete(uuid4(), code)


def test_a_code_that_is_too_old_leaves_the_connection_as_it_was(place: Workplace) -> None:
    state, code = place.consented()
    place.site.advance(timedelta(minutes=4))
    with pytest.raises(ConsentLost, match="used, expired or unknown"):
        place.complete(state, code)
    assert place.connection.state is ConnectionState.CONNECTED
    assert place.access_token()


def test_a_wrong_client_secret_says_so(site: Site, tmp_path: Path) -> None:
    with workplace(tmp_path / "wrong", site) as wrong:
        wrong.create_connection(client_secret="not that one")
        with pytest.raises(PermanentFailure, match="does not know this client id and secret"):
            wrong.consent()
        assert wrong.connection.state is ConnectionState.NEEDS_CONSENT
