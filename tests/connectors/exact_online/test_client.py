"""Requests: pages, limits, errors and refusals, against a server that answers by a script, and against the sandbox."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from attrs import define, field, frozen

from ordersync_connectors.exact_online.client import ExactClient, consent_url, request_tokens
from ordersync_connectors.exact_online.sandbox import SandboxSettings
from ordersync_core.connections.ports import ConsentLost, NotExpired
from ordersync_core.jobs.model import RunState
from ordersync_core.kernel.errors import PermanentFailure, TemporaryFailure
from ordersync_core.testing.clocks import ManualClock
from tests.connectors.exact_online.workplace import FIRST_DAY, item_file, running, workplace

NOON = datetime(2026, 3, 2, 12, 0, 20, tzinfo=UTC)
SERVER_NOON = NOON + timedelta(seconds=15)
"""What Exact's clock shows at our noon."""


@frozen(kw_only=True)
class Answer:
    """body None: the connection closes in place of an answer. date: of the server's clock; None leaves it out."""

    status: int = 200
    body: bytes | None = b""
    headers: Mapping[str, str] = field(factory=dict)
    date: datetime | None = None


@define
class Scripted:
    """A server that gives these answers, one a request, and keeps what was asked."""

    answers: list[Answer]
    url: str = ""
    asked: list[str] = field(factory=list)
    headers: list[Mapping[str, str]] = field(factory=list)
    bodies: list[str] = field(factory=list)


