"""What must hold at every commit, at every claim and at rest, by the promise it belongs to.

The promises are those of docs/reliability.md, P1 to P12. The rules here are written anew, from the promises: they share
no function with the code that they watch.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson

from ordersync_core.kernel.notification import Effect
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.testing.memory.audit import AUDIT
from ordersync_core.testing.memory.items import ITEMS
from ordersync_core.testing.memory.jobs import RUNS
from ordersync_core.testing.memory.leases import LEASES
from ordersync_core.testing.memory.outbox import FEED, OUTBOX, THE_FEED
from ordersync_core.testing.memory.transaction import MemoryDatabase, Table
from ordersync_core.testing.memory.webhooks import ATTEMPTS, DELIVERIES, WEBHOOKS
from ordersync_core.webhooks.model import Attempt, DeliveryState

V = TypeVar("V")

Written = Mapping[str, Mapping[Any, Any]]


class Broken(BaseException):
    """A promise does not hold. `promise` is its number, "P1" to "P12". No part of the system may take it for an error
    that it can deal with."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


def check_commit(database: MemoryDatabase, written: Written) -> None:
    """Raises Broken for a commit that breaks a promise by itself."""
    for check in _CHECKS:
        check(database, written)


def _change_and_its_event_go_together(database: MemoryDatabase, written: Written) -> None:
    """P1 and P2: each change of an item is told by rows of the same commit, from what was before to what is after."""
    told: dict[str, list[OutboxRow]] = defaultdict(list)
    for row in _new(database, written, OUTBOX):
        told[row.key].append(row)
    for code, item in written.get(ITEMS.name, {}).items():
        before = database.row(ITEMS, code)
        content = None if before is None else before.content()
        for row in sorted(told.pop(str(code), []), key=lambda row: row.order):
            content = _told(row, content)
        if content != (None if item is None else item.content()):
            raise Broken("P1", f"item {code} was changed and the outbox of the same commit does not tell it")
    if told:
        raise Broken("P2", f"the outbox tells of changes that this commit does not make: {', '.join(sorted(told))}")
    audited = [entry.key for entry in _new(database, written, AUDIT)]
    if sorted(audited) != sorted(row.key for row in _new(database, written, OUTBOX)):
        raise Broken("P11", "what the outbox tells is not what the audit entries say")


def _told(row: OutboxRow, content: dict[str, Any] | None) -> dict[str, Any] | None:
    """The content after the row's fact; Broken when the fact does not fit what was there."""
    fits = content is None if row.effect is Effect.CREATE else content is not None
    if not fits or any(content is None or content[name] != value for name, value in row.before.items()):
        raise Broken("P1", f"event {row.id} ({row.event_type} {row.key}) does not start from what was there before")
    return None if row.after is None else dict(row.after)


def _numbers_follow_commits(database: MemoryDatabase, written: Written) -> None:
    """P4 and X4: the relay gives numbers to what is committed; they have no gap, and what has one never changes."""
    feed = database.row(FEED, THE_FEED)
    if OUTBOX.name not in written or feed is None:
        return
    numbered = []
    for id, row in written[OUTBOX.name].items():
        before = database.row(OUTBOX, id)
        if row is None:
            raise Broken("P1", f"outbox row {id} is gone")
        if before is None:
            if row.number is not None:
                raise Broken("P4", f"event {id} got its number {row.number} before it was committed")
        elif before.number is not None:
            if (before.number, before.body) != (row.number, row.body):
                raise Broken("P4", f"event {id} had number {before.number} already and was numbered or written again")
        elif row.number is not None:
            numbered.append(row)
    expected = range(feed.last_number + 1, feed.last_number + 1 + len(numbered))
    if sorted(row.number for row in numbered) != list(expected):
        raise Broken("P4", f"the numbers after {feed.last_number} are {sorted(row.number for row in numbered)}")
    if numbered:
        after = written.get(FEED.name, {}).get(THE_FEED)
        if after is None or after.last_number != feed.last_number + len(numbered):
            raise Broken("P4", "the last number does not say how many were given")


def _rows_merge_by_the_rules(database: MemoryDatabase, written: Written) -> None:
    """P1, product.md "Deduplication": one entity's rows in order, and nothing merges with what came before a
    deletion."""
    groups: dict[UUID, list[OutboxRow]] = defaultdict(list)
    for id, row in written.get(OUTBOX.name, {}).items():
        before = database.row(OUTBOX, id)
        if before is None or before.number is not None or before.absorbed_by is not None:
            continue
        if row.absorbed_by is not None:
            groups[row.absorbed_by].append(before)
        elif row.number is not None:
            groups[row.id].append(before)
    for survivor, rows in groups.items():
        rows.sort(key=lambda row: row.order)
        _check_merge(survivor, rows, written[OUTBOX.name][rows[-1].id], written[OUTBOX.name].get(survivor))


