"""What a platform goes through while it is killed: each act may be played again, and ends with everything at rest."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from attrs import define, field
from sqlalchemy import select, update

from ordersync_adapters.queues.sql_tables import dead_letters
from ordersync_adapters.sql.tables.connections import connections
from ordersync_adapters.sql.tables.jobs import job_runs
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, QUEUES, WEBHOOKS, Envelope, encode
from tests.end_to_end.platform import CODE
from tests.soak.source import Source
from tests.soak.world import ADMIN, API, ENDED, FUNCTIONS, JOBS, ONCE, Broken, Killed, World

BULK = "/v1/items:bulk"
ITEMS_READ = r"sync/Logistics/Items"
SCRATCH = "scratch"
LONG_PAST = timedelta(days=61)

Act = Callable[["Scene"], None]


@define
class Scene:
    """A world with a source, three receivers, and items of the API beside those of the source.

    webhook_ids: by receiver; "trouble" has one only while an act plays with it.
    """

    world: World
    source: Source
    receivers: str
    connection: str = ""
    webhook_ids: dict[str, str] = field(factory=dict)
    put: dict[str, dict[str, Any]] = field(factory=dict)
    turns: int = 0

    def expected(self) -> dict[str, dict[str, Any]]:
        return {**self.source.expected(), **self.put}

    def turn(self) -> int:
        self.turns += 1
        return self.turns

    def run(self, type: str = "ItemSync", **parameters: Any) -> str:
        run = self.world.call("POST", "/v1/job-runs", {"type": type, "parameters": parameters})
        return str(run["id"])

    def state(self, run: str) -> str:
        with self.world.platform.reading("admin") as connection:
            state: str = connection.execute(select(job_runs.c.state).where(job_runs.c.id == UUID(run))).scalar_one()
            return state

    def settle(self) -> None:
        """Bring everything to rest. Should a process have died with new tokens in its hand, the old ones are spent: a
        person consents anew, and what failed without consent is resubmitted.

        Raises Broken when something else was given up.
        """
        self.world.until(self.world.settled, "all runs have ended, and everything is delivered")
        if self.connection and self.world.call("GET", f"/v1/connections/{self.connection}")["state"] != "Connected":
            self.world.say("  a person consents anew")
            consent(self)
            resubmit_all(self)
        self.world.settle()

    def succeeds(self, run: str) -> None:
        self.world.until(lambda: self.state(run) in ENDED, f"run {run} ends")
        self.settle()
        if self.state(run) != "Succeeded":
            raise Broken(f"run {run} is {self.state(run)}")

    def put_item(self, code: str, name: str) -> None:
        content = {**_nothing_known(code), "name": {"en": name}}
        self.world.call("PUT", f"/v1/items/{code}", content)
        self.put[code] = content

    def put_many(self, prefix: str, count: int) -> None:
        rows = self.rows(prefix, count)
        self.world.upload(BULK, rows)
        self.put |= {row["code"]: row for row in rows}

    def rows(self, prefix: str, count: int) -> list[dict[str, Any]]:
        name = {"en": f"One of many, turn {self.turn()}"}
        return [{**_nothing_known(f"{prefix}-{number}"), "name": name} for number in range(count)]

    def delete_item(self, code: str) -> None:
        self.world.call("DELETE", f"/v1/items/{code}", fine=[404])
        self.put.pop(code, None)

    def subscribe(self, receiver: str, *event_types: str) -> None:
        """Only one webhook stays, whatever the calls that were not answered have created."""
        url = f"{self.receivers}/{receiver}"
        webhook = self.world.call("POST", "/v1/webhooks", {"url": url, "event_types": list(event_types)})
        for other in self.world.call("GET", "/v1/webhooks?limit=500")["data"]:
            if other["url"] == url and other["id"] != webhook["id"]:
                self.world.call("DELETE", f"/v1/webhooks/{other['id']}", fine=[404])
        self.tell_receiver(receiver, secrets=[webhook["secret"]])
        self.webhook_ids[receiver] = webhook["id"]

    def unsubscribe(self, receiver: str) -> None:
        self.world.call("DELETE", f"/v1/webhooks/{self.webhook_ids.pop(receiver)}", fine=[404])

    def tell_receiver(self, receiver: str, **wishes: Any) -> None:
        httpx.put(f"{self.receivers}/{receiver}/settings", json=wishes, trust_env=False).raise_for_status()


def _nothing_known(code: str) -> dict[str, Any]:
    unknown = {"family_code": None, "unit": None, "vat_tariff": None}
    return {"code": code, **unknown, "attributes": {}} | {
        name: [] for name in ("units", "images", "attachments", "stocks", "restock_orders")
    }


# the flow and its deliveries: jobs and functions die


def import_everything(scene: Scene) -> None:
    """The long import: whatever happens while it goes on, it is one run."""
    run = scene.run()
    for number in range(1, 40):
        scene.put_item(f"API-{number}", f"Put while the import goes on, {number}")
    scene.succeeds(run)


def change_some(scene: Scene) -> None:
    source = scene.source
    source.change(source.some(40))
    source.add(3)
    source.remove(source.some(2, skip=100))
    for number in range(1, 6):
        scene.put_item(f"API-{number}", f"Put anew, turn {scene.turn()}")
    scene.run()
    scene.settle()


def change_named(scene: Scene) -> None:
    codes = scene.source.some(30)
    scene.source.change(codes)
    scene.run("ItemSelectiveSync", codes=codes)
    scene.settle()


def read_again(scene: Scene) -> None:
    """A complete read; and what the source removed goes with a person's confirmation."""
    scene.source.remove(scene.source.some(15))
    scene.run(complete=True, confirm_deletions=True)
    scene.settle()


