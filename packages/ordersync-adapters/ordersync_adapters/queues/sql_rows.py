"""Rows of the queue tables, and how they read as the port's values."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row

from ordersync_core.messaging.queue import SUSPECTS_TOGETHER, Claim, DeadLetter, Message


class Key(NamedTuple):
    """What proves a claim: the row, and the random number it was given when it was claimed."""

    id: int
    token: int


def to_key(claim: Claim) -> Key:
    id, _, token = claim.token.partition(":")
    return Key(int(id), int(token))


def to_keys(claims: Sequence[Claim]) -> list[Key]:
    """In order of rows, so that two transactions on the same rows take them in the same order."""
    return sorted({to_key(claim) for claim in claims})


def suspects(limit: int) -> int:
    """How many of a claim of so many may be messages that died once."""
    return min(limit, SUSPECTS_TOGETHER)


def to_claim(row: Sequence[Any], token: int, locked_until: datetime) -> Claim:
    """From id, send id, group, body, deliveries and deaths."""
    id, send_id, group, body, deliveries, deaths, *_ = row
    return Claim(
        message=Message(send_id=send_id, body=body, group=group),
        token=f"{id}:{token}",
        deliveries=deliveries,
        deaths=deaths,
        locked_until=locked_until,
    )


def to_dead_letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(
        id=str(row.id),
        message=Message(send_id=row.send_id, body=row.body, group=row.group_name),
        reason=row.reason,
        description=row.description,
        dead_at=row.dead_at,
        deliveries=row.deliveries,
    )


def to_text(text: str) -> str:
    """The text as a column can hold it: without NUL and without half characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
