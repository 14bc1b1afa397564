"""Killing any process at any instant loses nothing: with real processes, signal 9, on SQLite and on Postgres."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from tests.end_to_end.platform import CODE, Platform, postgres_platform, sqlite_platform

pytestmark = pytest.mark.timeout(240)

ITEMS = 5_500
"""More than one batch of a flow."""

BETWEEN_NUMBERING_AND_SENDING = "before events.send"
BETWEEN_RESPONSE_AND_RECORD = "after sender.send"
BETWEEN_TWO_BATCHES = "after commit in flows.apply_batch"

BEYOND_LEASES = timedelta(seconds=61)
BEYOND_FIRST_TICKET = timedelta(minutes=2)


@pytest.fixture(params=["sqlite", "postgres"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    if request.param == "sqlite":
        with sqlite_platform(tmp_path) as platform:
            yield platform
    else:
        with postgres_platform(tmp_path, request.getfixturevalue("postgres")) as platform:
            yield platform


def connect_sandbox(platform: Platform, items: int) -> None:
    """A sandbox with that many items, connected, and the item flow set up."""
    path = platform.folder / "items.csv"
    path.write_text("Code,Description\n" + "".join(f"I{n},Item number {n}\n" for n in range(items)))
    log = platform.folder / "sandbox.ndjson"
    told = platform.sandbox("--items", str(path), "--log", str(log))
    settings = {"host": told["url"], "division": told["division"], "client_id": told["client_id"]}
    connection = platform.cli(
        "connections", "create", "exact_online", "-a", CODE, "--settings", orjson.dumps(settings).decode(),
        "--secrets", '{"client_secret": "sandbox-secret"}',
    )  # fmt: skip
    functions = platform.start("ordersync_functions")
    platform.until(lambda: _connected(platform, connection["id"]), "the connection is authorised")
    platform.stop(functions)
    platform.cli("flows", "set", "item", "-a", CODE, "--connection", connection["id"])


def _connected(platform: Platform, id: str) -> bool:
    try:
        return bool(platform.cli("connections", "authorise", id, "-a", CODE, "--follow")["state"] == "Connected")
    except AssertionError:  # the local host is not up yet
        return False


def assert_nothing_lost_nothing_doubled(platform: Platform, *, items: int, events: int) -> None:
    assert platform.count("SELECT count(*) FROM items") == items
    assert platform.numbers() == list(range(1, events + 1))
    received = platform.received()
    assert {line["sequence"] for line in received} == set(range(1, events + 1))
    assert sorted({line["position"] for line in received}) == list(range(1, events + 1))
    bodies: dict[str, str] = {}
    assert all(bodies.setdefault(line["id"], line["body"]) == line["body"] for line in received)
    assert platform.cli("dead-letters", "list") == []


def import_with(platform: Platform, point: str, module: str, *, items: int) -> None:
    """An import during which the process of `module` is killed at `point`; then everything goes on."""
    port = platform.receivers()
    platform.subscribe(port, "everything", "*")
    connect_sandbox(platform, items)
    platform.cli("jobs", "start", "ItemSync", "-a", CODE)
    if module == "ordersync_jobs":
        platform.killed(point, module)
        platform.let_pass(BEYOND_LEASES)
        platform.start("ordersync_functions")
        platform.start("ordersync_jobs", "--launch")
    else:
        platform.start("ordersync_jobs", "--launch")
        platform.killed(point, module)
        platform.let_pass(BEYOND_FIRST_TICKET)
        platform.start("ordersync_functions")
    platform.until(lambda: platform.count("SELECT count(*) FROM items") == items, "all items are there")
    platform.until(lambda: platform.unsettled() == 0, "everything is delivered")


def test_the_relay_dies_between_numbering_and_sending(platform: Platform) -> None:
    import_with(platform, BETWEEN_NUMBERING_AND_SENDING, "ordersync_functions", items=60)
    assert_nothing_lost_nothing_doubled(platform, items=60, events=60)


def test_the_delivery_dies_between_response_and_record(platform: Platform) -> None:
    import_with(platform, BETWEEN_RESPONSE_AND_RECORD, "ordersync_functions", items=60)
    assert_nothing_lost_nothing_doubled(platform, items=60, events=60)
    assert len(platform.received()) > 60, "the unrecorded one was sent again"


@pytest.mark.e2e
def test_a_job_dies_between_two_batches(platform: Platform) -> None:
    import_with(platform, BETWEEN_TWO_BATCHES, "ordersync_jobs", items=ITEMS)
    assert_nothing_lost_nothing_doubled(platform, items=ITEMS, events=ITEMS)
    [execution] = platform.cli("flows", "executions", "item", "-a", CODE)
    assert execution["created"] == ITEMS, "the run went on counting where it was killed"


@pytest.mark.e2e
def test_emptied_queues_fill_again(platform: Platform) -> None:
    """Work waits at each of the three queues while they are emptied by hand."""
    port = platform.receivers()
    platform.subscribe(port, "everything", "*")
    connect_sandbox(platform, 60)
    platform.cli("jobs", "start", "ItemSync", "-a", CODE)
    emptied = [platform.empty_queues()]
    platform.let_pass(BEYOND_FIRST_TICKET)
    jobs = platform.start("ordersync_jobs", "--launch")
    platform.killed(BETWEEN_NUMBERING_AND_SENDING, "ordersync_functions")
    platform.stop(jobs)
    platform.let_pass(BEYOND_FIRST_TICKET)
    platform.killed(BETWEEN_RESPONSE_AND_RECORD, "ordersync_functions")
    emptied.append(platform.empty_queues())
    assert all(emptied), emptied
    platform.let_pass(BEYOND_FIRST_TICKET)
    platform.start("ordersync_functions")
    platform.until(lambda: platform.count("SELECT count(*) FROM items") == 60, "all items are there")
    platform.until(lambda: platform.unsettled() == 0, "everything is delivered")
    assert_nothing_lost_nothing_doubled(platform, items=60, events=60)
