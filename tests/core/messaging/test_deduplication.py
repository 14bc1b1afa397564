"""product.md, "Deduplication", checked against a reference that is written apart from the code under test."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from ordersync_core.kernel.notification import Effect
from ordersync_core.messaging.deduplication import collapse
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.testing.strategies import outbox_rows

CREATE, UPDATE, DELETE = Effect.CREATE, Effect.UPDATE, Effect.DELETE
ENTITIES = st.sampled_from(("item", "customer", "order", ""))


def batches(entity_types: st.SearchStrategy[str] = ENTITIES) -> st.SearchStrategy[list[OutboxRow]]:
    """Rows in the order of insertion, few enough keys that they meet, any sequence of effects."""
    rows = outbox_rows(entity_types=entity_types, keys=st.sampled_from(("A", "B")))
    return st.lists(rows, max_size=12, unique_by=lambda row: row.id).map(in_order)


def in_order(rows: Sequence[OutboxRow]) -> list[OutboxRow]:
    return [evolve(row, order=place) for place, row in enumerate(rows, start=1)]


def row(effect: Effect, place: int, *, before: dict[str, int] | None = None, key: str = "A") -> OutboxRow:
    return OutboxRow(
        id=UUID(int=place),
        order=place,
        event_type=f"item.{effect.value}d",
        version=1,
        effect=effect,
        entity_type="item",
        key=key,
        occurred_at=datetime(2026, 1, 1, 0, 0, place, tzinfo=UTC),
        triggered_by=f"person {place}",
        correlation_id=f"request {place}",
        traceparent=None,
        before=before or {},
        after=None if effect is DELETE else {"place": place},
    )


# The reference: cut each entity's history behind every deletion, then tell each piece by its first and its last row.


def pieces(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    open_pieces: dict[tuple[str, str], list[OutboxRow]] = {}
    found: list[list[OutboxRow]] = []
    for one in rows:
        entity = (one.entity_type, one.key)
        alone = one.entity_type in ("order", "")
        if alone or entity not in open_pieces:
            piece: list[OutboxRow] = []
            found.append(piece)
            if not alone:
                open_pieces[entity] = piece
        else:
            piece = open_pieces[entity]
        piece.append(one)
        if one.effect is DELETE:
            open_pieces.pop(entity, None)
    return found


def told(piece: Sequence[OutboxRow]) -> OutboxRow | None:
    first, last = piece[0], piece[-1]
    if len(piece) == 1:
        return first
    existed, exists = first.effect is not CREATE, last.effect is not DELETE
    if not existed and not exists:
        return None
    updates = [one for one in piece if one.effect is UPDATE]
    kind = first if not existed else last if not exists else updates[-1]
    before: dict[str, object] = {}
    for one in reversed(piece):
        before |= one.before
    return OutboxRow(
        id=first.id,
        order=first.order,
        event_type=kind.event_type,
        version=kind.version,
        effect=kind.effect,
        entity_type=first.entity_type,
        key=first.key,
        occurred_at=last.occurred_at,
        triggered_by=last.triggered_by,
        correlation_id=last.correlation_id,
        traceparent=last.traceparent,
        before=before if existed else first.before,
        after=last.after,
    )


@given(rows=batches())
@example(rows=[row(UPDATE, 1, before={"unit": 1}), row(CREATE, 2), row(DELETE, 3, before={"unit": 2, "name": 3})])
def test_it_collapses_as_the_reference_does(rows: list[OutboxRow]) -> None:
    collapsed = collapse(rows)
    expected = [(piece, told(piece)) for piece in pieces(rows)]
    assert list(collapsed.survivors) == [survivor for _, survivor in expected if survivor is not None]
    assert dict(collapsed.absorbed) == {
        one.id: piece[0].id for piece, survivor in expected for one in (piece if survivor is None else piece[1:])
    }


@given(rows=batches())
def test_every_row_survives_or_is_absorbed_and_survivors_keep_their_order(rows: list[OutboxRow]) -> None:
    collapsed = collapse(rows)
    survivors = [one.id for one in collapsed.survivors]
    assert sorted([*survivors, *collapsed.absorbed]) == sorted(one.id for one in rows)
    assert [one.order for one in collapsed.survivors] == sorted(one.order for one in collapsed.survivors)
    came_to_nothing = {id for id, by in collapsed.absorbed.items() if id == by}
    assert set(collapsed.absorbed.values()) <= {*survivors, *came_to_nothing}


@given(rows=batches(st.just("item")), data=st.data())
def test_entities_never_meet(rows: list[OutboxRow], data: st.DataObject) -> None:
    """What becomes of one entity's rows is the same without the rows of all others."""
    key = data.draw(st.sampled_from(("A", "B")))
    together, alone = collapse(rows), collapse([one for one in rows if one.key == key])
    assert [one for one in together.survivors if one.key == key] == list(alone.survivors)
    own = {one.id for one in rows if one.key == key}
    assert {id: by for id, by in together.absorbed.items() if id in own} == dict(alone.absorbed)


@given(rows=st.lists(outbox_rows(entity_types=st.sampled_from(("order", ""))), unique_by=lambda row: row.id))
def test_orders_and_notifications_without_an_entity_never_collapse(rows: list[OutboxRow]) -> None:
    collapsed = collapse(rows)
    assert list(collapsed.survivors) == rows
    assert collapsed.absorbed == {}


def test_a_new_item_that_is_changed_is_told_as_new_with_its_latest_content() -> None:
    rows = [row(CREATE, 1), row(UPDATE, 2, before={"unit": 1}), row(UPDATE, 3, before={"name": 2})]
    (survivor,) = collapse(rows).survivors
    assert survivor == evolve(rows[2], id=rows[0].id, order=1, event_type="item.created", effect=CREATE, before={})


def test_two_changes_are_told_as_one_from_the_first_state_to_the_last() -> None:
    first, last = row(UPDATE, 1, before={"unit": 1, "name": 1}), row(UPDATE, 2, before={"unit": 2, "stocks": 2})
    (survivor,) = collapse([first, last]).survivors
    assert survivor == evolve(last, id=first.id, order=1, before={"unit": 1, "name": 1, "stocks": 2})


def test_a_changed_item_that_is_deleted_is_told_as_deleted_with_its_first_state() -> None:
    first, last = row(UPDATE, 1, before={"unit": 1}), row(DELETE, 2, before={"unit": 2, "name": 2})
    (survivor,) = collapse([first, last]).survivors
    assert survivor == evolve(last, id=first.id, order=1, before={"unit": 1, "name": 2})


def test_a_new_item_that_is_deleted_again_is_not_told() -> None:
    rows = [row(CREATE, 1), row(UPDATE, 2), row(DELETE, 3)]
    collapsed = collapse(rows)
    assert collapsed.survivors == []
    assert collapsed.absorbed == dict.fromkeys((one.id for one in rows), rows[0].id)


def test_nothing_merges_across_a_deletion() -> None:
    rows = [row(UPDATE, 1, before={"unit": 1}), row(DELETE, 2), row(CREATE, 3), row(UPDATE, 4)]
    survivors = collapse(rows).survivors
    assert [(one.id, one.effect) for one in survivors] == [(rows[0].id, DELETE), (rows[2].id, CREATE)]
