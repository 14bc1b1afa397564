"""The statements that run all the time find their rows by an index, however many others there are."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, text

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.administrations import SqlWake
from ordersync_adapters.sql.items import ItemSqlQueries
from ordersync_adapters.sql.outbox import EventSqlQueries, SqlOutbox
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.webhooks import SqlDeliveries, SqlEventLog, SqlWebhooks, WebhookSqlQueries
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.testing.contracts.examples import a_delivery, a_webhook, new_id
from ordersync_core.webhooks.model import DeliveryState
from tests.adapters.sql.stores import Store

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ID = UUID(int=7)
MANY = 3_000
PAGE = PageRequest(after=(7,))

WRITING: dict[str, tuple[Callable[[Connection], object], set[str]]] = {
    "what has no number": (lambda c: SqlOutbox(c).unnumbered(10), {"ix_outbox_unnumbered"}),
    "what is unfinished": (lambda c: SqlOutbox(c).unfinished(2_000), {"ix_outbox_owed"}),
    "events that owe a ticket": (lambda c: SqlOutbox(c).owed(NOON, 10), {"ix_outbox_owed"}),
    "events by id": (lambda c: SqlEventLog(c).handled([ID], NOON), {"uq_outbox_id"}),
    "handled events after a number": (lambda c: SqlEventLog(c).handled_after(7, 10), {"uq_outbox_number"}),
    "the next ticket": (
        lambda c: SqlOutbox(c).earliest_ticket_at(),
        {"ix_outbox_unnumbered", "ix_outbox_owed", "ix_deliveries_"},
    ),
    "deliveries that owe a ticket": (lambda c: SqlDeliveries(c).owed(NOON, window=10), {"ix_deliveries_due"}),
    "deliveries in the queue": (lambda c: SqlDeliveries(c).in_queue([ID]), {"ix_deliveries_due"}),
    "the first that waits": (lambda c: SqlDeliveries(c).first_waiting(ID), {"ix_deliveries_waiting"}),
    "what is to be held back": (lambda c: SqlDeliveries(c).hold_back(ID, besides=ID), {"ix_deliveries_due"}),
    "what was parked": (lambda c: SqlDeliveries(c).unpark(ID, NOON), {"ix_deliveries_parked"}),
    "who is due": (lambda c: SqlWake(c).take_due(NOON), {"ix_wake_due_at"}),
}

READING: dict[str, tuple[Callable[[Store], object], set[str]]] = {
    "the feed": (lambda s: EventSqlQueries(s.read).events(PAGE), {"uq_outbox_number"}),
    "a trace": (
        lambda s: EventSqlQueries(s.read).trace(ID),
        {"uq_outbox_id", "ix_deliveries_event_id", "pk_attempts"},
    ),
    "deliveries of a webhook": (
        lambda s: WebhookSqlQueries(s.read).deliveries(ID, PAGE),
        {"uq_deliveries_webhook_id_position"},
    ),
    "items by code": (lambda s: ItemSqlQueries(s.read).items(PageRequest(after=("A",))), {"pk_items"}),
    "items by moment": (
        lambda s: ItemSqlQueries(s.read).items(
            PageRequest(after=("2026-01-31T12:00:00.000000Z", "A")), sort="-updated_at"
        ),
        {"ix_items_updated_at"},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def long_history(store: Store) -> None:
    """Thousands of rows that owe nothing, of one webhook that is in trouble."""
    webhook = a_webhook(id=ID)
    held = [a_delivery(webhook, n, ticket_at=None) for n in range(1, MANY)]
    done = [a_delivery(webhook, MANY + n, state=DeliveryState.DELIVERED, ticket_at=None) for n in range(MANY)]
    ids = [new_id() for _ in range(MANY)]
    with store.transaction() as connection:
        SqlWebhooks(connection).add(webhook)
        SqlDeliveries(connection).add([*held, *done])
        bulk.insert(connection, outbox, [an_old_event(id, number) for number, id in enumerate(ids, start=1)])
        connection.commit()
    if store.is_postgres:
        with store.transaction() as connection:
            connection.execute(text("ANALYZE"))
            connection.commit()


def an_old_event(id: UUID, number: int) -> dict[str, Any]:
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
        "before": {},
        "after": {},
        "number": number,
        "body": b"{}",
        "tickets": 1,
        "handled_at": NOON,
    }


@pytest.mark.parametrize("name", WRITING)
def test_a_unit_of_work_finds_its_rows_by_an_index(store: Store, name: str) -> None:
    act, indexes = WRITING[name]
    with store.transaction() as connection:
        plans = explained(store, connection)
        act(connection)
        assert_used(store, plans, indexes)


@pytest.mark.parametrize("name", READING)
def test_a_read_finds_its_rows_by_an_index(store: Store, name: str) -> None:
    act, indexes = READING[name]
    plans = explained(store, store.reading)
    act(store)
    assert_used(store, plans, indexes)


def explained(store: Store, target: Any) -> list[str]:
    """The plans of all statements that are executed from now on."""
    plans: list[str] = []

    @event.listens_for(target, "before_cursor_execute")
    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if store.is_postgres:
            # few rows are read one by one: ask how it would be with very many
            cursor.execute("SET enable_seqscan = off")
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
            cursor.execute("RESET enable_seqscan")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append("\n".join(row[3] for row in cursor.fetchall()))

    return plans


def assert_used(store: Store, plans: list[str], indexes: set[str]) -> None:
    told = "\n".join(plans)
    for index in indexes:
        # SQLite calls the index of a key by a name of its own
        key = index.startswith(("pk_", "uq_")) and index != "uq_outbox_number"
        name = f"sqlite_autoindex_{index.split('_')[1]}_" if key and not store.is_postgres else index
        assert name in told, told
    if store.is_postgres:
        assert "Seq Scan on outbox" not in told, told
        assert "Seq Scan on deliveries" not in told, told
    else:
        scans = [line for line in told.splitlines() if line.startswith("SCAN")]
        assert not [line for line in scans if line in ("SCAN outbox", "SCAN deliveries", "SCAN items")], told


def test_of_many_that_wait_for_a_number_no_more_are_read_than_are_taken(store: Store) -> None:
    """Also in the first import of all, of which Postgres has no statistics yet."""
    waiting = {"number": None, "body": None, "tickets": 0, "handled_at": None}
    with store.transaction() as connection:
        bulk.insert(connection, outbox, [an_old_event(new_id(), 0) | waiting for _ in range(MANY)])
        if store.is_postgres:
            connection.execute(text("DELETE FROM pg_statistic WHERE starelid = 'outbox'::regclass"))
            connection.execute(text("UPDATE pg_class SET reltuples = 200000 WHERE oid = 'outbox'::regclass"))
        plans = explained(store, connection)

        assert len(SqlOutbox(connection).unnumbered(10)) == 10

    told = "\n".join(plans)
    assert "ix_outbox_unnumbered" in told
    assert not [word for word in ("Sort", "Bitmap", "TEMP B-TREE") if word in told], told


def test_of_a_long_backlog_no_more_is_read_than_the_window(store: Store) -> None:
    webhook = a_webhook()
    with store.transaction() as connection:
        SqlWebhooks(connection).add(webhook)
        deliveries = SqlDeliveries(connection)
        deliveries.add([a_delivery(webhook, position, ticket_at=NOON) for position in range(1, MANY)])
        plans = explained(store, connection)
        owed = deliveries.owed(NOON, window=10)
        assert_used(store, plans, {"ix_deliveries_due"})
    assert [delivery.position for delivery in owed] == list(range(1, 11))
    # these would lead through all of it
    assert "ix_deliveries_waiting" not in plans[0]
    assert "ix_deliveries_owed" not in plans[0]
