"""The scenario that is run unless another is given: the whole system at work, then at rest, then looked at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from random import Random
from typing import Final
from unittest.mock import patch
from uuid import UUID

from attrs import define

from ordersync_core.connections.commands import BeginAuthorisation, CompleteAuthorisation, CreateConnection
from ordersync_core.connections.handlers import (
    begin_authorisation,
    create_connection,
    store_authorisation,
    take_authorisation_state,
)
from ordersync_core.connections.model import ConnectionState
from ordersync_core.dispatch import resubmit
from ordersync_core.flows.commands import SetUpFlow
from ordersync_core.flows.handlers import running
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.items.commands import DeleteItem, PutItem
from ordersync_core.items.handlers import delete_item, put_item
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.jobs.commands import CreateJobDefinition, StartRun
from ordersync_core.jobs.handlers import create_job_definition, start_run
from ordersync_core.jobs.model import JobType
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import NotFound
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging import handlers as messaging_handlers
from ordersync_core.messaging.envelope import QUEUED_JOBS, QUEUES
from ordersync_core.testing.memory.connections import CONNECTIONS
from ordersync_core.testing.memory.webhooks import DELIVERIES, WEBHOOKS
from ordersync_core.testing.simulation import rest, shells
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.outside import CONNECTOR
from ordersync_core.testing.simulation.process import Process
from ordersync_core.testing.simulation.world import World
from ordersync_core.webhooks import health
from ordersync_core.webhooks.commands import Backlog, CreateWebhook, DisableWebhook, EnableWebhook, Redeliver
from ordersync_core.webhooks.handlers.again import redeliver
from ordersync_core.webhooks.handlers.subscriptions import create_webhook, disable_webhook, enable_webhook
from ordersync_core.webhooks.model import EventTypePattern, WebhookState

ALPHA: Final = "alpha"
BETA: Final = "beta"
EVERYTHING: Final = "https://everything.example/hook"
UPDATES: Final = "https://updates.example/hook"
OF_BETA: Final = "https://beta.example/hook"

ROWS: Final = 9
MOST_STEPS: Final = 400_000
BUSY: Final = timedelta(minutes=30)
COMES_TO_REST_WITHIN: Final = timedelta(hours=12)
QUIET_LOOKS: Final = 2
LOOKED_AT: Final = timedelta(seconds=20)


@contextmanager
def small_numbers() -> Iterator[None]:
    """A handful of rows is to be several transactions, and a handful of failures to open a breaker."""
    with (
        patch.object(running, "BATCH", 4),
        patch.object(messaging_handlers, "BATCH", 5),
        patch.object(health, "OPENS_AT", 3),
    ):
        yield


@small_numbers()
def whole_system(world: World) -> None:
    """Raises Broken when a promise does not hold."""
    system = _System(world)
    system.set_up()
    system.start()
    world.scheduler.run(lambda: system.is_idle(BUSY), most_steps=MOST_STEPS)
    world.calm = True
    system.come_to_rest()
    rest.check(world, (ALPHA, BETA))


@define(eq=False)
class _System:
    world: World
    pending: int = 0
    """People and others who still have something to ask for."""

    quiet_looks: int = 0
    """How many looks in a row found nothing under way."""

    def set_up(self) -> None:
        """Before anything goes wrong: administrations, webhooks, a flow with its source, a schedule."""
        application = self.world.process("set-up").application
        self.world.processes.clear()
        for code in (ALPHA, BETA):
            self.world.databases.add_tenant(code)
        for administration, url, types in (
            (ALPHA, EVERYTHING, "*"),
            (ALPHA, UPDATES, "item.updated"),
            (BETA, OF_BETA, "*"),
        ):
            command = CreateWebhook(url=url, event_types=(EventTypePattern(types),))
            _, secret = application.run(create_webhook, command, _as_of("set-up", administration))
            self.world.endpoint(url).secrets.append(secret)
        context = _as_of("set-up", ALPHA)
        for number in range(ROWS):
            self.world.catalogue.put(f"key-{number}", f"S-{number}", f"Item {number}")
        connection = application.run(
            create_connection, CreateConnection(connector=CONNECTOR, name="Source", settings={}), context
        )
        _consent(application, connection.id)
        application.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id), context)
        definition = CreateJobDefinition(type=JobType.ITEM_SYNC, cron="*/10 * * * *", time_zone="Europe/Amsterdam")
        application.run(create_job_definition, definition, context)

    def start(self) -> None:
        world = self.world
        for name in ("functions-a", "functions-b"):
            world.keep_running(
                name, self._publish, shells.schedule_jobs, shells.consume_events, shells.deliver_webhooks
            )
        for name in ("job-a", "job-b"):
            world.keep_running(name, self._work_on_jobs)
        for name, administration in (("api-a", ALPHA), ("api-b", ALPHA), ("api-c", BETA)):
            self._start_client(name, administration)
        self._start_client("operator", ALPHA)
        world.scheduler.start("catalogue", self._change_catalogue)

    def is_idle(self, at_least: timedelta) -> bool:
        return self.pending == 0 and self.world.scheduler.now - self.world.began >= at_least

    def come_to_rest(self) -> None:
        world, operator = self.world, self.world.process("operator at rest")
        for endpoint in world.endpoints.values():
            endpoint.outages.clear()
        until = world.scheduler.now + COMES_TO_REST_WITHIN
        operator.start("looks after it", lambda: self._look_after(operator))
        world.scheduler.run(self._is_at_rest_or_after(until), most_steps=MOST_STEPS)
        if self.quiet_looks < QUIET_LOOKS:
            raise Broken("P1", f"it does not come to rest: {rest.what_waits(world, (ALPHA, BETA))}")

    def _is_at_rest_or_after(self, moment: datetime) -> Callable[[], bool]:
        return lambda: self.quiet_looks >= QUIET_LOOKS or self.world.scheduler.now > moment

    def _look_after(self, operator: Process) -> None:
        application = operator.application
        command = StartRun(type=JobType.ITEM_SYNC)
        shells.patiently(operator, lambda: application.run(start_run, command, _as_of("operator", ALPHA)))
        while self.quiet_looks < QUIET_LOOKS:
            shells.patiently(operator, lambda: self._mend(application))
            self.world.scheduler.sleep(LOOKED_AT)
            self.quiet_looks = self.quiet_looks + 1 if rest.is_quiet(self.world, (ALPHA, BETA)) else 0

    def _mend(self, application: Application) -> None:
        """What a person does about what needs one: consent anew, webhooks enabled, dead letters resubmitted."""
        for connection in self.world.databases.tenants.of(ALPHA).rows(CONNECTIONS).values():
            if connection.state is ConnectionState.NEEDS_CONSENT:
                _consent(application, connection.id)
        for code in (ALPHA, BETA):
            for webhook in self.world.databases.tenants.of(code).rows(WEBHOOKS).values():
                if webhook.state is WebhookState.DISABLED:
                    command = EnableWebhook(id=webhook.id, backlog=Backlog.SEND_PARKED)
                    application.run(enable_webhook, command, _as_of("operator", code))
        for name in QUEUES:
            for letter in self.world.queues[name].dead_letters():
                resubmit(application, name, letter.id, _as_of("operator", None))

    def _publish(self, process: Process) -> None:
        shells.publish_outbox(process, (ALPHA, BETA), lambda: self.world.is_anybody_due(process))

    def _work_on_jobs(self, process: Process) -> None:
        queue = self.world.queues[QUEUED_JOBS]
        process.interruptible = True
        while not process.stopping:
            if not shells.run_one_job(process, process.name):
                process.wait(lambda: queue.depth().ready > 0, timedelta(minutes=10))

    def _start_client(self, name: str, administration: str) -> None:
        """Somebody who asks the platform for one thing after the other; each is asked of a process that may die."""
        self.pending += 1
        random = Random(f"{name}:{self.world.seed}")
        deed = self._operate if name == "operator" else self._write

        def ask() -> None:
            for _ in range(random.randint(3, 9)):
                self.world.scheduler.sleep(timedelta(seconds=random.expovariate(1 / 60)))
                self._ask(name, administration, random, deed)
            self.pending -= 1

        self.world.scheduler.start(f"{name} client", ask)

    def _ask(self, name: str, administration: str, random: Random, deed: Callable[..., None]) -> None:
        process = self.world.process(name)
        process.start("request", lambda: deed(process.application, _as_of(name, administration), random))
        self.world.outlive(process)

    def _write(self, application: Application, context: Context, random: Random) -> None:
        """One change, or several of one item so soon after each other that they are told as one."""
        code = ItemCode(f"A-{random.randint(1, 3)}")
        for _ in range(random.choice((1, 1, 2, 4))):
            if random.random() < 0.35:
                with suppress(NotFound):
                    application.run(delete_item, DeleteItem(code=code), context)
            else:
                name = localised_text({"en": f"Name {random.randint(1, 5)}"})
                application.run(put_item, PutItem(item=Item(code=code, name=name)), context)

    def _operate(self, application: Application, context: Context, random: Random) -> None:
        tenant = self.world.databases.tenants.of(context.administration)
        deed = random.randint(0, 5)
        if deed == 0:
            webhook = random.choice(sorted(tenant.rows(WEBHOOKS)))
            application.run(disable_webhook, DisableWebhook(id=webhook), context)
        elif deed == 1:
            for id in sorted(tenant.rows(WEBHOOKS)):
                application.run(enable_webhook, EnableWebhook(id=id), context)
        elif deed == 2 and (deliveries := sorted(tenant.rows(DELIVERIES))):
            application.run(redeliver, Redeliver(id=random.choice(deliveries)), context)
        elif deed == 3:
            codes = sorted({f"S-{random.randint(0, ROWS)}" for _ in range(2)})
            command = StartRun(type=JobType.ITEM_SELECTIVE_SYNC, parameters={"codes": codes})
            application.run(start_run, command, context)
        elif deed == 4:
            command = StartRun(type=JobType.ITEM_SYNC, parameters={"complete": random.random() < 0.5})
            application.run(start_run, command, context)
        else:
            for name in QUEUES:
                for letter in self.world.queues[name].dead_letters():
                    resubmit(application, name, letter.id, context)

    def _change_catalogue(self) -> None:
        random = self.world.random
        self.pending += 1
        for _ in range(random.randint(4, 14)):
            self.world.scheduler.sleep(timedelta(seconds=random.expovariate(1 / 90)))
            number = random.randint(0, ROWS + 2)
            if random.random() < 0.2:
                self.world.catalogue.delete(f"key-{number}")
            else:
                name = None if random.random() < 0.1 else f"Item {number}, {random.randint(1, 99)}"
                self.world.catalogue.put(f"key-{number}", f"S-{number}", name)
        self.pending -= 1


def _consent(application: Application, connection_id: UUID) -> None:
    context = _as_of("operator", ALPHA)
    begin = BeginAuthorisation(connection_id=connection_id, redirect_uri="https://here.example/callback")
    url = application.run(begin_authorisation, begin, context)
    answer = CompleteAuthorisation(state=UUID(url.partition("state=")[2]), code="consented")
    state = application.run(take_authorisation_state, answer, _as_of("operator", None))
    application.run(store_authorisation, (state, answer.code), context)


def _as_of(who: str, administration: str | None) -> Context:
    return Context(administration=administration, triggered_by=who, correlation_id=who)