@contextmanager
def serving(*answers: Answer) -> Iterator[Scripted]:
    script = Scripted(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            script.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._answer()

        def _answer(self) -> None:
            script.asked.append(self.path)
            script.headers.append(dict(self.headers))
            answer = script.answers.pop(0)
            if answer.body is None:
                return
            self.send_response_only(answer.status)
            if answer.date is not None:
                self.send_header("Date", format_datetime(answer.date, usegmt=True))
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


@define
class Reader:
    """A client of that server, whose waits take no time but our clock's."""

    script: Scripted
    clock: ManualClock = field(factory=lambda: ManualClock(NOON))
    waited: list[float] = field(factory=list)
    access_token: Callable[[], str] = lambda: "token"
    client: ExactClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        def sleep(seconds: float) -> None:
            self.waited.append(seconds)
            self.clock.advance(timedelta(seconds=seconds))

        self.client = ExactClient(
            self.script.url,
            7,
            access_token=self.access_token,
            clock=self.clock,
            sleep=sleep,
            http=httpx.Client(timeout=5, trust_env=False),
        )

    def read(self) -> list[list[dict[str, Any]]]:
        with self.client:
            return list(self.client.pages("sync/Logistics/Items", {"$filter": "Timestamp gt 1L", "$select": "ID,Code"}))


def read(*answers: Answer) -> list[list[dict[str, Any]]]:
    with serving(*answers) as script:
        return Reader(script).read()


def page(d: Any, **headers: str) -> Answer:
    return Answer(body=orjson.dumps({"d": d}), headers=headers)


def limits(
    *,
    minutely: int | None = None,
    daily: int | None = None,
    minutes: datetime | None = None,
    day: datetime | None = None,
) -> dict[str, str]:
    """Remaining calls, and the moments of the resets; what is None is left out."""
    told = {
        "X-RateLimit-Minutely-Remaining": minutely,
        "X-RateLimit-Remaining": daily,
        "X-RateLimit-Minutely-Reset": None if minutes is None else int(minutes.timestamp() * 1000),
        "X-RateLimit-Reset": None if day is None else int(day.timestamp() * 1000),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


ROWS = [{"ID": "1"}, {"ID": "2"}]
EMPTY = page([])


# pages


def test_the_first_page_is_asked_in_exacts_words() -> None:
    with serving(page({"results": ROWS})) as script:
        assert Reader(script).read() == [ROWS]
    assert httpx.URL(script.asked[0]).path == "/api/v1/7/sync/Logistics/Items"
    assert dict(httpx.URL(script.asked[0]).params) == {"$filter": "Timestamp gt 1L", "$select": "ID,Code"}
    assert script.headers[0]["Accept"] == "application/json"
    assert script.headers[0]["Authorization"] == "Bearer token"


def test_the_next_page_is_asked_as_it_was_named() -> None:
    """A skip token is not for us to understand or to spell anew."""
    following = "/elsewhere/Items?$select=ID,Code&%24skiptoken=guid'0a%2F',493115L&$filter=a+b%20c"
    answers = [page({"results": ROWS}), page({"results": [], "__next": ""})]
    with serving(*answers) as script:
        script.answers[0] = page({"results": ROWS, "__next": f"{script.url}{following}"})
        assert Reader(script).read() == [ROWS, []]
    assert script.asked[1] == following


@pytest.mark.parametrize(
    "following",
    [
        "https://elsewhere.example/api/v1/7/sync/Logistics/Items?$skiptoken=1L",
        "http://127.0.0.1:9.elsewhere.example/api",
        "/api/v1/7/sync/Logistics/Items?$skiptoken=1L",
    ],
)
def test_a_next_page_elsewhere_is_not_asked(following: str) -> None:
    """It would get our access token."""
    with serving(page({"results": ROWS, "__next": following})) as script:
        with pytest.raises(PermanentFailure, match="another host"):
            Reader(script).read()
        assert len(script.asked) == 1


def test_a_host_that_only_begins_like_ours_is_another() -> None:
    with serving(EMPTY) as script:
        script.answers[0] = page({"results": ROWS, "__next": f"{script.url}.elsewhere.example/api"})
        with pytest.raises(PermanentFailure, match="another host"):
            Reader(script).read()


def test_a_page_that_is_followed_by_itself_ends_the_walk() -> None:
    with serving(EMPTY, EMPTY) as script:
        again = page({"results": ROWS, "__next": f"{script.url}/api/v1/7/x?$skiptoken=1L"})
        script.answers[:] = [again, again]
        with pytest.raises(PermanentFailure, match="followed by itself"):
            Reader(script).read()


@pytest.mark.parametrize(
    ("d", "rows"),
    [
        ({"results": ROWS}, ROWS),
        ({"results": []}, []),
        ({"results": ROWS, "__next": None}, ROWS),
        ({"results": ROWS, "__count": "2"}, ROWS),
        (ROWS, ROWS),
        ([], []),
        ({"ID": "1", "Code": "A"}, [{"ID": "1", "Code": "A"}]),
    ],
)
def test_the_envelope_comes_in_every_shape(d: Any, rows: Sequence[Any]) -> None:
    assert read(page(d)) == [rows]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"e": []}',
        b'{"d": null}',
        b'{"d": 5}',
        b'{"d": {"results": null}}',
        b'{"d": {"results": [1]}}',
        b'{"d": {"results": [], "__next": 5}}',
        b'{"d": {"results": [{"ID": "1"}',
        b'{"d": {"results": [{"ID": "1"},{"error": {"message": {"value": "A problem"}}}',
        b'{"d": {"results": [{"ID": "1"}]}}{"error":{"code":"","message":{"lang":"","value":"A problem"}}}',
        b"<html>Maintenance</html>",
    ],
)
def test_a_page_that_cannot_be_read_failed_and_is_not_empty(body: bytes) -> None:
    with serving(*[Answer(body=body)] * 3) as script:
        with pytest.raises(TemporaryFailure, match="Exact Online sent"):
            Reader(script).read()
        assert len(script.asked) == 3


# failures that may pass


