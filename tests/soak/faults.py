"""Which points belong to the faults K1 to K24, and which points no process reaches."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from ordersync_core.testing.points import points
from tests.end_to_end.killed import Hit


@frozen
class Fault:
    """points: at which a process dies of it; what begins with one of these texts counts. reason: why it has none."""

    text: str
    points: Sequence[str] = ()
    reason: str = ""


FAULTS: Mapping[str, Fault] = {
    "K1": Fault(
        "in the business transaction, before its commit",
        ("before commit in items.", "before commit in flows.apply_batch", "after tell"),
    ),
    "K2": Fault("committed, and the client has no answer", ("after commit in items.",)),
    "K3": Fault(
        "committed, not yet published",
        ("after commit in flows.apply_batch", "after commit in messaging.number", "before events.send"),
    ),
    "K4": Fault("published, not marked", ("after events.send", "before outbox.ticketed")),
    "K5": Fault(
        "a batch half marked: it is marked in one transaction",
        ("after outbox.number", "before commit in messaging.number"),
    ),
    "K6": Fault("the handler has its message, and no transaction", ("after events.claim", "before processed")),
    "K7": Fault("its transaction is committed", ("after commit in webhooks.fan_out", "before events.complete")),
    "K8": Fault("deliveries are committed, not queued", ("after commit in webhooks.fan_out", "before webhooks.send")),
    "K9": Fault("a delivery is claimed, not begun", ("after webhooks.claim", "before sender.send")),
    "K10": Fault("a request half written", reason="lies within one call of the sender; the random kills fall anywhere"),
    "K11": Fault("the response is there, its result is not kept", ("after sender.send", "before deliveries.record")),
    "K12": Fault(
        "the attempt is kept, the next one is not: both are one transaction",
        ("after deliveries.record", "before commit in webhooks.record"),
    ),
    "K13": Fault(
        "moved to the dead letters, the message is still there",
        tuple(f"{moment} {queue}.dead_letter" for moment in ("before", "after") for queue in ("events", "webhooks")),
    ),
    "K14": Fault(
        "in the middle of a resubmission",
        ("after commit in webhooks.resubmit", "after commit in messaging.owe", "before webhooks.remove_dead_letter"),
    ),
    "K15": Fault(
        "a due moment has come, its run is not there", ("before runs.add", "before commit in jobs.enqueue_due")
    ),
    "K16": Fault("the run is there, the definition has not moved on", ("after runs.add", "before definitions.move_on")),
    "K17": Fault("the parent of a job process dies", reason="no call of a port: the random kills hit the launcher"),
    "K18": Fault("a job process is killed three times by its run", ("before source.pages", "after queued-jobs.claim")),
    "K19": Fault("an export half uploaded", reason="there are no exports yet"),
    "K20": Fault("a secret is rotated", ("before commit in webhooks.rotate", "after commit in webhooks.rotate")),
    "K21": Fault(
        "a webhook is disabled while deliveries wait", ("after deliveries.park", "after commit in webhooks.disable")
    ),
    "K22": Fault("during a migration", ("before tenants.migrate", "after tenants.migrate")),
    "K23": Fault(
        "during a retention delete: of dead letters; rows have no retention yet",
        ("before events.purge", "after webhooks.purge"),
    ),
    "K24": Fault("a leader within its term", ("after leases.take", "before leases.hold", "after leases.hold")),
}

NOT_REACHED: Mapping[str, str] = {
    "blobs.put": "nothing is kept as a blob yet",
    "blobs.delete": "nothing is kept as a blob yet",
}
"""Calls of ports that no process makes, each with the reason."""


def name_of(hit: Hit) -> str:
    """The point as the ports name it, without the handler of a commit."""
    return hit.point.partition(" in ")[0]


def missing(hits: Sequence[Hit]) -> list[str]:
    """Points at which nobody died, and calls that are said to be out of reach though somebody died at them."""
    reached = {name_of(hit) for hit in hits}
    out_of_reach = {f"{moment} {call}" for call in NOT_REACHED for moment in ("before", "after")}
    return [
        *(f"nobody died {point}" for point in sorted(points() - reached - out_of_reach)),
        *(f"{point} is said to be out of reach" for point in sorted(reached & out_of_reach)),
        *(
            f"{name}: nobody died at {', '.join(unhit)}"
            for name, fault in FAULTS.items()
            if (unhit := [start for start in fault.points if not any(hit.point.startswith(start) for hit in hits)])
        ),
    ]


def table(title: str, hits: Sequence[Hit]) -> list[str]:
    """The points that were hit, beside K1 to K24."""
    lines = [f"{title}: {len(hits)} kills at {len({(hit.name, hit.point) for hit in hits})} points of processes"]
    for name in sorted({hit.name for hit in hits}):
        for point in sorted({hit.point for hit in hits if hit.name == name}):
            times = sum(hit.name == name and hit.point == point for hit in hits)
            lines.append(f"  {name:<10} {point:<55} {times:>3}  {' '.join(_faults_of(point))}".rstrip())
    for name, fault in FAULTS.items():
        found = {hit.point for hit in hits for start in fault.points if hit.point.startswith(start)}
        lines.append(f"  {name:<4} {fault.text}: {', '.join(sorted(found)) or fault.reason or 'NOT HIT'}")
    lines += [f"  not reached: {call}: {reason}" for call, reason in NOT_REACHED.items()]
    return lines


def _faults_of(point: str) -> list[str]:
    return [name for name, fault in FAULTS.items() if any(point.startswith(start) for start in fault.points)]
