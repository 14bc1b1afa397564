"""What must hold once everything is at rest: each broken promise as a line, none when all is well.

Rows are read with plain SQL, items over the API, requests from the receivers' file.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import select

from ordersync_adapters.sql.tables.flows import execution_log
from ordersync_adapters.sql.tables.jobs import job_runs
from ordersync_adapters.sql.tables.messaging import outbox
from ordersync_admin.demo.evidence import lines_of
from tests.soak.acts import Scene

Line = Mapping[str, Any]

COUNTED = ("run_id", "created", "updated", "deleted")

TAKES: Mapping[str, tuple[str, ...]] = {
    "everything": ("item.created", "item.updated", "item.deleted"),
    "updates": ("item.updated",),
}


def broken_promises(scene: Scene) -> list[str]:
    world = scene.world
    lines = lines_of(world.platform.folder / "received.ndjson")
    events = _events(scene)
    stored = world.items()
    found = [*_items(stored, scene.expected()), *_numbers([number for number, _, _ in events])]
    if world.dead_letters():
        found.append(f"{world.dead_letters()} dead letters")
    for receiver in TAKES:
        found += _deliveries(receiver, [line for line in lines if line["receiver"] == receiver], events)
    found += _bytes(lines)
    found += _story([line for line in lines if line["receiver"] == "everything"], stored)
    found += _runs(scene)
    return found


def _events(scene: Scene) -> list[tuple[int, str, str]]:
    """Number, id and type of everything that was told, in order."""
    with scene.world.platform.reading("tenant") as connection:
        told = select(outbox.c.number, outbox.c.id, outbox.c.event_type).where(outbox.c.number.is_not(None))
        return [(row.number, str(row.id), row.event_type) for row in connection.execute(told.order_by(outbox.c.number))]


def _items(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    if missing := expected.keys() - stored.keys():
        yield f"{len(missing)} items are not stored, such as {sorted(missing)[:3]}"
    if strange := stored.keys() - expected.keys():
        yield f"{len(strange)} items are stored that nobody has, such as {sorted(strange)[:3]}"
    different = [code for code in expected.keys() & stored.keys() if stored[code] != expected[code]]
    if different:
        code = min(different)
        yield f"{len(different)} items differ, such as {code}: {stored[code]}, expected {expected[code]}"


def _numbers(numbers: Sequence[int]) -> Iterator[str]:
    if list(numbers) != list(range(1, len(numbers) + 1)):
        yield f"the numbers of {len(numbers)} events are not 1 to {len(numbers)}"


def _deliveries(receiver: str, lines: Sequence[Line], events: Sequence[tuple[int, str, str]]) -> Iterator[str]:
    if unsigned := [line for line in lines if not line["verified"]]:
        yield f"{receiver}: {len(unsigned)} requests were not signed well: {unsigned[0]['problem']}"
    taken = [line for line in lines if line["status"] == 204]
    wanted = {id for _, id, type in events if type in TAKES[receiver]}
    ids = {line["id"] for line in taken}
    if lost := wanted - ids:
        yield f"{receiver}: {len(lost)} events were not delivered"
    if strange := ids - wanted:
        yield f"{receiver}: {len(strange)} deliveries of what it does not take, or of what was not told"
    events_at = defaultdict(set)
    for line in taken:
        events_at[line["position"]].add(line["id"])
    if sorted(events_at) != list(range(1, len(wanted) + 1)):
        yield f"{receiver}: {len(events_at)} positions are not 1 to {len(wanted)}"
    if shared := [position for position, ids_there in events_at.items() if len(ids_there) > 1]:
        yield f"{receiver}: {len(shared)} positions stand for more than one event"


def _bytes(lines: Sequence[Line]) -> Iterator[str]:
    bodies: dict[str, str] = {}
    changed = {line["id"] for line in lines if bodies.setdefault(line["id"], line["body"]) != line["body"]}
    if changed:
        yield f"{len(changed)} events came with different bytes"


def _story(lines: Sequence[Line], stored: Mapping[str, Any]) -> Iterator[str]:
    """One after another the events make exactly the items that are stored, and none tells what is there already."""
    told: dict[str, Any] = {}
    for body in sorted({line["body"] for line in lines if line["status"] == 204}, key=_sequence):
        event = orjson.loads(body)
        code, item, type = event["data"]["code"], event["data"]["item"], event["type"]
        if (code in told) != (type != "item.created"):
            yield f"event {event['sequence']} is {type} of {code}, which is {'' if code in told else 'not '}there"
        if item is not None and told.get(code) == item:
            yield f"event {event['sequence']} tells nothing new of {code}"
        if item is None:
            told.pop(code, None)
        else:
            told[code] = item
    if different := [code for code in told.keys() | stored.keys() if told.get(code) != stored.get(code)]:
        yield f"what was told makes other items than the stored ones: {sorted(different)[:3]}"


def _sequence(body: str) -> int:
    return int(orjson.loads(body)["sequence"])


def _runs(scene: Scene) -> Iterator[str]:
    """Every run has ended well, and what their logs count is what they told: no effect twice, none lost.

    In all, and not run by run: a row that takes in a later one of the same item tells that one's run as its cause.
    """
    with scene.world.platform.reading("admin") as connection:
        states = Counter(connection.execute(select(job_runs.c.state)).scalars())
    if others := states.keys() - {"Succeeded", "Merged", "Cancelled"}:
        yield f"runs have ended otherwise: { {state: states[state] for state in others} }"
    with scene.world.platform.reading("tenant") as connection:
        counted = connection.execute(select(*(execution_log.c[name] for name in COUNTED))).all()
        causes = Counter(connection.execute(select(outbox.c.correlation_id)).scalars())
    changes = sum(row.created + row.updated + row.deleted for row in counted)
    told = sum(causes[str(row.run_id)] for row in counted)
    if told != changes:
        yield f"the runs count {changes} changes, and told {told}"
