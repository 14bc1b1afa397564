"""The outcome on the row of a message that is given up, committed before its dead letter.

Without it the row would owe the same ticket again. A resubmission resets it.
"""

from collections.abc import Mapping
from uuid import UUID

from attrs import evolve, frozen

from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.ports import MessagingUnitOfWork
from ordersync_core.webhooks.model import DeliveryState
from ordersync_core.webhooks.ports import WebhooksUnitOfWork


@frozen(kw_only=True)
class GiveUpEvents:
    ids: tuple[UUID, ...]


def give_up_events(command: GiveUpEvents, *, uow: MessagingUnitOfWork, clock: Clock) -> None:
    with uow:
        uow.outbox.handled(command.ids, clock.now())
        uow.commit()


@frozen(kw_only=True)
class GiveUpDelivery:
    """`attempt` is the one that the message stood for; a delivery that has moved on stays as it is."""

    id: UUID
    attempt: int
    reason: str


def give_up_delivery(command: GiveUpDelivery, *, uow: WebhooksUnitOfWork, clock: Clock) -> None:
    with uow:
        # a transaction locks webhooks before deliveries
        uow.webhooks.of_deliveries([command.id])
        delivery = uow.deliveries.get([command.id]).get(command.id)
        if delivery is None or delivery.state is not DeliveryState.WAITING or delivery.attempts + 1 != command.attempt:
            return
        dead = evolve(
            delivery,
            state=DeliveryState.DEAD,
            finished_at=clock.now(),
            ticket_at=None,
            tickets=0,
            reason=command.reason,
        )
        uow.deliveries.save([dead])
        uow.commit()


@frozen
class FindDead:
    """Deliveries by id, with the attempt that a message stood for."""

    attempts: Mapping[UUID, int]


def find_dead(command: FindDead, *, uow: WebhooksUnitOfWork) -> Mapping[UUID, str]:
    """Why those were given up that ended with the attempt that the message stands for, or before it was made.

    A process that died between that outcome and the dead letter leaves such a message.
    """
    with uow:
        uow.webhooks.of_deliveries(list(command.attempts))
        deliveries = uow.deliveries.get(list(command.attempts))
    return {
        id: delivery.reason or "GivenUp"
        for id, delivery in deliveries.items()
        if delivery.state is DeliveryState.DEAD and command.attempts[id] - delivery.attempts in (0, 1)
    }
