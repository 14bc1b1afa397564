"""Whose turn it is: requests wait in a lane for each webhook, lanes take turns, and so do administrations."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import define, field, frozen

T = TypeVar("T")


@frozen(kw_only=True)
class Limits:
    """How many may be in flight at once: in all, for one administration, for one webhook."""

    overall: int = 200
    administration: int = 100
    webhook: int = 10


@define(eq=False)
class _Lane(Generic[T]):
    waiting: deque[T] = field(factory=deque)
    in_flight: int = 0
    queued: bool = False


@define(eq=False)
class _Tenant(Generic[T]):
    lanes: dict[Hashable, _Lane[T]] = field(factory=dict)
    ready: deque[_Lane[T]] = field(factory=deque)
    in_flight: int = 0
    queued: bool = False


class FairOrder(Generic[T]):
    """First in, first out within a webhook; between webhooks and between administrations one each in turn.

    What is full holds nothing else up. Each call costs the same however much waits, but for `startable`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tenants: dict[str, _Tenant[T]] = {}
        self._ready: deque[_Tenant[T]] = deque()
        self.in_flight = 0

    def put(self, administration: str, webhook: Hashable, item: T) -> None:
        tenant = self._tenants.setdefault(administration, _Tenant())
        lane = tenant.lanes.setdefault(webhook, _Lane())
        lane.waiting.append(item)
        self._queue(tenant, lane)

    def take(self) -> T | None:
        """The next one, which is in flight from now on; None while nothing may start."""
        if not self._ready or self.in_flight >= self._limits.overall:
            return None
        tenant = self._ready.popleft()
        tenant.queued = False
        lane = tenant.ready.popleft()
        lane.queued = False
        item = lane.waiting.popleft()
        lane.in_flight += 1
        tenant.in_flight += 1
        self.in_flight += 1
        self._queue(tenant, lane)
        return item

    def release(self, administration: str, webhook: Hashable) -> None:
        """One of those in flight has ended."""
        tenant = self._tenants[administration]
        lane = tenant.lanes[webhook]
        lane.in_flight -= 1
        tenant.in_flight -= 1
        self.in_flight -= 1
        self._queue(tenant, lane)
        self._forget(administration, webhook)

    def withdraw(self, administration: str, webhook: Hashable) -> list[T]:
        """Everything that waits for this webhook, which waits no more."""
        lane = self._lane(administration, webhook)
        if lane is None or not lane.waiting:
            return []
        withdrawn = list(lane.waiting)
        lane.waiting.clear()
        if lane.queued:
            lane.queued = False
            tenant = self._tenants[administration]
            tenant.ready.remove(lane)
            if tenant.queued and not tenant.ready:
                tenant.queued = False
                self._ready.remove(tenant)
        self._forget(administration, webhook)
        return withdrawn

    def withdraw_all(self) -> list[T]:
        lanes = [(code, webhook) for code, tenant in self._tenants.items() for webhook in tenant.lanes]
        return [item for code, webhook in lanes for item in self.withdraw(code, webhook)]

    def waiting(self, administration: str, webhook: Hashable) -> int:
        lane = self._lane(administration, webhook)
        return 0 if lane is None else len(lane.waiting)

    def startable(self) -> int:
        """How many of those that wait are kept from starting by the overall limit only."""
        return sum(
            min(
                self._limits.administration - tenant.in_flight,
                sum(min(len(lane.waiting), self._limits.webhook - lane.in_flight) for lane in tenant.ready),
            )
            for tenant in self._ready
        )

    def _lane(self, administration: str, webhook: Hashable) -> _Lane[T] | None:
        tenant = self._tenants.get(administration)
        return None if tenant is None else tenant.lanes.get(webhook)

    def _queue(self, tenant: _Tenant[T], lane: _Lane[T]) -> None:
        if lane.waiting and not lane.queued and lane.in_flight < self._limits.webhook:
            lane.queued = True
            tenant.ready.append(lane)
        if tenant.ready and not tenant.queued and tenant.in_flight < self._limits.administration:
            tenant.queued = True
            self._ready.append(tenant)

    def _forget(self, administration: str, webhook: Hashable) -> None:
        tenant = self._tenants[administration]
        lane = tenant.lanes[webhook]
        if not lane.waiting and lane.in_flight == 0:
            del tenant.lanes[webhook]
        if not tenant.lanes:
            del self._tenants[administration]
