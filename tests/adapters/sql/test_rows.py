"""What is kept comes back as it was, through the database."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Dialect, select

from ordersync_adapters.sql.bulk import Stored
from ordersync_adapters.sql.items import SqlItems
from ordersync_adapters.sql.outbox import to_outbox_row, to_row, write_rows
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_adapters.sql.types import to_json
from ordersync_adapters.sql.webhooks import SqlWebhooks
from ordersync_core.items.model import Item, ItemCode, RestockOrder, Stock
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.testing.strategies import items, outbox_rows, webhooks
from ordersync_core.webhooks.model import Webhook
from tests.adapters.sql.stores import Store

through_a_database = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
STRANGE = Item(
    code=ItemCode("'; DROP TABLE items; -- \\ \U0001f600"),
    name=localised_text({"en": "tab\there\nnew line \\. \\N", "nl": ""}),
    unit="",
    attributes={"null": "\x00", "float": 1e300, "zero": -0.0, "big": 2**53, "deep": {"list": [[], {}, None]}},
    stocks=(Stock(warehouse="", quantity=Decimal("-0.000")),),
    restock_orders=(RestockOrder(warehouse="é", quantity=Decimal("1E+3"), expected_date=NOON),),
    updated_at=NOON.replace(microsecond=1),
)


@through_a_database
@given(item=items())
@example(item=STRANGE)
def test_an_item_survives_its_row(store: Store, item: Item) -> None:
    stored = item if item.updated_at is not None else evolve(item, updated_at=NOON)
    with store.transaction() as connection:
        repository = SqlItems(connection)
        repository.save([stored])
        found = repository.find(stored.code)
    assert found == stored
    assert found is not None
    assert found.updated_at == stored.updated_at
    assert found.content() == stored.content()


def test_an_item_without_a_moment_is_not_stored(store: Store) -> None:
    with store.transaction() as connection, pytest.raises(ValueError, match="has no moment"):
        SqlItems(connection).save([Item(code=ItemCode("A"))])


@through_a_database
@given(rows=st.lists(outbox_rows(), max_size=4, unique_by=lambda row: row.id))
def test_outbox_rows_survive_in_their_order(store: Store, rows: list[OutboxRow]) -> None:
    """But for what the relay writes later: number, body and tickets."""
    fresh = [
        evolve(row, number=None, body=None, absorbed_by=None, ticket_at=None, tickets=0, handled_at=None)
        for row in rows
    ]
    with store.transaction() as connection:
        write_rows(connection, [stored(row, connection.dialect) for row in fresh])
        stored = [to_outbox_row(row) for row in connection.execute(select(outbox).order_by(outbox.c.order))]
    assert [evolve(row, order=0) for row in stored] == [evolve(row, order=0) for row in fresh]
    assert [row.order for row in stored] == sorted(row.order for row in stored)


def stored(row: OutboxRow, dialect: Dialect) -> Stored:
    after = None if row.after is None else to_json(row.after)
    return to_row(row, dialect, before=to_json(row.before), after=after)


@through_a_database
@given(webhook=webhooks())
def test_a_webhook_survives_its_row(store: Store, webhook: Webhook) -> None:
    with store.transaction() as connection:
        repository = SqlWebhooks(connection)
        repository.add(webhook)
        assert repository.find(webhook.id) == webhook
