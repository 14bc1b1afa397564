"""Which administrations the sweep visits now: each once in a period, spread evenly over it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

_START = datetime(2020, 1, 1, tzinfo=UTC)


def due_in_sweep(codes: Iterable[str], *, after: datetime, until: datetime, period: timedelta) -> list[str]:
    """Those whose place in the period lies after `after` and not after `until`; after a pause longer than the period
    that is all of them. The place follows from the code alone, so that every process sweeps alike."""
    return [code for code in codes if _round(code, until, period) > _round(code, after, period)]


def _round(code: str, at: datetime, period: timedelta) -> int:
    """How many times the code's place has come since the beginning of time."""
    share = int.from_bytes(sha256(code.encode()).digest()[:6], "big") / 2**48
    return (at - _START - period * share) // period
