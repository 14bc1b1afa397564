"""What the demo expects of its own figures: pure. Each figure was read where it arose, by another process than the one
that made it."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

Line = Mapping[str, Any]


@frozen(kw_only=True)
class RunEvidence:
    """One run of the item flow.

    served: rows of items that the sandbox's request log says it handed out during the run.
    row: the run as the admin database has it. log: its entry in the execution log.
    written: items that SQL finds changed by the run: their `updated_at` lies within it.
    events: numbered events that name the run as their cause.
    """

    label: str
    served: int
    row: Mapping[str, Any]
    log: Mapping[str, int]
    written: int
    events: int
    seconds: float


@frozen(kw_only=True)
class WebhookEvidence:
    """One webhook: which events its types select in the feed (ids in order), and the receiver's own file.

    lines: of a receiver that is not the demo's own, the deliveries that SQL says were made.
    """

    name: str
    event_types: Sequence[str]
    selected: Sequence[str]
    lines: Sequence[Line]


@frozen(kw_only=True)
class Evidence:
    """attempts: rows of attempts in SQL. dead_letters: of all queues. numbers: of the feed's events, in order.
    in_quarantine: rows of the source that became no item; of a file of the caller's own there may be some.

    own_receivers: whether the demo's own receivers took the requests; nobody else's file can be read.
    """

    runs: Sequence[RunEvidence]
    webhooks: Sequence[WebhookEvidence]
    numbers: Sequence[int]
    attempts: int
    dead_letters: int
    items_at_source: int
    items_stored: int
    in_quarantine: int = 0
    own_receivers: bool = True
    changed_at_source: Sequence[str] = field(factory=tuple)
    changed_events: Sequence[str] = field(factory=tuple)


def figures(evidence: Evidence) -> dict[str, Any]:
    """The demo's JSON."""
    return {
        "runs": [_run_figures(run) for run in evidence.runs],
        "events": len(evidence.numbers),
        "delivered": sum(len(delivered(webhook)) for webhook in evidence.webhooks),
        "attempts": evidence.attempts,
        "dead_letters": evidence.dead_letters,
        "sequence_gaps": gaps(evidence.numbers),
        "position_gaps": sum(gaps(sorted(delivered(webhook))) for webhook in evidence.webhooks),
        "signature_failures": _signature_failures(evidence),
        "lost": sum(len(lost(webhook)) for webhook in evidence.webhooks),
        "items_at_source": evidence.items_at_source,
        "items_stored": evidence.items_stored,
        "failed_requests": sum(line["status"] == 503 for w in evidence.webhooks for line in w.lines),
    }


def _signature_failures(evidence: Evidence) -> int | None:
    """None where only the caller's receiver could tell."""
    if not evidence.own_receivers:
        return None
    return sum(not line["verified"] for webhook in evidence.webhooks for line in webhook.lines)


def _run_figures(run: RunEvidence) -> dict[str, Any]:
    counts = ("created", "updated", "deleted", "unchanged", "quarantined")
    return {
        "label": run.label,
        "type": run.row["type"],
        "state": run.row["state"],
        "read": run.served,
        **{name: run.log[name] for name in counts},
        "events": run.events,
        "seconds": round(run.seconds, 3),
    }


def delivered(webhook: WebhookEvidence) -> dict[int, Line]:
    """Verified requests that the receiver took, by position."""
    return {
        line["position"]: line
        for line in webhook.lines
        if line["verified"] and 200 <= line["status"] < 300 and line["position"] is not None
    }


def lost(webhook: WebhookEvidence) -> list[str]:
    """Events that the webhook's types select in the feed and that its receiver never took."""
    taken = {line["id"] for line in delivered(webhook).values()}
    return [id for id in webhook.selected if id not in taken]


