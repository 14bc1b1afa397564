"""What the nine functions do. The declarations call these; so do tests, and the local host in their batch form."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from ordersync_core.connections.commands import CompleteAuthorisation, RenewConnections
from ordersync_core.connections.handlers import renew_connections as renew_of_tenant
from ordersync_core.connections.handlers import store_authorisation, take_authorisation_state
from ordersync_core.dispatch import handle_events
from ordersync_core.jobs.commands import EnqueueDue, SendOwedRuns
from ordersync_core.jobs.handlers import enqueue_due, send_owed_runs
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import InvalidInput, NotFound, OrderSyncError, PermanentFailure
from ordersync_core.messaging.envelope import Envelope, decode_envelope
from ordersync_core.webhooks.commands import FindDead, Prepare, Record
from ordersync_core.webhooks.handlers.attempts import find_dead, prepare, record
from ordersync_core.webhooks.ports import WebhookRequest
from ordersync_functions import health, housekeeping
from ordersync_functions.contexts import platform, tenant
from ordersync_functions.parts import Parts

ON_WAKE_UP: Final[Mapping[str, float]] = {"publish_outbox": 0.02, "schedule_jobs": 0.25}
"""The timers that the local host also runs when somebody was woken, with the seconds that lie between two runs."""

_log = logging.getLogger("ordersync.functions")


class GivenUp(PermanentFailure):
    """The row says that its work was given up; raising it again and again moves the message to the dead letters."""


def publish_outbox(parts: Parts) -> None:
    parts.publisher.publish()


def schedule_jobs(parts: Parts) -> None:
    """Runs for all definitions that are due, then the tickets that runs owe."""
    context = platform("schedule_jobs")
    due = EnqueueDue()
    while parts.application.run(enqueue_due, due, context) == due.limit:
        continue
    owed = SendOwedRuns()
    while parts.application.run(send_owed_runs, owed, context) == owed.limit:
        continue


def renew_connections(parts: Parts) -> int:
    """Use the refresh tokens that lapse; answers how many. A tenant that fails keeps no other from its turn."""
    used = 0
    for code in parts.administrations.codes():
        try:
            used += parts.application.run(
                renew_of_tenant, RenewConnections(holder="renew_connections"), tenant("renew_connections", code)
            )
        except OrderSyncError as error:
            _log.warning("%s: connections could not be renewed: %s", code, error)
    return used


def watch_health(parts: Parts) -> None:
    health.watch_health(parts.application, parts.administrations, parts.queues)


def housekeeping_(parts: Parts) -> None:
    housekeeping.purge_dead_letters(parts.queues, parts.clock, keep=parts.dead_letters_kept)


def handle_event(parts: Parts, body: bytes) -> None:
    """One message of `events`, as Azure hands it over: to return is to complete it, to raise is to try again."""
    envelope = _known(parts, body)
    handle_events(parts.application, [envelope], envelope.context)
    parts.wake(envelope.administration)


async def deliver_webhook(parts: Parts, body: bytes) -> None:
    """One message of `webhooks`, as Azure hands it over.

    Raises:
        GivenUp: this was the last attempt, or it had been before.
    """
    envelope = await asyncio.to_thread(_known, parts, body)
    requests = await asyncio.to_thread(parts.application.run, prepare, Prepare(messages=(envelope,)), envelope.context)
    if not requests:
        await asyncio.to_thread(_raise_if_dead, parts, envelope)
    for request in requests:
        await _deliver(parts, request, envelope.context)


async def _deliver(parts: Parts, request: WebhookRequest, context: Context) -> None:
    response = await parts.sender.send(request)
    recorded = await asyncio.to_thread(parts.application.run, record, Record(responses=(response,)), context)
    if context.administration is not None:
        parts.wake(context.administration)
    for result in recorded:
        if result.dead is not None:
            raise GivenUp(f"delivery {result.delivery_id} was given up: {result.dead}")


def _raise_if_dead(parts: Parts, envelope: Envelope) -> None:
    try:
        attempts = {UUID(str(envelope.body["delivery"])): int(envelope.body["attempt"])}
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidInput("the message does not say which attempt at which delivery it stands for") from error
    for id, reason in parts.application.run(find_dead, FindDead(attempts=attempts), envelope.context).items():
        raise GivenUp(f"delivery {id} was given up: {reason}")


def _known(parts: Parts, body: bytes) -> Envelope:
    envelope = decode_envelope(body)
    if envelope.administration not in parts.administrations:
        raise NotFound(f"there is no administration {envelope.administration!r}")
    return envelope


def receive_connector_webhook(parts: Parts, connector: str) -> None:
    """Always NotFound so far."""
    raise NotFound(f"no connector takes webhooks yet, nor does {connector!r}")


def complete_authorisation(parts: Parts, query: Mapping[str, str]) -> str:
    """Keep what the external system's redirect brought; answers the connection's name.

    Whose connection it is says the row behind `state`, and nothing else.

    Raises:
        InvalidInput: the state is unknown, used or too old, or there is no code.
    """
    state = query.get("state", "")
    if "error" in query:
        raise InvalidInput(f"the other side did not consent: {query['error'][:100]}")
    try:
        command = CompleteAuthorisation(state=UUID(state), code=query["code"])
    except (ValueError, KeyError):
        raise InvalidInput("the address lacks what the other side should have put into it: state and code") from None
    row = parts.application.run(take_authorisation_state, command, platform("complete_authorisation"))
    context = Context(administration=row.administration, triggered_by=row.identity, correlation_id=str(row.id))
    return parts.application.run(store_authorisation, (row, command.code), context).name
