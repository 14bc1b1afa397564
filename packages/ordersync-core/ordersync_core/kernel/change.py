from typing import Generic, TypeVar

from attrs import frozen

from ordersync_core.kernel.notification import Notification

T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True)
class Change(Generic[T_co]):
    """A decision: what was, what shall be, and the fact to tell. None: before a creation, after a deletion."""

    before: T_co | None
    after: T_co | None
    notification: Notification