def refuse_some(scene: Scene) -> None:
    """Records come into quarantine, are tried again, and leave it."""
    codes = scene.source.some(2)
    for code in codes:
        scene.source.put_twin(code)
    scene.run()
    scene.settle()
    scene.world.call("POST", "/v1/flows/item/quarantine:retry", {"keys": None})
    scene.run()
    scene.settle()
    for code in codes:
        scene.source.remove_twin(code)
    scene.run()
    scene.settle()


def change_the_flow(scene: Scene) -> None:
    """A flow of another version builds all of its records again."""
    guard = {"floor": 20_000 + scene.turn(), "ratio": "0.5"}
    scene.world.call("PUT", "/v1/flows/item", {"connection_id": scene.connection, "guard": guard})
    scene.run()
    scene.settle()


def renew_the_token(scene: Scene) -> None:
    """The access token has to be renewed, as the mark of a process says that died while it did so."""
    scene.source.let_pass(timedelta(minutes=10))
    with scene.world.platform.writing("tenant") as connection:
        connection.execute(update(connections).values(refreshing_since=datetime.now(UTC)))
    scene.source.change(scene.source.some(3))
    scene.run()
    scene.settle()


def read_slowly(scene: Scene) -> None:
    """So slowly that locks and leases have to be renewed."""
    scene.source.play({"match": ITEMS_READ, "do": "slow", "seconds": 17, "nth": 1})
    scene.source.change(scene.source.some(3))
    scene.run()
    scene.settle()
    scene.source.calm_down()


def ask_to_end(scene: Scene) -> None:
    """A process at work is asked to end, and gives its run and its message back."""
    scene.source.play({"match": ITEMS_READ, "do": "slow", "seconds": 3, "nth": "every", "every": 1})
    scene.source.change(scene.source.some(3))
    run = scene.run()
    scene.world.until(lambda: bool(scene.world.jobs_at_work()), "the run is at work")
    for pid in scene.world.jobs_at_work():
        os.kill(pid, signal.SIGTERM)
    scene.source.calm_down()
    scene.succeeds(run)


def be_busy(scene: Scene) -> None:
    """A second run finds the flow busy, waits, and is woken by the first."""
    scene.source.play({"match": ITEMS_READ, "do": "slow", "seconds": 4, "nth": "every", "every": 1})
    scene.source.change(scene.source.some(3))
    scene.run()
    scene.world.until(lambda: bool(scene.world.jobs_at_work()), "the first run is at work")
    scene.run("ItemSelectiveSync", codes=scene.source.some(2))
    second = scene.world.platform.start(
        "tests.end_to_end.killed", JOBS, "ordersync_jobs", log=JOBS
    )  # fmt: skip
    scene.world.until(lambda: second.poll() is not None, "the second run has found the flow busy")
    scene.source.calm_down()
    scene.settle()


def fail_for_now(scene: Scene) -> None:
    """The source is away for three tries of one call: the run waits, and goes on."""
    scene.source.play({"match": ITEMS_READ, "do": "status", "status": 503, "nth": 1, "times": 3})
    scene.source.change(scene.source.some(3))
    scene.run()
    scene.settle()
    scene.source.calm_down()


def cancel_at_work(scene: Scene) -> None:
    scene.source.play({"match": ITEMS_READ, "do": "slow", "seconds": 3, "nth": "every", "every": 1})
    run = scene.run()
    scene.world.until(lambda: bool(scene.world.jobs_at_work()), "the run is at work")
    scene.world.call("POST", f"/v1/job-runs/{run}:cancel", {}, fine=[409])
    scene.source.calm_down()
    scene.settle()


IMPORTING: Sequence[Act] = (
    change_some,
    change_named,
    read_again,
    refuse_some,
    change_the_flow,
    renew_the_token,
    read_slowly,
    ask_to_end,
    be_busy,
    fail_for_now,
    cancel_at_work,
)


# what is given up, and tried again