def gaps(numbers: Sequence[int]) -> int:
    """How many of 1..n are missing, repeated or out of order."""
    expected = list(range(1, len(numbers) + 1))
    missing = set(range(1, max(numbers, default=0) + 1)) - set(numbers)
    disorder = sum(number != wanted for number, wanted in zip(numbers, expected, strict=True))
    return max(len(missing), 1 if disorder else 0)


def failures(evidence: Evidence) -> list[str]:
    """Each expectation that does not hold, beginning with the name of its figure; none: the demo has passed."""
    shown = figures(evidence)
    found = [
        f"{name}: {shown[name]}, expected 0"
        for name in ("dead_letters", "sequence_gaps", "position_gaps", "signature_failures", "lost")
        if shown[name] not in (0, None)
    ]
    if len(evidence.runs) != 4:
        found.append(f"runs: {len(evidence.runs)}, expected 4")
    for run in evidence.runs:
        found += _run_failures(run)
    selected = sum(len(webhook.selected) for webhook in evidence.webhooks)
    if shown["delivered"] != selected:
        found.append(f"delivered: {shown['delivered']}, the feed selects {selected}")
    requests = sum(len(webhook.lines) for webhook in evidence.webhooks)
    if evidence.own_receivers and evidence.attempts != requests:
        found.append(f"attempts: {evidence.attempts} in SQL, {requests} in the receivers' files")
    told = sum(run.events for run in evidence.runs)
    if shown["events"] != told:
        found.append(f"events: {shown['events']} in the feed, {told} by runs")
    if evidence.items_stored + evidence.in_quarantine != evidence.items_at_source:
        found.append(
            f"items_stored: {evidence.items_stored} and {evidence.in_quarantine} in quarantine, "
            f"at the source {evidence.items_at_source}"
        )
    for webhook in evidence.webhooks:
        bodies = {line["id"]: line["body"] for line in webhook.lines}
        if any(bodies[line["id"]] != line["body"] for line in webhook.lines):
            found.append(f"delivered: {webhook.name} got one event with different bytes")
    if len(evidence.runs) == 4:
        found += _script_failures(evidence)
    return found


def _run_failures(run: RunEvidence) -> list[str]:
    counts = run.log
    found = []
    if run.row["state"] != "Succeeded":
        found.append(f"runs[{run.label}].state: {run.row['state']}, expected Succeeded")
    total = counts["created"] + counts["updated"] + counts["unchanged"] + counts["quarantined"]
    if run.served != total:
        found.append(f"runs[{run.label}].read: {run.served} served, {total} accounted for")
    changes = counts["created"] + counts["updated"] + counts["deleted"]
    if run.events != changes:
        found.append(f"runs[{run.label}].events: {run.events}, changes {changes}")
    if run.written != counts["created"] + counts["updated"]:
        found.append(f"runs[{run.label}].written: {run.written} rows in SQL, changes {changes}")
    return found


def _script_failures(evidence: Evidence) -> list[str]:
    first, quiet, again, changed = evidence.runs
    found = []
    if first.log["created"] + first.log["quarantined"] != first.served or first.served == 0:
        found.append(f"runs[{first.label}].created: {first.log['created']} of {first.served} read")
    if quiet.served != 0:
        found.append(f"runs[{quiet.label}].read: {quiet.served}, expected 0")
    if again.served != first.served:
        found.append(f"runs[{again.label}].read: {again.served}, expected {first.served}")
    if again.log["unchanged"] + again.log["quarantined"] != again.served:
        found.append(f"runs[{again.label}].unchanged: {again.log['unchanged']} of {again.served} read")
    if changed.log["updated"] + changed.log["quarantined"] != len(evidence.changed_at_source):
        found.append(
            f"runs[{changed.label}].updated: {changed.log['updated']}, changed at the source "
            f"{len(evidence.changed_at_source)}"
        )
    told = set(evidence.changed_events)
    if not len(told) == len(evidence.changed_events) == changed.log["updated"] or told - {*evidence.changed_at_source}:
        found.append(f"runs[{changed.label}].events: not exactly those items that changed at the source")
    return found
