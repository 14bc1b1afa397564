"""What each command does when it works: for a person, with --json, and when there is nothing."""

import io
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from ordersync_adapters.tokens.verifier import make_verifier
from ordersync_admin.commands import jobs as job_commands
from ordersync_core.jobs.commands import CancelRun
from ordersync_core.jobs.handlers import cancel_run
from ordersync_core.kernel.clock import Clock
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.messaging.queue import Message
from tests.admin.command_line import CODE, NO_ID, CommandLine
from tests.admin.receivers import a_receiver
from tests.admin.test_bad_input import COMMANDS

A = ("-a", CODE)


# administrations, identities, token


def test_administrations(ordersync: CommandLine) -> None:
    created = ordersync.json("administrations", "create", "beta", "--name", "Beta")
    assert created == {"code": "beta", "name": "Beta", "state": "Active"}
    assert "exists already" in ordersync("administrations", "create", "beta", "--name", "Beta", code=1).err
    said = ordersync("administrations", "list")
    assert [line.split() for line in said.out.splitlines()] == [
        ["code", "name", "state"],
        ["acme", "Acme", "Active"],
        ["beta", "Beta", "Active"],
    ]
    assert [row["code"] for row in ordersync.json("administrations", "list")] == ["acme", "beta"]
    assert "Next: ordersync identities grant" in ordersync("administrations", "create", "gamma").err


