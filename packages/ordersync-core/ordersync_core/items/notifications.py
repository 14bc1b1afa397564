from typing import ClassVar

from attrs import frozen

from ordersync_core.kernel.notification import Effect, Notification


@frozen(kw_only=True)
class ItemCreatedNotification(Notification):
    event_type: ClassVar[str] = "item.created"
    entity_type: ClassVar[str] = "item"
    effect: ClassVar[Effect] = Effect.CREATE


@frozen(kw_only=True)
class ItemUpdatedNotification(Notification):
    event_type: ClassVar[str] = "item.updated"
    entity_type: ClassVar[str] = "item"
    effect: ClassVar[Effect] = Effect.UPDATE


@frozen(kw_only=True)
class ItemDeletedNotification(Notification):
    event_type: ClassVar[str] = "item.deleted"
    entity_type: ClassVar[str] = "item"
    effect: ClassVar[Effect] = Effect.DELETE
