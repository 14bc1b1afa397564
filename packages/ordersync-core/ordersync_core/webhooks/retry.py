"""When a failed delivery is tried again (architecture.md, "Wire conventions")."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from hashlib import blake2b
from uuid import UUID

RETRY_DELAYS = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 180, 240, 360, 360, 480, 480, 720, 720, 720)
)
"""The waits before attempts 2 to 16."""

LONGEST_RETRY_AFTER = timedelta(hours=12)
MOST_JITTER = timedelta(minutes=10)
JITTER = 0.10
PATIENT_FOR = timedelta(hours=1)
"""How long a refusal that a deploy may cause is tried at the usual steps; from then on at the last step only."""

REFUSALS = frozenset({401, 403, 404, 405})


class Verdict(Enum):
    """What an HTTP status says about a delivery; None, no answer at all, is worth another attempt."""

    SUCCESS = auto()
    RETRY = auto()
    DISABLE = auto()
    GIVE_UP = auto()


def classify(status: int | None) -> Verdict:
    """Success is 2xx only: a redirect fails and is never followed. 410 takes the webhook out of service; the same body
    is never sent again after 413."""
    if status is not None and 200 <= status < 300:
        return Verdict.SUCCESS
    if status == 410:
        return Verdict.DISABLE
    if status == 413:
        return Verdict.GIVE_UP
    return Verdict.RETRY


def next_attempt_at(
    *,
    delivery_id: UUID,
    failed_at: datetime,
    attempts: int,
    retry_after: timedelta | None = None,
    status: int | None = None,
    first_attempt_at: datetime | None = None,
    delays: Sequence[timedelta] = RETRY_DELAYS,
) -> datetime | None:
    """When to attempt a delivery again, or None once the schedule is used up.

    Args:
        failed_at: when the latest attempt ended; timezone-aware.
        attempts: attempts made so far, the failed one included; at least 1.
        retry_after: what the receiver asked for, if anything; it can only lengthen the wait, up to 12 h.
            RFC 9110, section 10.2.3.
        status: of the failed attempt. A refusal (401, 403, 404, 405) that has lasted longer than an hour is probed
            at the longest step only.
        first_attempt_at: when the first attempt ended; None when this was the first.
        delays: the waits before attempts 2, 3, ...

    Jitter of 0 to 10 %, at most 10 minutes, is derived from the delivery and the attempt and only ever lengthens.
    """
    if attempts > len(delays):
        return None
    step = delays[attempts - 1]
    if status in REFUSALS and first_attempt_at is not None and failed_at - first_attempt_at > PATIENT_FOR:
        step = max(step, delays[-1])
    asked = min(retry_after or timedelta(0), LONGEST_RETRY_AFTER)
    return failed_at + max(step + _jitter(step, delivery_id, attempts), asked)


def parse_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """Seconds or an HTTP date (RFC 9110); None for nothing, garbage, zero, and what lies in the past."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=int(text)) if len(text) < 10 else timedelta.max
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        wait = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - now
    return wait if wait > timedelta(0) else None


def _jitter(step: timedelta, delivery_id: UUID, attempts: int) -> timedelta:
    digest = blake2b(delivery_id.bytes + attempts.to_bytes(4, "big"), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return min(step * JITTER, MOST_JITTER) * share
