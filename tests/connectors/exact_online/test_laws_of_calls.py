"""Calls, waits and tokens as laws: laws 24 to 27, on a scripted server and on the sandbox."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ordersync_connectors.exact_online.client import LONGEST_WAIT, WAITS
from ordersync_connectors.exact_online.sandbox import SandboxSettings
from ordersync_core.connections.model import ConnectionState
from ordersync_core.connections.ports import ConsentLost
from ordersync_core.jobs.model import RunState
from ordersync_core.kernel.errors import PermanentFailure, TemporaryFailure
from tests.connectors.exact_online.test_client import ROWS, Answer, Reader, page, serving
from tests.connectors.exact_online.test_tokens import NEARLY_TEN_MINUTES, TOKEN_CALL, Acting, die
from tests.connectors.exact_online.workplace import FIRST_DAY, Killed, Site, Workplace, running, workplace

with_a_server = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


# 24: budget


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls") / "template"
    with running() as site, workplace(folder, site):
        return folder


MINUTE, DAY = "%Y-%m-%d %H:%M", "%Y-%m-%d"


@settings(with_a_server, max_examples=6)
@given(
    minutely=st.integers(1, 6),
    daily=st.integers(8, 30),
    runs=st.lists(st.tuples(st.integers(1, 7), st.integers(0, 90)), min_size=1, max_size=3),
)
@example(minutely=1, daily=30, runs=[(3, 0), (1, 0)])
@example(minutely=6, daily=8, runs=[(7, 0), (7, 0)])
def test_runs_call_no_more_often_than_they_may(
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    minutely: int,
    daily: int,
    runs: Sequence[tuple[int, int]],
) -> None:
    """Runs of so many calls, each followed by a pause in seconds. The windows are Exact's own: a minute, and a day.

    Only the first call of a process may be refused, for it does not know yet what others have used; it learns that by
    the refusal, and waits.
    """
    chosen = SandboxSettings(clock=FIRST_DAY, minutely_limit=minutely, daily_limit=daily)
    with running(chosen) as site, workplace(tmp_path_factory.mktemp("budget") / "state", site, template) as place:
        place.connect()
        processes = 0
        for calls, pause in runs:
            run_id = place.start("ItemSelectiveSync", codes=[f"A{number}" for number in range(25 * calls)])
            run, processes = place.work(run_id), processes + 1
            while run is not None and not run.state.ended:
                place.wait_out(run)
                run, processes = place.work(run_id), processes + 1
            assert run is not None
            assert run.state is RunState.SUCCEEDED
            site.advance(timedelta(seconds=pause))
        made = calls_of_data(site)
    refused = [moment for moment, status in made if status == 429]
    assert len(refused) <= processes
    assert {status for _, status in made} <= {200, 429}
    for window, limit in ((MINUTE, minutely), (DAY, daily)):
        for _, group in groupby(made, key=lambda call: f"{call[0]:{window}}"):
            answered = [status for _, status in group]
            assert answered.count(200) <= limit
            if window == MINUTE:
                assert answered.count(429) <= 1, "who was refused calls no more in that minute"


def calls_of_data(site: Site) -> list[tuple[datetime, int]]:
    """When each was made by the sandbox's clock, and what it was answered."""
    return [
        (datetime.fromisoformat(entry["at"]), entry["status"])
        for entry in site.log()
        if entry["path"].startswith("/api/v1/1/")
    ]


# 25: backoff


NOTHING_ASKED = ("", "0", "-5", "1.5", "soon", "Fri, 01 May 2020 12:00:00 GMT")
FAILURES = st.one_of(
    st.builds(Answer, status=st.sampled_from((408, 500, 502, 503, 504))),
    st.builds(
        lambda status, asked: Answer(status=status, headers={"Retry-After": asked}),
        st.sampled_from((500, 503)),
        st.integers(1, 200).map(str) | st.sampled_from(NOTHING_ASKED),
    ),
    st.sampled_from((Answer(body=None), Answer(body=b'{"d": ['), Answer(body=b'{"d": 7}'))),
)


