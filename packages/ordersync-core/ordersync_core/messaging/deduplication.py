"""How the rows of one numbering batch collapse: the rules of product.md, "Deduplication"."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from attrs import evolve, frozen

from ordersync_core.kernel.notification import Effect
from ordersync_core.messaging.model import OutboxRow

NEVER_COLLAPSED = frozenset({"order", ""})
"""Entity types of which each row is told: orders, and notifications without an entity."""


@frozen
class Collapsed:
    """The rows that go on, in the order of their first rows; and for every other row the one that tells its fact.

    A creation that was deleted again comes to nothing: its first row names itself.
    """

    survivors: Sequence[OutboxRow]
    absorbed: Mapping[UUID, UUID]


def collapse(rows: Sequence[OutboxRow]) -> Collapsed:
    """Reduce the rows of each entity in order. Different entities never meet, nor do rows beyond a deletion."""
    survivors: dict[UUID, OutboxRow] = {}
    mergeable: dict[tuple[str, str], UUID] = {}
    absorbed: dict[UUID, UUID] = {}
    for row in rows:
        entity = (row.entity_type, row.key)
        first = mergeable.get(entity)
        if first is None:
            survivors[row.id] = row
            if row.effect is not Effect.DELETE and row.entity_type not in NEVER_COLLAPSED:
                mergeable[entity] = row.id
            continue
        absorbed[row.id] = first
        if row.effect is Effect.DELETE:
            del mergeable[entity]
        if (survivors[first].effect, row.effect) == (Effect.CREATE, Effect.DELETE):
            del survivors[first]
            absorbed[first] = first
        else:
            survivors[first] = merge(survivors[first], row)
    return Collapsed(list(survivors.values()), absorbed)


def merge(first: OutboxRow, last: OutboxRow) -> OutboxRow:
    """Two facts about one entity told as one, for any pair but create + delete.

    It keeps the first row's place, id and before-state, and takes the last row's content, time and trigger. Whether
    the entity was there before is for the first row to say: a creation that was updated is still a creation, and what
    was updated is no creation, whatever follows.
    """
    created = first.effect is Effect.CREATE
    told = first if created or last.effect is Effect.CREATE else last
    return evolve(
        last,
        id=first.id,
        order=first.order,
        event_type=told.event_type,
        version=told.version,
        effect=told.effect,
        before=first.before if created else {**last.before, **first.before},
    )
