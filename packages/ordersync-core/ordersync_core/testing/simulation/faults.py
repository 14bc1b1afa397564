"""What goes wrong, and where: drawn from the seed before anything runs, so that a run can be repeated without a part of
it."""

from enum import StrEnum
from random import Random
from typing import Final

from attrs import frozen

from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.testing.points import AFTER, BEFORE


class Kind(StrEnum):
    """What a fault does to the process that reaches its point, or to what lies around it.

    CRASH: the process is gone. STOP: it is asked to end. PAUSE: it stands still.
    FAIL: the call fails for now; after a commit or a send that means that it happened and nobody was told.
    DEFECT: the call fails for good, as a fault of ours would make it.
    CLASH: the database refuses the transaction, for another one came first.
    CLOCK: the process's clock jumps.
    DUPLICATE, SHUFFLE, DELAY, LOSE: what happens to the messages that lie in a queue.
    OUTAGE: an endpoint is out of order for a while. Its point says which one was the first, the second, ... to be made;
        its visit is the second at which it begins.
    """

    CRASH = "crash"
    STOP = "stop"
    PAUSE = "pause"
    FAIL = "fail"
    DEFECT = "defect"
    CLASH = "clash"
    CLOCK = "clock"
    DUPLICATE = "duplicate"
    SHUFFLE = "shuffle"
    DELAY = "delay"
    LOSE = "lose"
    OUTAGE = "outage"


ANYWHERE: Final = "anywhere"
"""Instead of a point: the visit counts all of them."""


@frozen(order=True)
class Fault:
    """It happens at the `visit`-th time, from 1, that any process reaches the point.

    seconds: how long a pause, a delay or an outage lasts, how far a clock jumps; 0 for the others.
    """

    kind: Kind
    point: str
    visit: int
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f" {self.seconds:+.0f} s" if self.seconds else ""
        return f"{self.kind}{lasts} at visit {self.visit} of {self.point}"


_COMMITS: Final = ("commit",)
_ENTRIES: Final = ("tell", "processed", "items.save", "outbox.number", "deliveries.save", "deliveries.add", "runs.save")
_ROWS: Final = (
    "event_log.handled",
    "items.delete",
    "executions.save",
    "leases.hold",
    "leases.take",
    "outbox.ticketed",
    "deliveries.ticketed",
    "deliveries.record",
    "deliveries.let_in",
    "raw.save",
    "raw.save_cursor",
    "raw.mark",
    "raw.drop",
    "runs.add",
    "runs.ticketed",
    "webhooks.save",
    "wake.take_due",
)
_CALLS: Final = ("sender.send", "source.pages", "source.named")
_SENT: Final = tuple(f"{queue}.send" for queue in QUEUES)
_SETTLED: Final = tuple(f"{queue}.{call}" for queue in QUEUES for call in ("claim", "complete", "dead_letter"))
MOST_FAULTS: Final = 12
MOST_OUTAGES: Final = 3
_MOST_VISITS: Final = 2_000


def draw(seed: int) -> tuple[Fault, ...]:
    """A plan of a few faults, in a fixed order. The same seed gives the same plan."""
    random = Random(f"faults:{seed}")
    faults = [_fault(random) for _ in range(random.randint(0, MOST_FAULTS))]
    faults += [
        Fault(Kind.OUTAGE, endpoint_point(number), random.randint(0, 1_800), random.choice((40.0, 400.0, 3_000.0)))
        for number in range(1, MOST_OUTAGES + 1)
        if random.random() < 0.5
    ]
    return tuple(sorted(set(faults)))


def endpoint_point(number: int) -> str:
    return f"endpoint {number}"


def _fault(random: Random) -> Fault:
    kind = random.choices(
        (Kind.CRASH, Kind.FAIL, Kind.PAUSE, Kind.CLASH, Kind.DEFECT, Kind.STOP, Kind.CLOCK),
        (40, 16, 8, 6, 6, 3, 2),
    )[0]
    if random.random() < 0.2:
        kind = random.choice((Kind.DUPLICATE, Kind.SHUFFLE, Kind.DELAY, Kind.LOSE))
    return Fault(kind, *_place(random, kind), _seconds(random, kind))


def _place(random: Random, kind: Kind) -> tuple[str, int]:
    if kind in _AT_CALLS and random.random() < 0.7:
        calls = random.choice(_ALL if kind in (Kind.CRASH, Kind.FAIL) else _INSIDE)
        call = random.choice(calls)
        moment = random.choice((BEFORE, AFTER)) if kind in (Kind.CRASH, Kind.FAIL) else BEFORE
        return f"{moment} {call}", random.choice((1, 1, 2, 3, random.randint(4, 30)))
    return ANYWHERE, random.randint(1, _MOST_VISITS)


_AT_CALLS: Final = (Kind.CRASH, Kind.FAIL, Kind.CLASH, Kind.DEFECT)
_INSIDE: Final = (_COMMITS, _ENTRIES, _ROWS)
_ALL: Final = (_COMMITS, _ENTRIES, _ROWS, _CALLS, _SENT, _SETTLED)


def _seconds(random: Random, kind: Kind) -> float:
    if kind is Kind.PAUSE:
        return random.choice((5.0, 70.0, 130.0))
    if kind is Kind.DELAY:
        return random.choice((2.0, 90.0, 1_000.0))
    if kind is Kind.CLOCK:
        return random.choice((-300.0, -30.0, 30.0, 300.0))
    return 0.0
