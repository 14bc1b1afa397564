"""What is kept comes back as it was, through the database."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import HealthCheck, example, given, settings
from sqlalchemy import select

from ordersync_adapters.sql import audit, outbox
from ordersync_adapters.sql.items import SqlItems
from ordersync_adapters.sql.tables.audit import audit_entries
from ordersync_adapters.sql.tables.messaging import outbox as outbox_rows
from ordersync_adapters.sql.types import stored_moment, to_json
from ordersync_adapters.sql.webhooks import SqlWebhooks
from ordersync_core.audit.model import audit_entry
from ordersync_core.items.model import Item, ItemCode, RestockOrder, Stock, delete, put
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.model import outbox_row
from ordersync_core.testing.strategies import items, webhooks
from ordersync_core.webhooks.model import Webhook
from tests.adapters.sql.stores import Store

CONTEXT = Context(administration="acme", triggered_by="somebody", correlation_id="c", traceparent="t")
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
@given(item=items(), other=items())
@example(item=STRANGE, other=STRANGE)
def test_what_is_told_survives_its_rows_in_its_order(store: Store, item: Item, other: Item) -> None:
    changes = (put(None, item, at=NOON), put(item, evolve(other, code=item.code), at=NOON), delete(item))
    told = {UUID(int=n): change.notification for n, change in enumerate(changes) if change is not None}
    with store.transaction() as connection:
        at = stored_moment(NOON, connection.dialect)
        for id, notification in told.items():
            entry = audit_entry(notification, id=id, at=NOON, context=CONTEXT)
            before = to_json(notification.before)
            after = None if notification.after is None else to_json(notification.after)
            audited = to_json(entry.after)
            row = outbox.to_row(notification, id=str(id), at=at, context=CONTEXT, before=before, after=after)
            outbox.write_rows(connection, [row])
            row = audit.to_row(notification, id=str(id), at=at, context=CONTEXT, before=before, after=audited)
            audit.write_entries(connection, [row])
        rows = connection.execute(select(outbox_rows).order_by(outbox_rows.c.order)).all()
        entries = connection.execute(select(audit_entries).order_by(audit_entries.c.id)).all()
    assert [evolve(outbox.to_outbox_row(row), order=0) for row in rows] == [
        outbox_row(notification, id=id, at=NOON, context=CONTEXT) for id, notification in told.items()
    ]
    assert [audit.to_entry(entry) for entry in entries] == [
        audit_entry(notification, id=id, at=NOON, context=CONTEXT) for id, notification in told.items()
    ]


@through_a_database
@given(webhook=webhooks())
def test_a_webhook_survives_its_row(store: Store, webhook: Webhook) -> None:
    with store.transaction() as connection:
        repository = SqlWebhooks(connection)
        repository.add(webhook)
        assert repository.find(webhook.id) == webhook
