"""Statements over many rows do the same to few rows, to many, and on both databases."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Row, delete, event, func, insert, select

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import FEW, among, copy_line
from ordersync_adapters.sql.tables.items import items
from ordersync_adapters.sql.tables.messaging import inbox, outbox
from ordersync_adapters.sql.transactions import commit, raise_core_errors
from ordersync_core.kernel.errors import ChangedMeanwhile
from tests.adapters.sql.stores import Store

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MANY = 5_000

sizes = pytest.mark.parametrize("count", [1, FEW, FEW + 1, MANY])


def an_item(code: str, **fields: Any) -> dict[str, Any]:
    """With what COPY would have to escape."""
    return {
        "code": code,
        "name": {"en": "\t\\N é“"},
        "family_code": None,
        "unit": "\\N",
        "units": [],
        "vat_tariff": "",
        "attributes": {"a": None},
        "images": [],
        "attachments": [],
        "stocks": [],
        "restock_orders": [],
        "searchable": code,
        "updated_at": NOON,
        **fields,
    }


def catalogue(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [an_item(f"{n:05}", **fields) for n in range(count)]


def stored(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute(select(items).order_by(items.c.code))
    return [dict(row._mapping) for row in rows]


@sizes
def test_rows_are_inserted_as_they_are(store: Store, count: int) -> None:
    with store.transaction() as connection:
        bulk.insert(connection, items, catalogue(count))
        assert stored(connection) == catalogue(count)


@sizes
def test_upserting_adds_and_replaces(store: Store, count: int) -> None:
    later = NOON + timedelta(microseconds=1)
    with store.transaction() as connection:
        bulk.insert(connection, items, catalogue(count // 2 + 1))
        bulk.upsert(connection, items, catalogue(count, unit="box", updated_at=later), key=["code"])
        wanted = catalogue(max(count, count // 2 + 1), unit="box", updated_at=later)
        assert stored(connection) == wanted


@sizes
def test_what_is_there_stays_when_only_the_missing_are_inserted(store: Store, count: int) -> None:
    with store.transaction() as connection:
        bulk.insert(connection, items, [an_item("00000", unit="kept")])
        bulk.insert_missing(connection, items, catalogue(count), key=["code"])
        assert stored(connection) == [an_item("00000", unit="kept"), *catalogue(count)[1:]]


@sizes
def test_updating_writes_only_the_columns_that_are_named(store: Store, count: int) -> None:
    with store.transaction() as connection:
        bulk.insert(connection, items, catalogue(count))
        changes = [{"code": f"{n:05}", "unit": f"u{n}"} for n in range(count)]
        bulk.update(connection, items, [*changes, {"code": "absent", "unit": "?"}], by=["code"])
        assert stored(connection) == [an_item(f"{n:05}", unit=f"u{n}") for n in range(count)]


@sizes
def test_a_row_that_has_moved_on_is_not_updated(store: Store, count: int) -> None:
    with store.transaction() as connection:
        bulk.insert(connection, items, catalogue(count))
        moved = NOON + timedelta(days=1)
        changes = [
            {"code": f"{n:05}", "was": moved if n % 2 else NOON, "updated_at": moved, "unit": "seen"}
            for n in range(count)
        ]
        bulk.update(connection, items, changes, by=["code"], unless_changed={"updated_at": "was"})
        assert [row["unit"] == "seen" for row in stored(connection)] == [n % 2 == 0 for n in range(count)]


@sizes
def test_a_key_that_is_taken_is_an_error_and_nothing_can_be_kept(store: Store, count: int) -> None:
    raise_core_errors(store.writing)
    with store.transaction() as connection:
        bulk.insert(connection, items, [an_item("00000")])
        with pytest.raises(ChangedMeanwhile):
            bulk.insert(connection, items, catalogue(count))
        with pytest.raises(ChangedMeanwhile, match="failed before"):
            commit(connection)


def test_no_rows_are_no_statement(store: Store) -> None:
    with store.transaction() as connection:
        bulk.insert(connection, items, [])
        bulk.insert_missing(connection, items, [], key=["code"])
        bulk.upsert(connection, items, [], key=["code"])
        bulk.update(connection, items, [], by=["code"])
        assert stored(connection) == []


def test_the_database_counts_rows_in_their_order(store: Store) -> None:
    ids = [uuid4() for _ in range(MANY)]
    with store.transaction() as connection:
        for part in (ids[:10], ids[10 : FEW * 3], ids[FEW * 3 :]):
            bulk.insert(connection, outbox, [an_event(id) for id in part])
        counted = connection.execute(select(outbox.c.id).order_by(outbox.c.order)).scalars().all()
    assert counted == ids


def test_a_batch_is_a_handful_of_statements(store: Store) -> None:
    """However many rows it has; on SQLite the driver runs one statement many times within one call."""
    with store.transaction() as connection:
        statements: list[str] = []

        @event.listens_for(connection, "before_cursor_execute")
        def note(*details: Any) -> None:
            statements.append(details[2])

        bulk.insert(connection, items, catalogue(MANY))
        bulk.upsert(connection, items, catalogue(MANY, unit="box"), key=["code"])
        bulk.update(connection, items, [{"code": f"{n:05}", "unit": "x"} for n in range(MANY)], by=["code"])
        connection.execute(delete(items).where(among(items.c.code, [f"{n:05}" for n in range(MANY)])))

        assert len(statements) <= 6
        assert connection.execute(select(func.count()).select_from(items)).scalar_one() == 0


@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_any_number_of_values_is_one_parameter(store: Store, count: int) -> None:
    ids = [uuid4() for _ in range(3)]
    with store.transaction() as connection:
        connection.execute(insert(inbox), [{"handler": "h", "message_id": id, "processed_at": NOON} for id in ids])
        wanted = [*ids[:2], *(uuid4() for _ in range(count))] if count else []
        found = entered(connection, wanted)
    assert sorted(row.message_id for row in found) == (sorted(ids[:2]) if count else [])


def entered(connection: Connection, ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    return connection.execute(select(inbox).where(among(inbox.c.message_id, ids))).all()


def an_event(id: UUID) -> dict[str, Any]:
    return {
        "id": id,
        "event_type": "item.created",
        "version": 1,
        "effect": "create",
        "entity_type": "item",
        "key": "A",
        "occurred_at": NOON,
        "triggered_by": "somebody",
        "correlation_id": "c",
        "traceparent": None,
        "before": {},
        "after": {"code": "A"},
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unit=st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), body=st.binary())
@example(unit="\\N", body=b"\\x")
@example(unit="a\tb\r\n\\", body=b"\t\n\\N")
def test_many_rows_keep_every_character_and_every_byte(store: Store, unit: str | None, body: bytes) -> None:
    """Of one that has to be escaped, among others that have not."""
    events = [an_event(uuid4()) | {"key": f"{n}", "traceparent": unit, "body": body} for n in range(FEW + 1)]
    with store.transaction() as connection:
        bulk.insert(connection, items, [*catalogue(FEW), an_item("last", unit=unit)])
        assert connection.execute(select(items.c.unit).where(items.c.code == "last")).scalar_one() == unit
        bulk.insert(connection, outbox, events)
        kept = connection.execute(select(outbox.c.traceparent, outbox.c.body)).all()
    assert set(kept) == {(unit, body)}


def test_a_value_of_unknown_type_is_not_copied() -> None:
    with pytest.raises(TypeError, match="dict is not copied"):
        copy_line(({},))