def fail_at_the_receiver(scene: Scene) -> None:
    """A receiver fails: its breaker opens, deliveries use up their attempts, and are resubmitted once it is well."""
    scene.subscribe("trouble", "*")
    scene.tell_receiver("trouble", fail=1_000_000)
    for number in range(1, 15):
        scene.put_item(f"API-{number}", f"Nobody takes it, turn {scene.turn()}")
    scene.world.until(lambda: dead_letters_in(scene, WEBHOOKS) > 0, "a delivery is given up")
    scene.tell_receiver("trouble", fail=0)
    resubmit_all(scene)
    scene.settle()
    scene.unsubscribe("trouble")


def kill_with_a_message(scene: Scene) -> None:
    """An event and a run each kill three processes, are given up (who does that dies too), and are resubmitted."""
    world = scene.world
    scene.source.change(scene.source.some(1))
    with _dying(world, JOBS, "before source.pages", *_around("queued-jobs.dead_letter")):
        scene.run()
        world.until(lambda: dead_letters_in(scene, QUEUED_JOBS) > 0, "a run is given up that kills its processes")
    resubmit_all(scene)
    scene.settle()
    with _dying(world, FUNCTIONS, "before processed", *_around("outbox.handled"), *_around("events.dead_letter")):
        scene.put_item("API-1", f"It kills, turn {scene.turn()}")
        world.until(lambda: dead_letters_in(scene, EVENTS) > 0, "an event is given up that kills its processes")
    resubmit_all(scene)
    scene.settle()


@contextmanager
def _dying(world: World, name: str, *points: str) -> Iterator[None]:
    """Within the block each process of that name dies at the first of the points, and at each of the others once."""
    world.always[name] = points
    world.set_trap(name)
    try:
        yield
    finally:
        del world.always[name]
        world.platform.traps.take_away(name)


def _around(call: str) -> tuple[str, str]:
    return f"before {call}", f"after {call}"


def dead_letters_in(scene: Scene, queue: str) -> int:
    with scene.world.platform.reading("queues") as connection:
        found = connection.execute(select(dead_letters.c.id).where(dead_letters.c.queue == queue)).all()
        return len(found)


def resubmit_all(scene: Scene) -> None:
    """Until none is left: one that is given up meanwhile is resubmitted too."""
    deadline = time.monotonic() + 120
    while scene.world.dead_letters() and time.monotonic() < deadline:
        scene.world.cli("dead-letters", "resubmit", "--all")
        scene.world.step()


GIVING_UP: Sequence[Act] = (fail_at_the_receiver, kill_with_a_message)


# what people do: API and command line die


def by_api(scene: Scene) -> None:
    """Every operation of the API that writes; those of a webhook on one that takes part in nothing else."""
    call, turn = scene.world.call, scene.turn()
    scene.put_item("API-A", f"Put, turn {turn}")
    call("PATCH", "/v1/items/API-A", {"name": {"en": f"Patched, turn {turn}"}})
    scene.put["API-A"]["name"] = {"en": f"Patched, turn {turn}"}
    scene.delete_item("API-A")
    scene.put_many("BULK", 700)

    scene.subscribe("trouble", "*")
    webhook = f"/v1/webhooks/{scene.webhook_ids['trouble']}"
    scene.put_item("API-B", f"For the side webhook, turn {turn}")
    scene.settle()
    secret = call("POST", f"{webhook}:rotate-secret", {})["secret"]
    scene.tell_receiver("trouble", secrets=[secret])
    call("POST", f"{webhook}:replay", {"after": scene.world.platform.numbers()[-1] - 3})
    delivery = call("GET", f"{webhook}/deliveries?limit=1")["data"][0]
    call("POST", f"/v1/deliveries/{delivery['id']}:redeliver", {})
    call("POST", f"{webhook}:disable", {})
    scene.put_item("API-B", f"While it is disabled, turn {turn}")
    call("POST", f"{webhook}:enable", {"backlog": "send_parked"})
    call("POST", f"{webhook}:disable", {})
    call("POST", f"{webhook}:enable", {"backlog": "cancel_parked"})
    scene.settle()
    scene.unsubscribe("trouble")

    described = {"host": scene.source.url, "division": 1, "client_id": "nobody"}
    connection = call(
        "POST",
        "/v1/connections",
        {"connector": "exact_online", "name": "side", "settings": described, "secret_settings": {"client_secret": "x"}},
    )
    callback = f"http://127.0.0.1:{scene.world.platform.functions_port}/api/complete-authorisation"
    call("POST", f"/v1/connections/{connection['id']}:authorise", {"redirect_uri": callback})
    for other in call("GET", "/v1/connections")["data"]:
        if other["name"] == "side":
            call("DELETE", f"/v1/connections/{other['id']}", fine=[404])

    guard = {"floor": 30_000 + turn, "ratio": "0.5"}
    call("PUT", "/v1/flows/item", {"connection_id": scene.connection, "guard": guard})
    call("POST", "/v1/flows/item/quarantine:retry", {"keys": None})
    run = scene.run()
    call("POST", f"/v1/job-runs/{run}:cancel", {}, fine=[409])
    call("POST", "/v1/job-definitions", {"type": "ItemSync", "cron": "0 0 1 1 *", "time_zone": "UTC"})
    for definition in call("GET", "/v1/job-definitions")["data"]:
        call("DELETE", f"/v1/job-definitions/{definition['id']}", fine=[404])
    scene.settle()