def test_a_command_without_a_platform_says_how_to_get_one(
    ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORDERSYNC_STATE", str(tmp_path / "empty"))
    said = ordersync("administrations", "list", code=1)
    assert "there is no admin database yet: 'ordersync up' or 'ordersync administrations create" in said.err
    assert "makes it" in ordersync("items", "list", *A, code=1).err


def test_identities(ordersync: CommandLine) -> None:
    assert "Nobody is a member yet" in ordersync("identities", "list", *A).err
    assert ordersync.json("identities", "list", *A) == []
    granted = ordersync.json("identities", "grant", "alice", *A, "--role", "Owner")
    assert granted == {"identity": "alice", "administration": CODE, "role": "Owner"}
    assert "Next: ordersync token 'auth0|[/]'" in ordersync("identities", "grant", "auth0|[/]", *A).err
    assert ordersync("identities", "list", *A).out.splitlines()[1:] == ["alice      Owner", "auth0|[/]  Reader"]
    assert ordersync.json("identities", "revoke", "alice", *A) == {"identity": "alice"}
    assert "auth0|[/] is no longer a member" in ordersync("identities", "revoke", "auth0|[/]", *A).err
    assert "not a member" in ordersync("identities", "revoke", "alice", *A, code=1).err


def test_a_token_is_one_that_the_api_believes(ordersync: CommandLine) -> None:
    settings = ordersync.shell.settings
    verifier = make_verifier(
        issuer=None, audience=None, jwks=None, folder=settings.keys_folder, clock=_clock(ordersync)
    )
    token = ordersync("token", "alice").out.strip()
    assert verifier.subject(token) == "alice"
    answer = ordersync.json("token", "bob", "--hours", "1")
    assert verifier.subject(answer["token"]) == "bob"
    assert answer | {"token": ""} == {"token": "", "subject": "bob", "hours": 1}


def test_no_token_where_another_issuer_is_set(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERSYNC_AUTH_ISSUER", "https://issuer.example")
    assert "tokens come from that issuer" in ordersync("token", "alice", code=1).err


# items, events, trace


def test_items(ordersync: CommandLine) -> None:
    assert "There are no items yet: ordersync jobs start ItemSync -a acme --watch" in ordersync("items", "list", *A).err
    assert ordersync.json("items", "list", *A) == []
    for number in range(3):
        ordersync.put(f"T-{number}", f"Teapot {number}")
    ordersync.put("W 1", "Wok")
    rows = ordersync.json("items", "list", *A)
    assert [(row["code"], row["name"]) for row in rows][-1] == ("W 1", {"en": "Wok"})
    said = ordersync("items", "list", *A, "--limit", "2")
    assert [line.split()[0] for line in said.out.splitlines()] == ["code", "T-0", "T-1"]
    assert "There are more: add --after T-1" in said.err
    assert "There are more: add --after" not in ordersync("items", "list", *A, "--after", "T-1").err
    assert [row["code"] for row in ordersync.json("items", "list", *A, "--search", "wok")] == ["W 1"]
    assert "There are no such items." in ordersync("items", "list", *A, "--search", "kettle").err
    shown = ordersync("items", "show", "T-1", *A).out
    assert "name en" in shown
    assert "Teapot 1" in shown
    assert ordersync.json("items", "show", "W 1", *A)["code"] == "W 1"
    assert "there is no item 'X'" in ordersync("items", "show", "X", *A, code=1).err


def test_events_tail(ordersync: CommandLine) -> None:
    assert "There are no events yet." in ordersync("events", "tail", *A).err
    assert ordersync("events", "tail", *A, "--json").out == ""
    for number in range(5):
        ordersync.put(f"T-{number}")
    ordersync.publish()
    lines = ordersync("events", "tail", *A, "--last", "2").out.splitlines()
    assert [(line.split()[0], line.split()[4], line.split()[-3]) for line in lines] == [
        ("4", "item.created", "T-3"),
        ("5", "item.created", "T-4"),
    ]
    events = [orjson.loads(line) for line in ordersync("events", "tail", *A, "--after", "1", "--json").out.splitlines()]
    assert [event["sequence"] for event in events] == [2, 3, 4, 5]
    assert "The last event is number 5." in ordersync("events", "tail", *A, "--after", "5").err


def test_events_tail_goes_over_pages(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ordersync_admin.commands.events.PAGE", 2)
    for number in range(5):
        ordersync.put(f"T-{number}")
    ordersync.publish()
    assert len(ordersync("events", "tail", *A, "--after", "0").out.splitlines()) == 5


def test_trace_tells_the_whole_way(ordersync: CommandLine) -> None:
    with a_receiver(status=503) as receiver:
        webhook = ordersync.json("webhooks", "create", receiver.url, *A)
        ordersync.put("T-1")
        [event] = [row for row in _outbox(ordersync) if row["key"] == "T-1"]
        assert "It has no number yet" in ordersync("trace", event["id"], *A).err
        ordersync.publish()
        assert "No attempt has been made yet." in ordersync("trace", event["id"], *A).err
        ordersync.deliver()
    trace = ordersync.json("trace", event["id"], *A)
    assert (trace["number"], trace["type"], trace["key"]) == (1, "item.created", "T-1")
    [delivery] = trace["deliveries"]
    assert (delivery["webhook_id"], delivery["position"], delivery["state"]) == (webhook["id"], 1, "Waiting")
    [attempt] = delivery["attempts"]
    assert (attempt["number"], attempt["status"], attempt["response"]) == (1, 503, "no [/] today")
    shown = ordersync("trace", event["id"], *A).out
    for part in (event["id"], webhook["id"], "HTTP 503", "no [/] today"):
        assert part in shown
    assert "there is no event" in ordersync("trace", NO_ID, *A, code=1).err


def test_trace_tells_what_became_of_a_fact_that_another_event_tells(ordersync: CommandLine) -> None:
    ordersync.put("T-1", "Teapot")
    ordersync.put("T-1", "Another teapot")
    second = _outbox(ordersync)[-1]["id"]
    ordersync.publish()
    said = ordersync("trace", second, *A)
    assert "Another event tells its fact too" in said.err
    assert "No webhook takes it." in ordersync("trace", _outbox(ordersync)[0]["id"], *A).err


# webhooks


def test_webhooks(ordersync: CommandLine) -> None:
    assert "There are no webhooks yet: ordersync webhooks create URL -a acme" in ordersync("webhooks", "list", *A).err
    assert ordersync.json("webhooks", "list", *A) == []
    said = ordersync("webhooks", "create", "http://127.0.0.1:9/hook", *A)
    assert "whsec_" in said.out
    assert "shown this once" in said.err
    created = ordersync.json("webhooks", "create", "http://127.0.0.1:9/two", *A, "--event", "item.updated")
    assert created["event_types"] == ["item.updated"]
    id = created["id"]
    assert len(ordersync.json("webhooks", "list", *A)) == 2
    assert "whsec_" not in ordersync("webhooks", "list", *A).out
    assert ordersync.json("webhooks", "show", id, *A) == {k: v for k, v in created.items() if k != "secret"}
    assert ordersync.json("webhooks", "disable", id, *A)["state"] == "Disabled"
    assert "disabled by a person" in ordersync("webhooks", "list", *A).out
    assert f"webhooks replay {id} -a acme --after NUMBER" in ordersync("webhooks", "enable", id, *A).err
    assert ordersync.json("webhooks", "show", id, *A)["state"] == "Enabled"
    assert ordersync.json("webhooks", "delete", id, *A) == {"deleted": id}
    assert "there is no webhook" in ordersync("webhooks", "show", id, *A, code=1).err
    assert len(ordersync.json("webhooks", "list", *A)) == 1


def test_a_private_target_is_refused_with_a_hint(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORDERSYNC_ALLOW_PRIVATE_TARGETS")
    assert "ORDERSYNC_ALLOW_PRIVATE_TARGETS" in ordersync("webhooks", "create", "https://127.0.0.1/", *A, code=1).err


def test_deliveries_and_sending_again(ordersync: CommandLine) -> None:
    with a_receiver() as receiver:
        id = ordersync.json("webhooks", "create", receiver.url, *A)["id"]
        assert "It has not been given any delivery yet." in ordersync("webhooks", "deliveries", id, *A).err
        for number in range(3):
            ordersync.put(f"T-{number}")
        ordersync.publish()
        ordersync.deliver()
        rows = ordersync.json("webhooks", "deliveries", id, *A)
        assert [(row["position"], row["state"], row["attempts"]) for row in rows] == [
            (1, "Delivered", 1),
            (2, "Delivered", 1),
            (3, "Delivered", 1),
        ]
        said = ordersync("webhooks", "deliveries", id, *A, "--limit", "2")
        assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [["1", "Delivered"], ["2", "Delivered"]]
        assert "There are more: add --after 2" in said.err
        assert [row["position"] for row in ordersync.json("webhooks", "deliveries", id, *A, "--after", "2")] == [3]
        assert ordersync.json("webhooks", "deliveries", id, *A, "--state", "Dead") == []
        again = ordersync.json("webhooks", "redeliver", rows[0]["id"], *A)
        assert (again["id"], again["state"]) == (rows[0]["id"], "Waiting")
        assert ordersync.json("webhooks", "replay", id, *A, "--after", "1") == {"deliveries": 2}
        assert [row["position"] for row in ordersync.json("webhooks", "deliveries", id, *A)] == [1, 2, 3, 4, 5]
        ordersync.json("webhooks", "disable", id, *A)
        parked = ordersync.json("webhooks", "deliveries", id, *A, "--state", "Parked")
        assert len(parked) == 3
        ordersync("webhooks", "enable", id, *A, "--cancel-parked")
        assert len(ordersync.json("webhooks", "deliveries", id, *A, "--state", "Cancelled")) == 3


def test_send_test_is_a_signed_request(ordersync: CommandLine) -> None:
    with a_receiver() as receiver:
        created = ordersync.json("webhooks", "create", receiver.url, *A)
        receiver.secret = created["secret"]
        answer = ordersync.json("webhooks", "send-test", created["id"], *A)
        assert (answer["status"], answer["url"]) == (204, receiver.url)
        assert [body["type"] for body in receiver.verified] == ["webhook.test"]
        receiver.status = 500
        assert ordersync("webhooks", "send-test", created["id"], *A, code=1).err == ""
    assert "no connection" in ordersync.json("webhooks", "send-test", created["id"], *A, code=1)["error"]


# dead letters


def test_dead_letters(ordersync: CommandLine) -> None:
    assert "There are no dead letters." in ordersync("dead-letters", "list").err
    assert ordersync.json("dead-letters", "list") == []
    assert ordersync.json("dead-letters", "resubmit", "--all") == []
    with a_receiver(status=400) as receiver:
        id = ordersync.json("webhooks", "create", receiver.url, *A)["id"]
        ordersync.put("T-1")
        ordersync.put("T-2")
        ordersync.publish()
        ordersync.deliver(until_dead=True)
    ordersync.json("jobs", "start", "ItemSync", *A)
    ordersync.end_job(failure="it cannot be done [/]")
    letters = ordersync.json("dead-letters", "list")
    assert [(letter["queue"], letter["administration"], letter["type"]) for letter in letters] == [
        ("webhooks", CODE, "item.created"),
        ("webhooks", CODE, "item.created"),
        ("queued-jobs", CODE, "ItemSync"),
    ]
    said = ordersync("dead-letters", "list", "--queue", "webhooks")
    assert len(said.out.splitlines()) == 3
    assert "by a test [/]" in said.out
    assert "Next: ordersync dead-letters show ID" in said.err
    shown = ordersync("dead-letters", "show", letters[0]["id"], "--queue", "webhooks").out
    assert "message body delivery" in shown
    assert ordersync.json("dead-letters", "show", letters[0]["id"], "--queue", "webhooks")["reason"] == "GivenUp"

    assert "there is no dead letter nope" in ordersync("dead-letters", "resubmit", "nope", code=1).err
    assert "name dead letters, or say --all" in ordersync("dead-letters", "resubmit", code=2).err
    one = ordersync.json("dead-letters", "resubmit", letters[0]["id"], "--queue", "webhooks")
    assert one == [{"queue": "webhooks", "id": letters[0]["id"], "problem": None}]
    assert "2 resubmitted, 0 not." in ordersync("dead-letters", "resubmit", "--all").err
    assert ordersync.json("dead-letters", "list") == []
    [run] = ordersync.json("jobs", "list", *A)
    assert run["state"] == "Queued"
    states = [row["state"] for row in ordersync.json("webhooks", "deliveries", id, *A)]
    assert states == ["Waiting", "Waiting"]


def test_a_dead_letter_that_cannot_be_resubmitted_does_not_keep_others(ordersync: CommandLine) -> None:
    queue = ordersync.queue("events")
    queue.send([Message(send_id="x", body=b"not JSON", group=CODE)])
    [claim] = queue.claim()
    queue.dead_letter(claim, reason="Unreadable", description="no JSON")
    ordersync.json("jobs", "start", "ItemSync", *A)
    ordersync.end_job(failure="no")
    results = ordersync.json("dead-letters", "resubmit", "--all", code=1)
    assert [bool(result["problem"]) for result in results] == [True, False]
    [letter] = ordersync.json("dead-letters", "list")
    assert (letter["type"], letter["administration"]) == (None, CODE)
    assert "not JSON" in ordersync("dead-letters", "show", letter["id"]).out


# jobs


def test_jobs(ordersync: CommandLine) -> None:
    assert "No job has run yet: ordersync jobs start ItemSync -a acme" in ordersync("jobs", "list", *A).err
    assert ordersync.json("jobs", "list", *A) == []
    said = ordersync("jobs", "start", "ItemSync", *A, "--parameters", '{"complete": true}')
    [run] = ordersync.json("jobs", "list", *A)
    assert (run["state"], run["parameters"]) == ("Queued", {"complete": True})
    assert f"Next: ordersync jobs watch {run['id']} -a acme" in said.err
    ordersync.end_job(read=7, created=3, unchanged=4, updated=0)
    assert "7 read, 3 created, 4 unchanged" in ordersync("jobs", "list", *A).out
    shown = ordersync("jobs", "show", run["id"], *A).out
    assert "result created" in shown
    assert "ended at" in shown
    assert ordersync.json("jobs", "show", run["id"], *A)["state"] == "Succeeded"
    assert "No run is Failed." in ordersync("jobs", "list", *A, "--state", "Failed").err
    assert "there is no job run" in ordersync("jobs", "show", NO_ID, *A, code=1).err

    second = ordersync.json("jobs", "start", "ItemSelectiveSync", *A, "--parameters", '{"codes": ["T-1"]}')
    assert ordersync.json("jobs", "cancel", second["id"], *A)["state"] == "Cancelled"
    assert "has ended" in ordersync("jobs", "cancel", second["id"], *A, code=1).err
    more = ordersync("jobs", "list", *A, "--limit", "1")
    assert second["id"] in more.out
    assert run["id"] not in more.out
    assert "There are more: see --limit" in more.err


def test_watching_a_run_that_has_ended(ordersync: CommandLine) -> None:
    run = ordersync.json("jobs", "start", "ItemSync", *A)
    ordersync.end_job(read=9, quarantined=2, held_deletions=12)
    said = ordersync("jobs", "watch", run["id"], *A)
    assert "ordersync flows quarantine list item -a acme" in said.err
    assert """12 deletions are held back""" in said.err
    assert """--parameters '{"confirm_deletions": true}'""" in said.err
    assert ordersync.json("jobs", "watch", run["id"], *A)["state"] == "Succeeded"
    failed = ordersync.json("jobs", "start", "ItemSync", *A)
    ordersync.end_job(failure="no")
    assert ordersync.json("jobs", "watch", failed["id"], *A, code=1)["reason"] == "no"


def test_watching_says_when_nobody_takes_the_run(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is cancelled by the time it has been looked at twice."""
    monkeypatch.setattr(job_commands, "QUEUED_FOR_LONG", 0.0)
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            [run] = ordersync.shell.admin_queries.runs(CODE, PageRequest()).rows
            ordersync.shell.application.run(cancel_run, CancelRun(id=run.id), ordersync.context)

    monkeypatch.setattr("ordersync_admin.commands.jobs.time.sleep", look)
    said = ordersync("jobs", "start", "ItemSync", *A, "--watch", code=1)
    assert said.err.count("No Jobs process has taken the run yet: is 'ordersync up' running?") == 1
    assert "cancelled by a person" in said.out


def test_schedules(ordersync: CommandLine) -> None:
    assert "Nothing is scheduled: ordersync jobs schedule" in ordersync("jobs", "schedules", *A).err
    assert ordersync.json("jobs", "schedules", *A) == []
    made = ordersync.json("jobs", "schedule", "ItemSync", "0 6 * * *", *A, "--time-zone", "Europe/Amsterdam")
    assert (made["cron"], made["time_zone"]) == ("0 6 * * *", "Europe/Amsterdam")
    assert ordersync.json("jobs", "schedules", *A) == [made]
    shown = ordersync("jobs", "schedules", *A).out
    assert " 06:00 Europe/Amsterdam" in shown, "it is due at six o'clock where it is read"
    assert ordersync.json("jobs", "unschedule", made["id"], *A) == {"deleted": made["id"]}
    assert "there is no job definition" in ordersync("jobs", "unschedule", made["id"], *A, code=1).err


# connections, flows: what needs no external system; test_command_line.py has the rest


def test_connections_and_flows(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    [connector] = ordersync.json("connections", "connectors")
    assert connector["name"] == "exact_online"
    assert "client_secret" in connector["secrets"]["properties"]
    assert "item name, family_code" in ordersync("connections", "connectors").out
    assert "There are no connections yet: ordersync connections create" in ordersync("connections", "list", *A).err
    created = _connection(ordersync)
    id = created["id"]
    assert created["state"] == "NeedsConsent"
    assert "top-secret" not in ordersync("connections", "list", *A).out
    assert ordersync.json("connections", "list", *A) == [created]
    assert ordersync.json("connections", "show", id, *A) == created
    assert "settings division" in ordersync("connections", "show", id, *A).out
    url = ordersync.json("connections", "authorise", id, *A)["url"]
    assert url.startswith("http://127.0.0.1:9/api/oauth2/auth?")
    said = ordersync("connections", "authorise", id, *A)
    assert len(said.out.splitlines()) == 1, "an address that can be copied"
    assert f"then ordersync connections show {id} -a acme" in said.err
    assert (
        "nobody answers at http://127.0.0.1:9" in ordersync("connections", "authorise", id, *A, "--follow", code=1).err
    )

    assert "is not set up: ordersync flows set item -a acme" in ordersync("flows", "show", "item", *A, code=1).err
    flow = ordersync.json("flows", "set", "item", *A, "--connection", id, "--guard-ratio", "0.2")
    assert flow["guard"] == {"floor": 10, "ratio": "0.2"}
    assert ordersync.json("flows", "show", "item", *A) == flow
    assert "source connection id" in ordersync("flows", "show", "item", *A).out
    for share in ("x", "NaN", "1.5", "-1"):
        wrong = ("flows", "set", "item", *A, "--connection", id, "--guard-ratio", share)
        assert "is not a share from 0 to 1" in ordersync(*wrong, code=1).err
    assert "The flow has not run yet" in ordersync("flows", "executions", "item", *A).err
    assert ordersync.json("flows", "executions", "item", *A) == []
    assert "Nothing lies in quarantine." in ordersync("flows", "quarantine", "list", "item", *A).err
    assert ordersync.json("flows", "quarantine", "list", "item", *A) == []
    assert ordersync.json("flows", "quarantine", "retry", "item", *A) == {"records": 0}
    assert ordersync.json("flows", "quarantine", "retry", "item", "unknown", *A, code=1) == {"records": 0}
    other = _connection(ordersync)["id"]
    assert ordersync.json("connections", "delete", other, *A) == {"deleted": other}
    assert "there is no connection" in ordersync("connections", "show", other, *A, code=1).err


def test_secrets_come_from_standard_input(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"client_secret": "top-secret"}'))
    settings = '{"host": "http://127.0.0.1:9", "division": 1, "client_id": "x"}'
    said = ordersync("connections", "create", "exact_online", *A, "--settings", settings, "--secrets", "-")
    assert "top-secret" not in said.out
    assert "Next: ordersync connections authorise" in said.err


# databases and doctor


def test_db_upgrade_goes_on_with_a_creation_that_broke_off(ordersync: CommandLine) -> None:
    ordersync("administrations", "create", "beta")
    assert ordersync.json("db", "upgrade") == [
        {"database": "admin", "problem": None},
        {"database": "acme", "problem": None},
        {"database": "beta", "problem": None},
    ]
    _break_off(ordersync, "beta")
    assert "its creation broke off" in ordersync("doctor", code=1).out
    assert "3 databases are at the present revision, 0 are not." in ordersync("db", "upgrade").err
    assert [row["state"] for row in ordersync.json("administrations", "list")] == ["Active", "Active"]
    assert ordersync.json("items", "list", "-a", "beta") == []


def test_db_upgrade_does_not_wait_for_a_database_that_is_broken(ordersync: CommandLine) -> None:
    for code in ("aa", "beta"):
        ordersync("administrations", "create", code)
        _break_off(ordersync, code)
    (ordersync.state / "tenants").joinpath("aa.db").write_bytes(b"this is no database" * 1000)
    rows = ordersync.json("db", "upgrade", code=1)
    assert [bool(row["problem"]) for row in rows] == [False, True, False, False]
    assert [row["state"] for row in ordersync.json("administrations", "list")] == ["Creating", "Active", "Active"]
    assert "1 are not" in ordersync("db", "upgrade", code=1).err


def test_doctor_finds_nothing_wrong(ordersync: CommandLine) -> None:
    ordersync("token", "alice")
    rows = ordersync.json("doctor")
    assert {row["verdict"] for row in rows} == {"fine"}
    checks = [row["check"] for row in rows]
    assert checks == [
        "settings",
        "state folder",
        "keys",
        "token issuer",
        "admin database",
        "queues",
        "acme",
        "port of API",
        "port of Functions",
    ]
    assert "0 items, 0 events" in ordersync("doctor").out


def test_doctor_finds_keys_that_others_may_read(ordersync: CommandLine) -> None:
    ordersync("token", "alice")
    key = ordersync.state / "keys" / "issuer.pem"
    key.chmod(0o640)
    assert _wrong(ordersync) == {"keys": f"others may use {key}: chmod go= {key}"}


def test_doctor_finds_a_key_that_is_none(ordersync: CommandLine) -> None:
    ordersync("token", "alice")
    (ordersync.state / "keys" / "issuer.pem").write_text("nonsense")
    assert "holds no private key" in _wrong(ordersync)["token issuer"]


def test_doctor_finds_an_issuer_that_cannot_be_asked(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERSYNC_AUTH_ISSUER", "https://issuer.example")
    assert "set together or not at all" in _wrong(ordersync)["token issuer"]
    monkeypatch.setenv("ORDERSYNC_AUTH_AUDIENCE", "ordersync")
    monkeypatch.setenv("ORDERSYNC_AUTH_JWKS", "http://127.0.0.1:9/keys")
    assert "cannot be fetched" in _wrong(ordersync)["token issuer"]


def test_doctor_finds_databases_that_were_not_upgraded(ordersync: CommandLine) -> None:
    """As an older release would have left them: at no revision that this one knows as its last."""
    for name, check in (("tenants/acme.db", "acme"), ("admin.db", "admin database")):
        with closing(sqlite3.connect(ordersync.state / name)) as connection, connection:
            connection.execute("DELETE FROM alembic_version")
        assert _wrong(ordersync)[check] == "it is not at the present revision: ordersync db upgrade"


def test_doctor_of_an_empty_folder(ordersync: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERSYNC_STATE", str(tmp_path / "empty"))
    assert "admin database" in _wrong(ordersync)


# all of them


def test_reading_makes_no_keys(ordersync: CommandLine) -> None:
    shutil.rmtree(ordersync.state / "keys")
    for words in (["items", "list"], ["webhooks", "list"], ["connections", "list"], ["jobs", "list"]):
        assert ordersync.json(*words, *A) == []
    ordersync("doctor")
    assert not (ordersync.state / "keys").exists()


def test_every_command_is_seen_to_work_in_some_test() -> None:
    tests = Path(__file__).parents[1]
    places = [*(tests / "admin").glob("test_*.py"), *(tests / "end_to_end").glob("test_*.py")]
    text = "".join(place.read_text() for place in places if place.name != "test_bad_input.py")
    missing = [path for path in COMMANDS if ", ".join(f'"{word}"' for word in path) not in text]
    assert missing == []


# what the tests above stand on


def _clock(ordersync: CommandLine) -> Clock:
    clock: Clock = ordersync.shell.application.resolve(Clock)
    return clock


def _outbox(ordersync: CommandLine) -> list[dict[str, Any]]:
    """Rows in order of insertion, numbered or not."""
    with closing(sqlite3.connect(ordersync.state / "tenants" / "acme.db")) as connection:
        rows = connection.execute('SELECT id, key FROM outbox ORDER BY "order"').fetchall()
    return [{"id": str(UUID(bytes=id) if isinstance(id, bytes) else UUID(id)), "key": key} for id, key in rows]


def _connection(ordersync: CommandLine) -> dict[str, Any]:
    settings = '{"host": "http://127.0.0.1:9", "division": 1, "client_id": "x"}'
    secrets = '{"client_secret": "top-secret"}'
    created: dict[str, Any] = ordersync.json(
        "connections", "create", "exact_online", *A, "--settings", settings, "--secrets", secrets
    )
    return created


def _break_off(ordersync: CommandLine, code: str) -> None:
    """The creation of this administration has got no further than its row."""
    (ordersync.state / "tenants" / f"{code}.db").unlink()
    with closing(sqlite3.connect(ordersync.state / "admin.db")) as connection, connection:
        connection.execute("UPDATE administrations SET state = 'Creating' WHERE code = ?", (code,))


def _wrong(ordersync: CommandLine) -> dict[str, str]:
    rows = ordersync("doctor", "--json", code=1).json()
    return {row["check"]: row["detail"] for row in rows if row["verdict"] == "wrong"}