def _check_merge(survivor: UUID, rows: Sequence[OutboxRow], last: OutboxRow, kept: OutboxRow | None) -> None:
    effects = [row.effect for row in rows]
    if len({(row.entity_type, row.key) for row in rows}) > 1:
        raise Broken("P1", f"event {survivor} has taken in rows of other entities")
    if Effect.DELETE in effects[:-1]:
        raise Broken("P1", f"event {survivor} has taken in a row that came after the deletion of {rows[0].key}")
    if kept is None or survivor != rows[0].id:
        raise Broken("P1", f"event {survivor} is not the first of the rows that it tells")
    nothing = effects[0] is Effect.CREATE and effects[-1] is Effect.DELETE
    if nothing != (kept.number is None):
        raise Broken("P1", f"event {survivor} is told, or left out, against the rules")
    if not nothing and _content(kept) != rows[-1].after:
        raise Broken("P1", f"event {survivor} does not have the content of the last row that it tells")


def _content(row: OutboxRow) -> Any:
    """What the body of a numbered row tells of the entity."""
    return orjson.loads(row.body or b"{}").get("data", {}).get(row.entity_type)


def _positions_have_no_gap(database: MemoryDatabase, written: Written) -> None:
    """P1: a receiver that holds the positions 1 to n missed nothing."""
    created: dict[UUID, list[int]] = defaultdict(list)
    for delivery in _new(database, written, DELIVERIES):
        created[delivery.webhook_id].append(delivery.position)
    for id, webhook in written.get(WEBHOOKS.name, {}).items():
        before = database.row(WEBHOOKS, id)
        if webhook is None or before is None:
            continue
        given = sorted(created.pop(id, []))
        if given != list(range(before.last_position + 1, webhook.last_position + 1)):
            raise Broken("P1", f"webhook {id} went from {before.last_position} to {webhook.last_position} with {given}")
    if created:
        raise Broken("P1", "deliveries were created that their webhook does not count")


def _attempts_are_counted_once(database: MemoryDatabase, written: Written) -> None:
    """P6, P7: attempts are 1, 2, 3, ...; what has an outcome keeps it until a person asks for it again."""
    attempts: dict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in _new(database, written, ATTEMPTS):
        attempts[attempt.delivery_id].append(attempt)
    for id, delivery in written.get(DELIVERIES.name, {}).items():
        before = database.row(DELIVERIES, id)
        if delivery is None or before is None:
            continue
        numbers = sorted(attempt.number for attempt in attempts.pop(id, []))
        if numbers != list(range(before.attempts + 1, delivery.attempts + 1)):
            raise Broken("P6", f"delivery {id} had {before.attempts} attempts, now {delivery.attempts}, with {numbers}")
        undone = before.state is DeliveryState.DELIVERED and delivery.state is not DeliveryState.DELIVERED
        if undone and delivery.earlier_attempts != before.attempts:
            raise Broken("P7", f"delivery {id} was delivered and is {delivery.state}, and nobody asked for it")
    if attempts:
        raise Broken("P6", f"attempts were kept that their deliveries do not count: {sorted(map(str, attempts))}")


def _leases_change_hands_under_a_new_term(database: MemoryDatabase, written: Written) -> None:
    """P8, K24: who was taken over from can tell."""
    for name, lease in written.get(LEASES.name, {}).items():
        before = database.row(LEASES, name)
        if before is None:
            continue
        if lease is None or lease.term < before.term:
            raise Broken("P8", f"the term of {name} fell")
        if lease.holder != before.holder and lease.term == before.term:
            raise Broken("P8", f"{name} went from {before.holder} to {lease.holder} without a new term")


def _due_moments_have_one_run(database: MemoryDatabase, written: Written) -> None:
    """P10: a definition's due moment has one run."""
    new = [run for run in _new(database, written, RUNS) if run.definition_id is not None]
    for run in new:
        for other in database.rows(RUNS).values():
            if (other.definition_id, other.due_at) == (run.definition_id, run.due_at):
                raise Broken("P10", f"{run.due_at} of definition {run.definition_id} has a second run")


_CHECKS: Final[Sequence[Callable[[MemoryDatabase, Written], None]]] = (
    _change_and_its_event_go_together,
    _numbers_follow_commits,
    _rows_merge_by_the_rules,
    _positions_have_no_gap,
    _attempts_are_counted_once,
    _leases_change_hands_under_a_new_term,
    _due_moments_have_one_run,
)


def _new(database: MemoryDatabase, written: Written, table: Table[Any, V]) -> list[V]:
    rows = written.get(table.name, {})
    return [row for key, row in rows.items() if row is not None and database.row(table, key) is None]