@with_a_server
@given(failures=st.lists(FAILURES, max_size=4))
def test_waits_do_not_shrink_and_are_at_least_what_was_asked_for_and_tries_are_bounded(failures: list[Answer]) -> None:
    with serving(*failures, page(ROWS)) as script:
        reader = Reader(script)
        outcome = outcome_of(reader)
    assert len(script.asked) <= len(WAITS) + 1
    failed = failures[: len(script.asked)]
    if isinstance(outcome, TemporaryFailure):
        last = seconds_asked(failed[-1])
        assert (outcome.retry_after or timedelta(0)).total_seconds() == last
        assert len(failed) == len(WAITS) + 1 or last > LONGEST_WAIT, "longer waits are for the run to wait out"
        failed = failed[:-1]
    else:
        assert outcome == [ROWS]
        assert failed == failures
    assert reader.waited == [max(own, seconds_asked(answer)) for own, answer in zip(WAITS, failed, strict=False)]
    assert all(wait <= LONGEST_WAIT for wait in reader.waited)
    own_waits = [wait for wait, answer in zip(reader.waited, failed, strict=True) if not seconds_asked(answer)]
    assert own_waits == sorted(own_waits)


def outcome_of(reader: Reader) -> object:
    try:
        return reader.read()
    except TemporaryFailure as failure:
        return failure


def seconds_asked(answer: Answer) -> int:
    asked = answer.headers.get("Retry-After", "")
    return int(asked) if asked.isdecimal() else 0


# 27: what is refused


@with_a_server
@given(status=st.sampled_from([s for s in range(400, 500) if s not in (401, 408, 429)]), failures=st.integers(0, 2))
def test_what_the_request_itself_is_refused_for_is_never_tried_again(status: int, failures: int) -> None:
    with serving(*[Answer(status=503)] * failures, Answer(status=status), page(ROWS)) as script:
        with pytest.raises(PermanentFailure, match=f"answered {status}"):
            Reader(script).read()
        assert len(script.asked) == failures + 1


# 26: single-use refresh tokens


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture(scope="module")
def connected(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "connected"
    with workplace(folder, site) as place:
        place.connect()
    return folder


ACTS = ("use", "use", "an hour passes", "the token nears its end", "dies before the call", "dies after the call",
        "dies while it keeps the answer", "the service fails", "the weekly round")  # fmt: skip


@settings(with_a_server, max_examples=15)
@given(acts=st.lists(st.sampled_from(ACTS), max_size=8))
@example(acts=["the token nears its end", "dies after the call", "use", "use"])
@example(acts=["the token nears its end", "dies before the call", "use", "use"])
def test_whatever_happens_a_refresh_token_is_spent_once_and_its_loss_asks_for_a_person(
    site: Site, connected: Path, tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    """Each caller gets a token that the sandbox takes, or is told to try later or to ask a person; each makes one token
    request at most; and a connection that lost its consent makes none at all until a person consents."""
    with workplace(tmp_path_factory.mktemp("acts") / "state", site, connected) as place:
        site.advance(timedelta(days=1))
        place.consent()
        for act in acts:
            lost = place.connection.state is ConnectionState.NEEDS_CONSENT
            before = site.calls
            carry_out(act, place)
            requests = site.paths(before).count(TOKEN_CALL)
            assert requests <= (0 if lost else 1)
        site.clear_faults()
        place.let_leases_run_out()
        if place.connection.state is ConnectionState.CONNECTED:
            with suppress(ConsentLost):
                assert_taken(place, place.access_token())
        if place.connection.state is ConnectionState.NEEDS_CONSENT:
            assert {"dies after the call", "dies while it keeps the answer"} & set(acts), "nothing else loses a token"
            place.consent()
        assert_taken(place, place.access_token())


def carry_out(act: str, place: Workplace) -> None:
    dying: dict[str, Callable[[], Any]] = {
        "dies before the call": lambda: place.made_of(place.databases, Acting(place, before=die, after=lambda: None)),
        "dies after the call": lambda: place.made_of(place.databases, Acting(place, before=lambda: None, after=die)),
        "dies while it keeps the answer": lambda: place.dies_at_commit(2),
    }
    if act == "an hour passes":
        place.site.advance(timedelta(hours=1))
    elif act == "the token nears its end":
        place.site.advance(NEARLY_TEN_MINUTES)
    elif act == "the service fails":
        place.site.fault(match=TOKEN_CALL, do="status", status=503)
    elif act == "the weekly round":
        place.site.advance(timedelta(days=8))
        place.renew()
    else:
        with suppress(ConsentLost, TemporaryFailure, Killed):
            place.access_token(dying[act]()) if act in dying else assert_taken(place, place.access_token())
        place.let_leases_run_out()


def assert_taken(place: Workplace, token: str) -> None:
    answer = place.site.http.get(
        f"{place.site.url}/api/v1/current/Me",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
    )
    assert answer.status_code == 200
