"""Audit entries: who changed which entity when, from what to what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import frozen

from ordersync_core.kernel.context import Context
from ordersync_core.kernel.notification import Effect, Notification


@frozen(kw_only=True)
class AuditEntry:
    """before, after: the changed fields only; empty before for a creation, empty after for a deletion."""

    id: UUID
    at: datetime
    triggered_by: str
    correlation_id: str
    entity_type: str
    key: str
    effect: Effect
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def audit_entry(notification: Notification, *, id: UUID, at: datetime, context: Context) -> AuditEntry:
    return AuditEntry(
        id=id,
        at=at,
        triggered_by=context.triggered_by,
        correlation_id=context.correlation_id,
        entity_type=notification.entity_type,
        key=notification.key,
        effect=notification.effect,
        before=notification.before,
        after=audited_after(notification),
    )


def audited_after(notification: Notification) -> Mapping[str, Any]:
    """What an entry has for `after`: of an update, only what changed."""
    after = notification.after or {}
    return {name: after[name] for name in notification.before} if notification.effect is Effect.UPDATE else after
