"""The demo's verdict: each record that is altered makes it fail, and the failure names the figure."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from ordersync_admin.demo.verdict import Evidence, RunEvidence, WebhookEvidence, failures, figures, gaps

COUNTS = ("read", "created", "updated", "deleted", "unchanged", "quarantined")


def a_run(label: str, *, served: int, events: int, **counts: int) -> RunEvidence:
    log = dict.fromkeys(COUNTS, 0) | {"read": served} | counts
    return RunEvidence(
        label=label,
        served=served,
        row={"type": "ItemSync", "state": "Succeeded"},
        log=log,
        written=log["created"] + log["updated"],
        events=events,
        seconds=1.0,
    )


def a_line(position: int, id: str, **changes: Any) -> dict[str, Any]:
    line = {"position": position, "id": id, "verified": True, "status": 204, "body": f"body of {id}"}
    return line | changes


def a_passed_demo() -> Evidence:
    """Three items at the source, of which one changes."""
    ids = ["a", "b", "c", "d"]
    retried = a_line(4, "d", status=503)
    return Evidence(
        runs=[
            a_run("first", served=3, created=3, events=3),
            a_run("quiet", served=0, events=0),
            a_run("again", served=3, unchanged=3, events=0),
            a_run("changed", served=1, updated=1, events=1),
        ],
        webhooks=[
            WebhookEvidence(
                name="everything",
                event_types=("*",),
                selected=ids,
                lines=[*(a_line(place, id) for place, id in enumerate(ids, start=1)), retried],
            ),
            WebhookEvidence(name="updates", event_types=("item.updated",), selected=["d"], lines=[a_line(1, "d")]),
        ],
        numbers=[1, 2, 3, 4],
        attempts=6,
        dead_letters=0,
        items_at_source=3,
        items_stored=3,
        changed_at_source=["T"],
        changed_events=["T"],
    )


def with_run(evidence: Evidence, place: int, **changes: Any) -> Evidence:
    runs = list(evidence.runs)
    runs[place] = evolve(runs[place], **changes)
    return evolve(evidence, runs=runs)


def with_count(place: int, **counts: int) -> Callable[[Evidence], Evidence]:
    return lambda evidence: with_run(evidence, place, log={**evidence.runs[place].log, **counts})


def with_lines(
    place: int, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> Callable[[Evidence], Evidence]:
    def alter(evidence: Evidence) -> Evidence:
        webhooks = list(evidence.webhooks)
        webhooks[place] = evolve(webhooks[place], lines=change([dict(line) for line in webhooks[place].lines]))
        return evolve(evidence, webhooks=webhooks)

    return alter


ALTERED: list[tuple[str, str, Callable[[Evidence], Evidence]]] = [
    ("a run failed", "runs[first].state", lambda e: with_run(e, 0, row={"type": "ItemSync", "state": "Failed"})),
    ("the source served a row more", "runs[first].read", lambda e: with_run(e, 0, served=4)),
    ("a created item is not counted", "runs[first].read", with_count(0, created=2)),
    ("an unchanged item is not counted", "runs[again].read", with_count(2, unchanged=2)),
    ("an update is not counted", "runs[changed].updated", with_count(3, updated=0)),
    ("a deletion that nobody told", "runs[changed].events", with_count(3, deleted=1)),
    ("a quarantined row is counted twice", "runs[first].read", with_count(0, quarantined=1)),
    ("an event of a run is missing", "runs[first].events", lambda e: with_run(e, 0, events=2)),
    ("a full re-read wrote a row", "runs[again].written", lambda e: with_run(e, 2, written=1)),
    ("the quiet run read", "runs[quiet].read", lambda e: with_run(e, 1, served=1)),
    ("a run is missing", "runs", lambda e: evolve(e, runs=e.runs[:3])),
    ("a number is missing", "sequence_gaps", lambda e: evolve(e, numbers=[1, 2, 4, 5])),
    ("a number is repeated", "sequence_gaps", lambda e: evolve(e, numbers=[1, 2, 2, 3])),
    ("the feed lacks an event", "events", lambda e: evolve(e, numbers=[1, 2, 3])),
    ("a request is missing in the file", "lost", with_lines(0, lambda lines: lines[1:])),
    ("a position is missing", "position_gaps", with_lines(1, lambda lines: [a_line(2, "d")])),
    (
        "a signature is wrong",
        "signature_failures",
        with_lines(1, lambda lines: [*lines, a_line(2, "x", verified=False)]),
    ),
    ("nobody subscribed to it", "delivered", with_lines(1, lambda lines: [*lines, a_line(2, "x")])),
    (
        "other bytes on another attempt",
        "delivered",
        with_lines(0, lambda lines: [*lines[:-1], a_line(4, "d", body="?", status=503)]),
    ),
    ("an attempt more in SQL", "attempts", lambda e: evolve(e, attempts=7)),
    ("a dead letter", "dead_letters", lambda e: evolve(e, dead_letters=1)),
    ("an item is missing", "items_stored", lambda e: evolve(e, items_stored=2)),
    ("another item was told than changed", "runs[changed].events", lambda e: evolve(e, changed_events=["U"])),
]


def test_the_demo_passes_when_every_record_agrees() -> None:
    assert failures(a_passed_demo()) == []


def test_rows_in_quarantine_are_accounted_for() -> None:
    """A file of the caller's own may have some, among those that change too."""
    evidence = a_passed_demo()
    for place, counts in ((0, {"created": 2}), (2, {"unchanged": 2}), (3, {"updated": 0})):
        evidence = with_count(place, **counts, quarantined=1)(evidence)
    evidence = with_run(with_run(with_run(evidence, 0, written=2, events=2), 2, written=0), 3, written=0, events=0)
    evidence = evolve(
        evidence,
        webhooks=[
            evolve(evidence.webhooks[0], selected=["a", "b"], lines=evidence.webhooks[0].lines[:2]),
            evolve(evidence.webhooks[1], selected=[], lines=[]),
        ],
        numbers=[1, 2],
        attempts=2,
        items_stored=2,
        in_quarantine=1,
        changed_events=[],
    )
    assert failures(evidence) == []
    assert failures(evolve(evidence, in_quarantine=0)) == ["items_stored: 2 and 0 in quarantine, at the source 3"]