def by_command_line(scene: Scene) -> None:
    """What only the command line does."""
    cli, turn = scene.world.cli, scene.turn()
    cli("administrations", "create", f"{SCRATCH}-{turn}")
    cli("db", "upgrade")
    cli("identities", "grant", "somebody", "-a", CODE)
    while True:
        try:
            scene.world.cli_once("identities", "revoke", "somebody", "-a", CODE)
            break
        except Killed:
            scene.world.step()
            cli("identities", "grant", "somebody", "-a", CODE)


def schedule(scene: Scene) -> None:
    """A scheduled job comes due: exactly one run for the moment."""
    call = scene.world.call
    definition = call("POST", "/v1/job-definitions", {"type": "ItemSync", "cron": "* * * * *", "time_zone": "UTC"})
    due = datetime.now(UTC).replace(microsecond=0, second=0)
    scene.world.make_due(definition["id"], due)
    scene.world.until(lambda: scene.world.runs_of(definition["id"]) > 0, "the run of the schedule is there")
    for each in call("GET", "/v1/job-definitions")["data"]:
        call("DELETE", f"/v1/job-definitions/{each['id']}", fine=[404])
    scene.settle()


def purge(scene: Scene) -> None:
    """Dead letters past their days go: those of a tenant that is gone, so that nobody misses them."""
    long_ago = datetime.now(UTC) - LONG_PAST
    body = encode(_of_the_past(long_ago))
    with scene.world.platform.writing("queues") as connection:
        for queue in QUEUES:
            connection.execute(
                dead_letters.insert().values(
                    queue=queue,
                    send_id="past",
                    group_name="gone",
                    body=body,
                    reason="Past",
                    description="of long ago",
                    dead_at=long_ago,
                    deliveries=1,
                )
            )
    scene.world.once("housekeeping")
    assert scene.world.dead_letters() == 0


def _of_the_past(at: datetime) -> Envelope:
    return Envelope(
        id=uuid4(),
        type="item.created",
        administration="gone",
        occurred_at=at,
        triggered_by="somebody",
        correlation_id="past",
        body={},
    )


OPERATING: Mapping[Act, tuple[str, ...]] = {
    by_api: (API,),
    by_command_line: (ADMIN,),
    schedule: (FUNCTIONS,),
    purge: (ONCE,),
}


# how it begins


def set_up(scene: Scene) -> None:
    """Connection, a person's consent, flow and webhooks; the consent again and again until nobody dies over it."""
    world = scene.world
    settings = {"host": scene.source.url, "division": 1, "client_id": "6f1f2b5e-3c1d-4a7e-9b52-0d7a4f6c1e01"}
    body = {
        "connector": "exact_online",
        "name": "Exact Online",
        "settings": settings,
        "secret_settings": {"client_secret": "sandbox-secret"},
    }
    scene.connection = world.call("POST", "/v1/connections", body)["id"]
    while True:
        before = world.points_hit(FUNCTIONS)
        consent(scene)
        if world.points_hit(FUNCTIONS) == before:
            break
    world.call("PUT", "/v1/flows/item", {"connection_id": scene.connection})
    scene.subscribe("everything", "*")
    scene.subscribe("updates", "item.updated")


def consent(scene: Scene) -> None:
    """As a person does who begins again whenever it went wrong."""
    world = scene.world
    callback = f"http://127.0.0.1:{world.platform.functions_port}/api/complete-authorisation"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        path = f"/v1/connections/{scene.connection}"
        url = world.call("POST", f"{path}:authorise", {"redirect_uri": callback})["url"]
        try:
            answered = httpx.get(url, follow_redirects=True, timeout=30, trust_env=False).status_code == 200
        except httpx.TransportError:
            answered = False
        if answered and world.call("GET", path)["state"] == "Connected":
            return
        world.step()
        time.sleep(0.2)
    raise AssertionError("nobody could consent")


def until_nothing_new(scene: Scene, act: Act, *names: str) -> None:
    """Play the act again and again, until nobody dies at a new point in it."""
    world = scene.world
    with world.arming(*names):
        while True:
            before = world.places_of_death()
            act(scene)
            if world.places_of_death() == before:
                return
