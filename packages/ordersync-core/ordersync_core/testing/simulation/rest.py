"""What must hold when nothing moves any more: rows, queues, endpoints and the source tell the same story."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ordersync_core.jobs.model import RunState
from ordersync_core.jobs.schedule import next_due
from ordersync_core.messaging.envelope import QUEUES
from ordersync_core.testing.memory.flows import QUARANTINE
from ordersync_core.testing.memory.items import ITEMS
from ordersync_core.testing.memory.jobs import DEFINITIONS, RUNS
from ordersync_core.testing.memory.outbox import FEED, OUTBOX, THE_FEED
from ordersync_core.testing.memory.transaction import MemoryDatabase
from ordersync_core.testing.memory.webhooks import DELIVERIES, WEBHOOKS
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.world import World
from ordersync_core.webhooks.model import DeliveryState


def is_quiet(world: World, administrations: Sequence[str]) -> bool:
    return not what_waits(world, administrations)


def what_waits(world: World, administrations: Sequence[str]) -> str:
    """What is still under way, as one line; empty when nothing is."""
    found: Counter[str] = Counter()
    for code in administrations:
        database = world.databases.tenants.of(code)
        for row in database.rows(OUTBOX).values():
            if row.absorbed_by is None and row.number is None:
                found["events without a number"] += 1
            elif row.number is not None and row.handled_at is None:
                found["events without an outcome"] += 1
        for delivery in database.rows(DELIVERIES).values():
            if delivery.state in (DeliveryState.WAITING, DeliveryState.PARKED):
                found[f"deliveries {delivery.state}"] += 1
    for run in world.databases.admin.rows(RUNS).values():
        if not run.state.ended:
            found[f"job runs {run.state}"] += 1
    for name in QUEUES:
        depth = world.queues[name].depth()
        found[f"messages in {name}"] += depth.ready + depth.locked
        found[f"dead letters in {name}"] += depth.dead
    return ", ".join(f"{count} {what}" for what, count in sorted(found.items()) if count)


def check(world: World, administrations: Sequence[str]) -> None:
    """Raises Broken when a promise does not hold."""
    for code in administrations:
        database = world.databases.tenants.of(code)
        _numbers_are_whole(database)
        _everything_was_delivered(database)
        _same_bytes_on_every_attempt(world, database)
        _receivers_hold_what_is_stored(world, database)
    _items_equal_the_source(world, world.databases.tenants.of(administrations[0]))
    _refresh_tokens_were_used_once(world)
    _runs_came_to_an_end(world)
    _due_moments_are_covered(world)


def _numbers_are_whole(database: MemoryDatabase) -> None:
    numbers = sorted(row.number for row in database.rows(OUTBOX).values() if row.number is not None)
    feed = database.row(FEED, THE_FEED)
    if feed is None or numbers != list(range(1, feed.last_number + 1)):
        raise Broken("P4", f"{database.name}: the numbers have a gap or a repeat: {numbers}")


def _everything_was_delivered(database: MemoryDatabase) -> None:
    by_webhook: dict[UUID, dict[UUID, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for delivery in database.rows(DELIVERIES).values():
        by_webhook[delivery.webhook_id][delivery.event_id].append(delivery)
    for webhook in database.rows(WEBHOOKS).values():
        deliveries = [d for found in by_webhook[webhook.id].values() for d in found]
        if sorted(d.position for d in deliveries) != list(range(1, webhook.last_position + 1)):
            raise Broken("P1", f"{webhook.url}: its positions have a gap or a repeat")
        undelivered = [d for d in deliveries if d.state is not DeliveryState.DELIVERED]
        if undelivered:
            raise Broken("P1", f"{webhook.url}: {len(undelivered)} deliveries are {undelivered[0].state}")


def _same_bytes_on_every_attempt(world: World, database: MemoryDatabase) -> None:
    bodies = {str(row.id): row.body for row in database.rows(OUTBOX).values() if row.number is not None}
    for webhook in database.rows(WEBHOOKS).values():
        endpoint = world.endpoints[webhook.url]
        if endpoint.refused and not _clocks_jumped(world):
            raise Broken("P4", f"{webhook.url} refused signatures: {endpoint.refused[0]}")
        for receipt in endpoint.receipts:
            if bodies.get(receipt.event) != receipt.body:
                raise Broken("P4", f"{webhook.url} received other bytes of event {receipt.event} than are stored")


def _clocks_jumped(world: World) -> bool:
    return any(fault.seconds and fault.kind == "clock" for fault in world.plan)


def _receivers_hold_what_is_stored(world: World, database: MemoryDatabase) -> None:
    """For webhooks that take everything and were never disabled."""
    stored = {str(code): item.name["en"] for code, item in database.rows(ITEMS).items()}
    events = {row.id for row in database.rows(OUTBOX).values() if row.number is not None}
    for webhook in database.rows(WEBHOOKS).values():
        delivered = {d.event_id for d in database.rows(DELIVERIES).values() if d.webhook_id == webhook.id}
        if webhook.event_types != ("*",):
            continue
        missing = events - delivered
        if missing and webhook.id not in world.deliveries.disabled:
            raise Broken("P1", f"{webhook.url} was never to be given {len(missing)} of {len(events)} events")
        if not missing and world.endpoints[webhook.url].mirror() != stored:
            raise Broken("P1", f"{webhook.url}: a consumer who applies all events does not hold what is stored")


def _items_equal_the_source(world: World, database: MemoryDatabase) -> None:
    stored = {str(code): item.name["en"] for code, item in database.rows(ITEMS).items() if code.startswith("S-")}
    wanted = world.catalogue.items()
    refused = {row.code for row in world.catalogue.rows.values() if row.name is None and not row.deleted}
    for code in sorted({*stored, *wanted} - refused):
        if stored.get(code) != wanted.get(code):
            raise Broken("P1", f"item {code} is {stored.get(code)!r} and its source says {wanted.get(code)!r}")
    if len(refused) != len(database.rows(QUARANTINE)):
        raise Broken(
            "P1", f"{len(refused)} rows cannot be mapped and {len(database.rows(QUARANTINE))} are in quarantine"
        )


def _refresh_tokens_were_used_once(world: World) -> None:
    """One that was presented twice was so by who found a renewal without its result; somebody died or failed then."""
    if world.authorisation.spent > len(world.met):
        raise Broken("P3", f"{world.authorisation.spent} refresh tokens were presented a second time without need")


def _runs_came_to_an_end(world: World) -> None:
    for run in world.databases.admin.rows(RUNS).values():
        if run.state is RunState.FAILED:
            raise Broken("P7", f"job run {run.id} failed: {run.reason}")


def _due_moments_are_covered(world: World) -> None:
    """Each moment of a definition has its run, or one that says it stands for it too."""
    for definition in world.databases.admin.rows(DEFINITIONS).values():
        runs = [run for run in world.databases.admin.rows(RUNS).values() if run.definition_id == definition.id]
        moment, count = next_due(definition.schedule, after=world.began), 0
        while moment is not None and definition.next_due is not None and moment < definition.next_due:
            count, moment = count + 1, next_due(definition.schedule, after=moment)
        if sum(1 + run.missed for run in runs) != count:
            raise Broken("P10", f"{count} moments came and {sum(1 + run.missed for run in runs)} are accounted for")
