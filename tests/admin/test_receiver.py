"""The verifying receiver over real HTTP; the published `standardwebhooks` library is the sender."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from attrs import frozen
from standardwebhooks import Webhook

from ordersync_admin.demo.evidence import lines_of

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
OTHER = "whsec_b3RoZXIgc2VjcmV0IG9mIHRoaXJ0eSBieXRlcy4u"
BODY = '{"type":"item.created","id":"m-1","sequence":7,"data":{"code":"T-1 [/]"}}'


@frozen
class Listening:
    """A running `ordersync webhooks listen`."""

    process: "subprocess.Popen[str]"
    url: str

    def post(
        self,
        body: str = BODY,
        *,
        secret: str = SECRET,
        at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        moment = at or datetime.now(UTC)
        signed = {
            "webhook-id": "m-1",
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(secret).sign("m-1", moment, body),
            "x-event-type": "item.created",
            "x-webhook-position": "3",
            **(headers or {}),
        }
        return httpx.post(self.url, content=body, headers=signed, trust_env=False).status_code

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def listening(*words: str, secrets: tuple[str, ...] = (SECRET,), stdin: str = "") -> Iterator[Listening]:
    given = [word for secret in secrets for word in ("--secret", secret)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ordersync_admin", "webhooks", "listen", "--port", "0", *given, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        process.stdin.write(stdin)
        process.stdin.close()
        first = process.stderr.readline()
        assert first.startswith("Listening on http://127.0.0.1:"), first
        yield Listening(process, first.split()[2].rstrip(","))
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_a_good_request_is_shown_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "got.ndjson"
    with listening("--file", str(file)) as receiver:
        assert receiver.post() == 204
        line = receiver.line()
        assert line.split()[0] == "3"
        assert line.endswith("item.created  T-1 [/]  verified")
        assert receiver.end() == 0
    [kept] = lines_of(file)
    assert kept["verified"] is True
    assert (kept["position"], kept["sequence"], kept["key"], kept["status"]) == (3, 7, "T-1 [/]", 204)
    assert kept["body"] == BODY


def test_with_json_each_request_is_one_object_on_a_line() -> None:
    with listening("--json") as receiver:
        receiver.post()
        receiver.post(secret=OTHER)
        good, bad = orjson.loads(receiver.line()), orjson.loads(receiver.line())
        assert (good["verified"], good["problem"], good["status"]) == (True, None, 204)
        assert (bad["verified"], bad["problem"], bad["status"]) == (False, "no signature fits", 401)


def test_what_is_not_signed_or_not_of_now_is_refused() -> None:
    with listening() as receiver:
        for status, reason in (
            (receiver.post(secret=OTHER), "no signature fits"),
            (receiver.post(at=datetime.now(UTC) - timedelta(minutes=6)), "the timestamp is outside the tolerance"),
            (receiver.post(at=datetime.now(UTC) + timedelta(minutes=6)), "the timestamp is outside the tolerance"),
            (receiver.post(headers={"webhook-id": "m-2"}), "no signature fits"),
            (receiver.post(headers={"webhook-signature": "v1,nonsense"}), "no signature fits"),
            (httpx.post(receiver.url, content=b"", trust_env=False).status_code, "the webhook headers are missing"),
        ):
            assert status == 401
            assert f"refused: {reason}" in receiver.line()


def test_any_of_several_secrets_is_good_and_one_may_come_from_standard_input() -> None:
    with listening(secrets=(SECRET, "-"), stdin=f"{OTHER}\n") as receiver:
        assert receiver.post() == 204
        assert receiver.post(secret=OTHER) == 204


@pytest.mark.parametrize("body", ["", "[]", "7", "null", '{"data": null}', "no JSON", '{"data": {"code": ["x"]}}'])
def test_a_signed_body_of_any_shape_is_taken(body: str) -> None:
    with listening("--json") as receiver:
        assert receiver.post(body) == 204
        assert orjson.loads(receiver.line())["verified"] is True


def test_it_can_be_told_to_fail_for_a_while() -> None:
    with listening() as receiver:
        assert _configure(receiver, {"fail": 2}) == 204
        assert [receiver.post() for _ in range(3)] == [503, 503, 204]
        assert "verified, answered 503" in receiver.line()
        assert _configure(receiver, {"secrets": [OTHER]}) == 204
        assert (receiver.post(), receiver.post(secret=OTHER)) == (401, 204)
        assert _configure(receiver, {"secrets": []}) == 204
        assert receiver.post(secret=OTHER) == 401, "without a secret nothing is believed"
        wrong: list[Any] = [{"secrets": ["whsec_!"]}, {"fail": "often"}, [], "x"]
        assert [_configure(receiver, wishes) for wishes in wrong] == [422] * 4


def test_other_paths_are_nobodys() -> None:
    with listening() as receiver:
        base = receiver.url.removesuffix("/listen")
        assert httpx.get(base, trust_env=False).json() == ["listen"]
        assert httpx.post(f"{base}/other", trust_env=False).status_code == 404
        assert httpx.put(f"{base}/other/settings", json={}, trust_env=False).status_code == 404


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--secret", "whsec_!"], "a secret is not one that a webhook was created with"),
        (["--secret", SECRET, "--file", "/nowhere/at/all"], "/nowhere/at/all cannot be written"),
    ],
)
def test_what_it_cannot_do_is_said_before_it_listens(words: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ordersync_admin", "webhooks", "listen", "--port", "0", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert line in done.stderr


def _configure(receiver: Listening, wishes: Any) -> int:
    return httpx.put(f"{receiver.url}/settings", content=orjson.dumps(wishes), trust_env=False).status_code
