from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from attrs import field, frozen


class Effect(StrEnum):
    """What a notification says happened to its entity; deduplication goes by it."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@frozen(kw_only=True)
class Notification:
    """A fact about a change. It carries no id, no time and no administration: the unit of work adds them.

    key: the entity's key within its type, for example the item code.
    after: the entity as the API shows it, after the change; None once it is deleted.
    before: what the changed fields held before; the whole entity for a deletion, nothing for a creation.
    """

    event_type: ClassVar[str]
    entity_type: ClassVar[str]
    effect: ClassVar[Effect]
    version: ClassVar[int] = 1

    key: str
    after: Mapping[str, Any] | None
    before: Mapping[str, Any] = field(factory=dict)
