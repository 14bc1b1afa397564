"""What goes wrong, and where: drawn from the seed before anything runs, so that a run can be repeated without a part of
it."""

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from random import Random
from typing import Final

from attrs import frozen

from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.messaging.queue import Queue
from ordersync_core.testing.points import AFTER, BEFORE, points


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


_ABSENT: Final = ("administrations", "blobs", "memberships", "tenants")
"""Ports that nobody calls while the whole system is at work."""

MOST_FAULTS: Final = 12
MOST_OUTAGES: Final = 3
_MOST_VISITS: Final = 2_000


def draw(seed: int) -> tuple[Fault, ...]:
    """A plan of a few faults, in a fixed order. The same seed gives the same plan."""
    random = Random(f"faults:{seed}")
    faults = [_fault(random) for _ in range(random.randint(0, MOST_FAULTS))]
    faults += [
        Fault(Kind.OUTAGE, endpoint_point(number), random.randint(0, 1_500), random.choice((40.0, 800.0, 4_000.0)))
        for number in range(1, MOST_OUTAGES + 1)
        if random.random() < 0.5
    ]
    return tuple(sorted(set(faults)))


def endpoint_point(number: int) -> str:
    return f"endpoint {number}"


def _fault(random: Random) -> Fault:
    kind = random.choices(
        (Kind.CRASH, Kind.FAIL, Kind.PAUSE, Kind.CLASH, Kind.DEFECT, Kind.STOP, Kind.CLOCK),
        (40, 16, 8, 6, 6, 14, 2),
    )[0]
    if random.random() < 0.2:
        kind = random.choice((Kind.DUPLICATE, Kind.SHUFFLE, Kind.DELAY, Kind.LOSE))
    return Fault(kind, *_place(random, kind), _seconds(random, kind))


def _place(random: Random, kind: Kind) -> tuple[str, int]:
    if kind in _AT_CALLS and random.random() < 0.7:
        inside_only = kind in (Kind.CLASH, Kind.DEFECT)
        group = random.choice(_groups()[:2] if inside_only else _groups())
        moment = BEFORE if inside_only else random.choice((BEFORE, AFTER))
        return f"{moment} {random.choice(group)}", random.choice((1, 1, 2, 3, random.randint(4, 30)))
    return ANYWHERE, random.randint(1, _MOST_VISITS)


_AT_CALLS: Final = (Kind.CRASH, Kind.FAIL, Kind.CLASH, Kind.DEFECT, Kind.STOP)


@cache
def _groups() -> Sequence[Sequence[str]]:
    """The calls that points are made of: the commit, what is done inside a transaction, tickets sent, messages taken
    and settled, calls out. The calls of a new port are there by themselves."""
    known = sorted({point.partition(" ")[2] for point in points()})
    queues = [call for call in known if call.partition(".")[0] in QUEUES and call.partition(".")[2] in _QUEUE_CALLS]
    outside = [call for call in known if call.startswith(("sender.", "source.", "connector."))]
    rows = [call for call in known if call not in (*queues, *outside, "commit") and not call.startswith(_ABSENT)]
    sent = [call for call in queues if call.endswith(".send")]
    return (("commit",), rows, sent, [call for call in queues if call not in sent], outside)


_QUEUE_CALLS: Final = frozenset(name for name in vars(Queue) if not name.startswith("_"))


def _seconds(random: Random, kind: Kind) -> float:
    if kind is Kind.PAUSE:
        return random.choice((5.0, 70.0, 130.0))
    if kind is Kind.DELAY:
        return random.choice((2.0, 90.0, 1_000.0))
    if kind is Kind.CLOCK:
        return random.choice((-300.0, -30.0, 30.0, 300.0))
    return 0.0