@pytest.mark.parametrize(("figure", "alter"), [a[1:] for a in ALTERED], ids=[a[0] for a in ALTERED])
def test_each_altered_record_fails_the_verdict_and_is_named(figure: str, alter: Callable[[Evidence], Evidence]) -> None:
    found = failures(alter(a_passed_demo()))
    assert any(failure.startswith(f"{figure}:") for failure in found), found


def test_the_figures_are_those_that_machines_read() -> None:
    shown = figures(a_passed_demo())
    assert shown["runs"][0] == {
        "label": "first",
        "type": "ItemSync",
        "state": "Succeeded",
        "read": 3,
        "created": 3,
        "updated": 0,
        "deleted": 0,
        "unchanged": 0,
        "quarantined": 0,
        "events": 3,
        "seconds": 1.0,
    }
    del shown["runs"]
    assert shown == {
        "events": 4,
        "delivered": 5,
        "attempts": 6,
        "dead_letters": 0,
        "sequence_gaps": 0,
        "position_gaps": 0,
        "signature_failures": 0,
        "lost": 0,
        "items_at_source": 3,
        "items_stored": 3,
        "failed_requests": 1,
    }


@pytest.mark.parametrize(
    ("numbers", "count"),
    [([], 0), ([1], 0), ([1, 2, 3], 0), ([2], 1), ([1, 3], 1), ([1, 1], 1), ([2, 1], 1), ([1, 4], 2)],
)
def test_gaps_counts_what_is_missing_and_notices_disorder(numbers: list[int], count: int) -> None:
    assert gaps(numbers) == count
