"""Plain valid values, each with its own id."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from attrs import evolve

from ordersync_core.connections.model import AuthorisationState, Connection
from ordersync_core.flows.model import Execution, Flow, FlowKind, KnownRecord, Quarantined, RawRecord, Step
from ordersync_core.items.model import (
    Attachment,
    Image,
    Item,
    ItemCode,
    RelatedUnit,
    RestockOrder,
    Stock,
    VatTariff,
    factor,
)
from ordersync_core.jobs.model import JobDefinition, JobRun, JobType
from ordersync_core.jobs.schedule import Schedule
from ordersync_core.kernel.localised import localised_text
from ordersync_core.testing.clocks import SteppingIds
from ordersync_core.webhooks.model import Attempt, Delivery, EventTypePattern, Webhook

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

CONNECTOR = "exact_online"
ENTITY = "item"

new_id = SteppingIds(start=1 << 30).new


def an_item(code: str = "A-1", *, name: str | None = None, stock: int = 0, **fields: Any) -> Item:
    return Item(
        code=ItemCode(code),
        name=localised_text({"en": name or f"Item {code}"}),
        stocks=(Stock(warehouse="main", quantity=Decimal(stock)),),
        **{"updated_at": NOON, **fields},
    )


def a_full_item(code: str = "FULL-1") -> Item:
    """Every field holds something that a careless column would lose."""
    return Item(
        code=ItemCode(code),
        name=localised_text({"en": "Café “table”\nround", "nl-BE": "Cafétafel 🪑"}),
        family_code="TABLES/ROUND",
        unit="pc",
        units=(RelatedUnit(unit="box", factor=factor(Decimal("12.50"))),),
        vat_tariff=VatTariff.LOW1,
        attributes={"colour": ["red", "blue"], "weight": "1.20", "none": None, "flags": {"new": True}, "height": 7},
        images=(Image(position=1, file_name="a.jpg", content_type="image/jpeg", content_hash="0" * 64, blob="i/a"),),
        attachments=(Attachment(file_name="m.pdf", content_type="application/pdf", content_hash="f" * 64, blob="a/m"),),
        stocks=(
            Stock(warehouse="main", quantity=Decimal("-3.250")),
            Stock(warehouse="far", quantity=Decimal("10000000000.5")),
        ),
        restock_orders=(
            RestockOrder(warehouse="main", quantity=Decimal("40"), expected_date=NOON + timedelta(days=3)),
        ),
        updated_at=NOON + timedelta(microseconds=1),
    )


def with_stock(item: Item, quantity: int) -> Item:
    return evolve(item, stocks=(Stock(warehouse="main", quantity=Decimal(quantity)),))


def stock_of(item: Item) -> int:
    return int(sum(stock.quantity for stock in item.stocks))


def a_webhook(**fields: Any) -> Webhook:
    return Webhook(
        **{
            "id": new_id(),
            "url": "https://receiver.example/hook",
            "event_types": (EventTypePattern("item.*"),),
            "secrets": (b"\x00sealed\xff",),
            "created_at": NOON,
            **fields,
        }
    )


def a_delivery(webhook: Webhook, position: int = 1, **fields: Any) -> Delivery:
    return Delivery(
        **{
            "id": new_id(),
            "webhook_id": webhook.id,
            "event_id": new_id(),
            "event_type": "item.created",
            "event_number": position,
            "position": position,
            "ticket_at": NOON,
            "created_at": NOON,
            **fields,
        }
    )


def an_attempt(delivery: Delivery, number: int = 1, **fields: Any) -> Attempt:
    return Attempt(
        **{
            "delivery_id": delivery.id,
            "number": number,
            "started_at": NOON,
            "ended_at": NOON + SECOND,
            "status": 500,
            **fields,
        }
    )


def a_connection(**fields: Any) -> Connection:
    return Connection(
        **{
            "id": new_id(),
            "connector": CONNECTOR,
            "name": "Our books",
            "settings": {"division": 7, "regions": ["nl", "be"]},
            "secret_settings": b"\x00sealed\xff",
            "created_at": NOON,
            **fields,
        }
    )


def an_authorisation_state(**fields: Any) -> AuthorisationState:
    return AuthorisationState(
        **{
            "id": new_id(),
            "administration": "alpha",
            "connection_id": new_id(),
            "identity": "somebody",
            "redirect_uri": "https://app.example/callback",
            "created_at": NOON,
            **fields,
        }
    )


def a_flow(**fields: Any) -> Flow:
    return Flow(
        **{
            "kind": FlowKind.ITEM,
            "source": Step(connection_id=new_id(), aspects=("name", "stocks")),
            **fields,
        }
    )


def an_execution(**fields: Any) -> Execution:
    return Execution(**{"run_id": new_id(), "kind": FlowKind.ITEM, "started_at": NOON, **fields})


def a_record(key: str, *, raw: Any = None, **known: Any) -> RawRecord:
    """Stored and never built, unless `known` says otherwise."""
    return RawRecord(
        known=KnownRecord(**{"key": key, "content_hash": f"hash of {key}", "source_version": 1, **known}),
        raw={"ID": key, "Code": f" {key} "} if raw is None else raw,
    )


def an_applied_record(key: str, *, flow_version: int = 1, **known: Any) -> RawRecord:
    return a_record(key, **{"code": key, "applied_hash": f"hash of {key}", "applied_version": flow_version, **known})


def a_quarantined(key: str, **fields: Any) -> Quarantined:
    return Quarantined(**{"key": key, "reason": "the code is empty", "raw": {"ID": key}, "since": NOON, **fields})


def a_definition(**fields: Any) -> JobDefinition:
    return JobDefinition(
        **{
            "id": new_id(),
            "administration": "alpha",
            "type": JobType.ITEM_SYNC,
            "parameters": {"complete": True},
            "schedule": Schedule(cron="0 * * * *", time_zone="Europe/Amsterdam"),
            "next_due": NOON,
            **fields,
        }
    )


def a_run(**fields: Any) -> JobRun:
    return JobRun(
        **{
            "id": new_id(),
            "administration": "alpha",
            "type": JobType.ITEM_SELECTIVE_SYNC,
            "parameters": {"codes": ["A-1", "B-2"]},
            "triggered_by": "somebody",
            "correlation_id": "a correlation",
            "created_at": NOON,
            "ticket_at": NOON,
            **fields,
        }
    )
