"""The local host: HTTP triggers, timers and wake-ups, and the process itself."""

import asyncio
import io
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ordersync_core.messaging.envelope import QUEUED_JOBS
from ordersync_functions.composition import function_key
from tests.functions.receiving import receiving
from tests.functions.stack import KEY, Stack, open_stack, running_host, until

COMMAND = (sys.executable, "-m", "ordersync_functions")


def ask(stack: Stack, *requests: tuple[str, str, dict[str, Any]]) -> list[tuple[int, str, str]]:
    """Status, content type and body of each."""

    async def go() -> list[tuple[int, str, str]]:
        async with running_host(stack) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            answers = []
            for method, path, options in requests:
                async with session.request(method, path, **options) as answer:
                    answers.append((answer.status, answer.content_type, await answer.text()))
            return answers

    return asyncio.run(go())


def test_a_function_of_level_function_wants_its_key(stack: Stack) -> None:
    path = "/api/connector-webhooks/exact-online"
    answers = ask(
        stack,
        ("POST", path, {}),
        ("POST", path, {"headers": {"x-functions-key": "wrong"}}),
        ("POST", path + "?code=wr%C3%B6ng", {}),
        ("POST", path, {"headers": {"x-functions-key": KEY}}),
        ("POST", f"{path}?code={KEY}", {"data": b"{}"}),
        ("POST", path, {"headers": {"x-functions-key": KEY}, "data": io.BytesIO(b"x" * 2_000_000)}),
        ("DELETE", path, {"headers": {"x-functions-key": KEY}}),
    )

    assert [status for status, _, _ in answers] == [401, 401, 401, 404, 404, 413, 405]
    assert answers[3][1] == "application/problem+json"
    assert "no connector takes webhooks yet" in answers[3][2]


def test_consent_is_answered_by_a_page_that_shows_nothing_as_markup(stack: Stack) -> None:
    answers = ask(
        stack,
        ("GET", "/api/complete-authorisation", {}),
        ("GET", "/api/complete-authorisation?error=<script>alert(1)</script>", {}),
        ("GET", "/health/live", {}),
    )

    assert [(status, kind) for status, kind, _ in answers] == [
        (422, "text/html"),
        (422, "text/html"),
        (200, "application/json"),
    ]
    assert "The connection was not authorised" in answers[0][2]
    assert "<script>" not in answers[1][2]


def test_timers_run_by_their_schedule_and_when_somebody_is_woken(stack: Stack) -> None:
    context = stack.administration()

    async def go() -> None:
        async with receiving() as receiver:
            stack.webhook(context, receiver.url())
            async with running_host(stack):
                for number in range(5):
                    await asyncio.to_thread(stack.put, context, [f"item-{number}"])
                    await until(lambda number=number: len(receiver.received) == number + 1)  # type: ignore[misc]

    asyncio.run(go())


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = function_key(tmp_path / "keys")

    assert function_key(tmp_path / "keys") == key
    assert len(key) > 30
    assert stat.S_IMODE((tmp_path / "keys" / "functions.key").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["functions.key"]


@contextmanager
def process(state: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
    environment |= {"ORDERSYNC_STATE": str(state), "ORDERSYNC_FUNCTIONS_PORT": "0"} | settings
    started = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with started:
        try:
            yield started
        finally:
            started.kill()


def refusal(state: Path, **settings: str) -> str:
    """The one line with which it refuses to start."""
    with process(state, **settings) as started:
        out, err = started.communicate(timeout=60)
    assert started.returncode == 1
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("ordersync-functions: ")
    return line


def listening(started: subprocess.Popen[str]) -> int:
    assert started.stderr is not None
    for line in started.stderr:
        if "listening on http://127.0.0.1:" in line:
            return int(line.rpartition(":")[2])
    raise AssertionError("it did not start")


def test_it_serves_until_it_is_asked_to_end(tmp_path: Path) -> None:
    with open_stack(tmp_path) as stack:
        stack.administration()
    with process(tmp_path) as started:
        port = listening(started)
        with socket.create_connection(("127.0.0.1", port)):
            started.send_signal(signal.SIGTERM)
            _, rest = started.communicate(timeout=30)
    assert started.returncode == 0
    assert rest.splitlines()[-1].endswith("stopped")
    assert "Traceback" not in rest


def test_killed_with_a_delivery_under_way_the_next_process_ends_it(tmp_path: Path) -> None:
    """The receiver gets it again under the same id; nobody else's is lost."""
    retries = {"ORDERSYNC_ALLOW_PRIVATE_TARGETS": "true"}

    async def go(stack: Stack) -> None:
        context = stack.administration()
        async with receiving() as receiver:
            receiver.slow = frozenset({"hook"})
            stack.webhook(context, receiver.url())
            stack.put(context, [f"item-{number}" for number in range(15)])
            with process(tmp_path, **retries) as first:
                await until(lambda: receiver.waiting == 10)
                first.kill()
                first.wait()
            receiver.released.set()
            # the locks of the dead process would run out after a minute
            stack.write("queues", "UPDATE queue_messages SET locked_until = 0 WHERE locked_until IS NOT NULL")
            with process(tmp_path, **retries) as second:
                await until(lambda: stack.states() == {"Delivered": 15})
                second.send_signal(signal.SIGTERM)
                await asyncio.to_thread(second.communicate, timeout=30)
            ids = {each.position: each.event_id for each in receiver.received}
            assert sorted(ids) == list(range(1, 16))
            assert all(ids[each.position] == each.event_id for each in receiver.received)

    with open_stack(tmp_path) as stack:
        asyncio.run(go(stack))


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with open_stack(tmp_path), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(tmp_path, ORDERSYNC_FUNCTIONS_PORT=str(port))

    assert f"cannot listen on port {port}, which ORDERSYNC_FUNCTIONS_PORT names" in line


def test_settings_that_make_no_sense_are_told_in_one_line(tmp_path: Path) -> None:
    line = refusal(tmp_path, ORDERSYNC_SWEEP="often", ORDERSYNC_RETENTION="dead_letters=100,log=90")

    assert "ORDERSYNC_SWEEP" in line
    assert "ORDERSYNC_RETENTION" in line


@pytest.mark.parametrize("name", ["ORDERSYNC_ADMIN_DATABASE", "ORDERSYNC_QUEUES"])
def test_a_database_that_is_not_there_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    with open_stack(tmp_path):
        refusal(tmp_path, **{name: "postgresql://nobody:secret@127.0.0.1:1/none"})


def test_a_state_folder_that_was_never_prepared_is_told_in_one_line(tmp_path: Path) -> None:
    assert "secret" not in refusal(tmp_path / "none")


def test_the_queue_of_jobs_is_left_to_the_jobs(stack: Stack) -> None:
    stack.send(QUEUED_JOBS, b"for a job")

    async def go() -> None:
        async with running_host(stack):
            await asyncio.sleep(0.3)

    asyncio.run(go())

    assert stack.queue(QUEUED_JOBS).depth().ready == 1