@pytest.mark.parametrize(
    "failed",
    [
        *(Answer(status=status, body=b"<html>") for status in (408, 500, 502, 503, 504)),
        Answer(body=None),
        Answer(body=b'{"d": '),
        Answer(body=b"x", headers={"Content-Encoding": "gzip"}),
    ],
)
def test_what_may_pass_is_tried_again_twice(failed: Answer) -> None:
    with serving(failed, failed, page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == [1.0, 3.0]
    with serving(failed, failed, failed, page(ROWS)) as script:
        with pytest.raises(TemporaryFailure):
            Reader(script).read()
        assert len(script.asked) == 3


def test_nobody_listens() -> None:
    with serving() as script:
        pass
    reader = Reader(script)
    with pytest.raises(TemporaryFailure, match="did not answer: ConnectError"):
        reader.read()
    assert reader.waited == [1.0, 3.0]


def test_a_server_that_asks_for_patience_gets_it() -> None:
    busy = Answer(status=503, headers={"Retry-After": "20"})
    with serving(busy, page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == [20.0]
    with serving(Answer(status=503, headers={"Retry-After": "7200"})) as script:
        with pytest.raises(TemporaryFailure) as failure:
            Reader(script).read()
        assert failure.value.retry_after == timedelta(hours=2)


@pytest.mark.parametrize("asked", ["0", "-5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_a_wait_that_is_none_is_ours_to_choose(asked: str) -> None:
    with serving(Answer(status=503, headers={"Retry-After": asked}), page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == [1.0]


def test_an_access_token_that_is_being_renewed_is_waited_for() -> None:
    being_renewed = [True, False]

    def access_token() -> str:
        if being_renewed.pop(0):
            raise TemporaryFailure("being renewed")
        return "new"

    with serving(page(ROWS)) as script:
        assert Reader(script, access_token=access_token).read() == [ROWS]
    assert script.headers[0]["Authorization"] == "Bearer new"


# refusals


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 418])
def test_a_refusal_is_not_repeated(status: int) -> None:
    body = orjson.dumps({"error": {"code": "", "message": {"lang": "nl-NL", "value": "Ongeldig: filter"}}})
    with serving(Answer(status=status, body=body)) as script:
        with pytest.raises(PermanentFailure, match=f"answered {status}: Ongeldig: filter"):
            Reader(script).read()
        assert len(script.asked) == 1


def test_a_refusal_without_a_text_shows_the_status() -> None:
    with serving(Answer(status=403, body=b"<html>")) as script, pytest.raises(PermanentFailure, match="403: Forbidden"):
        Reader(script).read()


def test_one_refused_token_is_tried_again_at_once() -> None:
    with serving(Answer(status=401), page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == []


def test_a_token_refused_twice_is_permanent() -> None:
    """Also with another failure between: more than ten refusals within an hour close the endpoint."""
    for between in ([], [Answer(status=503)]):
        with serving(Answer(status=401), *between, Answer(status=401), page(ROWS)) as script:
            with pytest.raises(PermanentFailure, match="refused a valid access token twice"):
                Reader(script).read()
            assert len(script.asked) == 2 + len(between)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    """It would get our access token."""
    with serving(EMPTY) as elsewhere, serving(Answer(status=status, headers={"Location": elsewhere.url})) as script:
        with pytest.raises(PermanentFailure, match=f"answered {status}"):
            Reader(script).read()
        assert elsewhere.asked == []


# limits


@pytest.mark.parametrize(
    ("date", "waited"),
    [(SERVER_NOON, 26.0), (None, 41.0), (NOON - timedelta(days=1), 41.0), (NOON + timedelta(seconds=41), 41.0)],
    ids=["by the server's clock", "no server's clock", "a server's clock of yesterday", "a reset that is past there"],
)
def test_a_full_minute_is_waited_out(date: datetime | None, waited: float) -> None:
    """Until a second after the reset, at 12:01:00: it is 12:00:20 with us and 12:00:35 there."""
    full = Answer(status=429, headers=limits(minutely=0, minutes=NOON + timedelta(seconds=40)), date=date)
    with serving(full, page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == [waited]


def test_no_clock_makes_sense_of_the_reset() -> None:
    full = Answer(status=429, headers=limits(minutes=NOON + timedelta(hours=3)))
    with serving(full, page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == [61.0]


@pytest.mark.parametrize("reset", ["", "soon", "-1", "9" * 30])
def test_a_reset_that_is_no_moment_is_waited_out_for_a_minute(reset: str) -> None:
    full = Answer(status=429, headers={"X-RateLimit-Minutely-Reset": reset})
    with serving(full, page(ROWS)) as script:
        reader = Reader(script)
        assert reader.read() == [ROWS]
        assert reader.waited == [61.0]


def test_a_minute_that_stays_full_is_for_the_run_to_wait_out() -> None:
    """Another process of the same app may use it up each time."""
    full = Answer(status=429, headers=limits(minutely=3, minutes=NOON + timedelta(seconds=40)))
    with serving(full, full, full) as script, pytest.raises(TemporaryFailure, match="minute's limit"):
        Reader(script).read()


def test_a_full_day_is_for_the_run_to_wait_out() -> None:
    midnight = datetime(2026, 3, 3, tzinfo=UTC)
    with serving(Answer(status=429, headers=limits(daily=0, day=midnight), date=SERVER_NOON)) as script:
        reader = Reader(script)
        with pytest.raises(TemporaryFailure, match="day's limit") as failure:
            reader.read()
        assert failure.value.retry_after == midnight - SERVER_NOON + timedelta(seconds=1)
        assert reader.waited == []


def test_a_closed_endpoint_is_left_alone_for_an_hour() -> None:
    """429 without the headers of a limit."""
    with serving(Answer(status=429)) as script:
        with pytest.raises(TemporaryFailure, match="closed this endpoint") as failure:
            Reader(script).read()
        assert failure.value.retry_after == timedelta(hours=1)
        assert len(script.asked) == 1


def test_the_last_call_of_a_minute_makes_the_next_page_wait_and_not_this_one() -> None:
    with serving(EMPTY, EMPTY) as script:
        headers = limits(minutely=0, daily=10, minutes=NOON + timedelta(seconds=40), day=NOON + timedelta(hours=11))
        script.answers[:] = [page({"results": ROWS, "__next": f"{script.url}/next"}, **headers), page({"results": []})]
        reader = Reader(script)
        with reader.client:
            pages = reader.client.pages("sync/Deleted", {})
            assert next(pages) == ROWS
            assert reader.waited == []
            reader.clock.advance(timedelta(seconds=10))
            assert next(pages) == []
            assert reader.waited == [31.0]


def test_the_last_call_of_a_day_lets_the_run_wait_before_the_next_page() -> None:
    headers = limits(minutely=5, daily=0, minutes=NOON + timedelta(seconds=40), day=NOON + timedelta(hours=11))
    with serving(EMPTY) as script:
        script.answers[0] = page({"results": ROWS, "__next": f"{script.url}/next"}, **headers)
        reader = Reader(script)
        with reader.client:
            pages = reader.client.pages("sync/Deleted", {})
            assert next(pages) == ROWS
            with pytest.raises(TemporaryFailure, match="day's limit") as failure:
                next(pages)
        assert failure.value.retry_after == timedelta(hours=11, seconds=1)
        assert len(script.asked) == 1


def test_a_run_stays_within_the_minutes_limit_of_the_sandbox(tmp_path: Path) -> None:
    """Seven calls, three a minute: it never meets a refusal."""
    rows = ({"Code": f"A{number}", "Description": "Item"} for number in range(5_500))
    settings = SandboxSettings(clock=FIRST_DAY, items=item_file(tmp_path / "items.csv", rows), minutely_limit=3)
    with running(settings) as site, workplace(tmp_path / "state", site) as place:
        place.connect()
        assert place.sync().state is RunState.SUCCEEDED
        assert len(place.names()) == 5_500
        statuses = [entry["status"] for entry in site.log()]
        assert 429 not in statuses
        assert site.waited == [61.0, 60.0]


def test_a_run_waits_for_the_next_day_of_the_sandbox(tmp_path: Path) -> None:
    rows = ({"Code": f"A{number}", "Description": "Item"} for number in range(2_500))
    settings = SandboxSettings(clock=FIRST_DAY, items=item_file(tmp_path / "items.csv", rows), daily_limit=2)
    with running(settings) as site, workplace(tmp_path / "state", site) as place:
        place.connect()
        run_id = place.start("ItemSync")
        waiting = place.work(run_id)
        assert waiting is not None
        assert waiting.state is RunState.WAITING
        assert waiting.reason == "the day's limit of calls to Exact Online is reached"
        assert waiting.ticket_at == datetime(2024, 3, 5, 0, 0, 1, tzinfo=UTC)
        assert len(place.names()) == 2_000, "what was read before is kept"
        place.wait_out(waiting)
        ended = place.finish(run_id)
        assert ended.state is RunState.SUCCEEDED
        assert len(place.names()) == 2_500


# tokens


def tokens(*answers: Answer) -> Any:
    with serving(*answers) as script, httpx.Client(timeout=5, trust_env=False) as http:
        return request_tokens(http, script.url, {"grant_type": "refresh_token", "refresh_token": "r"}, now=NOON)


@pytest.mark.parametrize("seconds", ["600", 600])
def test_the_answer_of_the_token_service(seconds: object) -> None:
    body = {"access_token": "a", "token_type": "bearer", "expires_in": seconds, "refresh_token": "r2"}
    given = tokens(Answer(body=orjson.dumps(body)))
    assert (given.access_token, given.refresh_token) == ("a", "r2")
    assert (given.obtained_at, given.expires_at) == (NOON, NOON + timedelta(minutes=10))


def test_tokens_are_asked_in_a_form() -> None:
    body = orjson.dumps({"access_token": "a", "expires_in": "600", "refresh_token": "r2"})
    with serving(Answer(body=body)) as script, httpx.Client(trust_env=False) as http:
        request_tokens(http, script.url, {"grant_type": "refresh_token", "refresh_token": "a&b=/+ ="}, now=NOON)
    assert script.asked == ["/api/oauth2/token"]
    assert script.headers[0]["Content-Type"] == "application/x-www-form-urlencoded"
    assert script.bodies == ["grant_type=refresh_token&refresh_token=a%26b%3D%2F%2B+%3D"]


@pytest.mark.parametrize(
    "body",
    [
        {"access_token": "a", "expires_in": "600"},
        {"access_token": None, "expires_in": "600", "refresh_token": "r"},
        {"access_token": "", "expires_in": "600", "refresh_token": "r"},
        {"access_token": "a", "expires_in": "soon", "refresh_token": "r"},
        {"access_token": "a", "expires_in": None, "refresh_token": "r"},
        [],
    ],
)
def test_an_incomplete_answer_of_the_token_service(body: object) -> None:
    with pytest.raises(TemporaryFailure, match="incomplete"):
        tokens(Answer(body=orjson.dumps(body)))


def oauth(status: int, error: str, description: str) -> Answer:
    return Answer(status=status, body=orjson.dumps({"error": error, "error_description": description}))


@pytest.mark.parametrize(
    ("refusal", "meaning"),
    [
        (oauth(400, "access_denied", "Rate limit exceeded: access_token not expired"), NotExpired),
        (oauth(400, "invalid_request", "Rate limit exceeded, the access token has not expired yet."), NotExpired),
        (oauth(401, "unauthorized_client", "The access token is not expired"), NotExpired),
        (Answer(status=401, body=b"access token is not yet expired"), NotExpired),
        (oauth(401, "unauthorized_client", "Old refresh token used."), ConsentLost),
        (oauth(400, "invalid_grant", "Token is not allowed, because of invalid or empty chainId"), ConsentLost),
        (oauth(400, "invalid_grant", "The code is used, expired or unknown."), ConsentLost),
        (oauth(400, "invalid_client", "Client authentication failed."), PermanentFailure),
        (oauth(401, "invalid_client", ""), PermanentFailure),
        (oauth(401, "unauthorized_client", "A problem has occurred."), TemporaryFailure),
        (oauth(400, "access_denied", "Rate limit exceeded: 200 token calls a day."), TemporaryFailure),
        (oauth(400, "invalid_request", "The body has expired and is not valid."), TemporaryFailure),
        (Answer(status=400), TemporaryFailure),
        (Answer(status=401), TemporaryFailure),
        (Answer(status=401, body=b"[1]"), TemporaryFailure),
        (Answer(status=302, headers={"Location": "/elsewhere"}), TemporaryFailure),
        (Answer(status=403), TemporaryFailure),
        (Answer(status=500), TemporaryFailure),
        (oauth(500, "server_error", "old refresh token not expired"), TemporaryFailure),
        (Answer(status=503, body=b"<html>", headers={"Content-Type": "text/html"}), TemporaryFailure),
        (Answer(body=None), TemporaryFailure),
        (Answer(body=b'{"access_token": "a'), TemporaryFailure),
    ],
)
def test_refusals_of_the_token_service_are_told_apart(refusal: Answer, meaning: type[Exception]) -> None:
    with pytest.raises(meaning) as failure:
        tokens(refusal)
    assert failure.type is meaning


def test_too_many_token_calls_are_for_the_run_to_wait_out() -> None:
    with pytest.raises(TemporaryFailure) as failure:
        tokens(oauth(429, "access_denied", "Rate limit exceeded: 200 token calls a day."))
    assert failure.value.retry_after == timedelta(minutes=15)


def test_the_address_of_the_consent() -> None:
    url = httpx.URL(
        consent_url(
            "https://start.exactonline.nl", client_id="{0-1}", redirect_uri="https://a.example/c?x=1", state="s"
        )
    )
    assert str(url).startswith("https://start.exactonline.nl/api/oauth2/auth?")
    assert dict(url.params) == {
        "client_id": "{0-1}",
        "redirect_uri": "https://a.example/c?x=1",
        "response_type": "code",
        "state": "s",
        "force_login": "0",
    }
