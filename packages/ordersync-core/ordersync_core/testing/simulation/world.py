"""The whole system in one process: several processes of the platform, the databases and queues between them, the world
outside, and a plan of what goes wrong."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from attrs import define, field

from ordersync_core.connections.ports import Connectors
from ordersync_core.flows.ports import Mappings
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import ChangedMeanwhile, PermanentFailure, TemporaryFailure
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.secrets import Secrets
from ordersync_core.messaging.commands import Wake
from ordersync_core.messaging.envelope import QUEUES, WEBHOOKS
from ordersync_core.messaging.handlers import wake
from ordersync_core.messaging.queue import Queues
from ordersync_core.testing.clocks import SteppingIds
from ordersync_core.testing.memory import MemoryDatabases, MemorySecrets
from ordersync_core.testing.memory.locks import BOUND, Locks
from ordersync_core.testing.memory.transaction import MemoryDatabase
from ordersync_core.testing.memory.wake import WAKE
from ordersync_core.testing.memory_queue import MemoryQueues
from ordersync_core.testing.simulation.deliveries import Deliveries
from ordersync_core.testing.simulation.faults import ANYWHERE, Fault, Kind, endpoint_point
from ordersync_core.testing.simulation.invariants import Written, check_commit
from ordersync_core.testing.simulation.monitors import Claims, MonitoredQueues
from ordersync_core.testing.simulation.outside import (
    AuthorisationServer,
    Catalogue,
    CatalogueConnector,
    Endpoint,
    Network,
    Outage,
)
from ordersync_core.testing.simulation.process import Process
from ordersync_core.testing.simulation.scheduler import BEGINNING, Scheduler
from ordersync_core.webhooks.ports import RetryPolicy, TargetPolicy, WebhookRequest, WebhookSender

DELAYS: Final = tuple(timedelta(seconds=seconds) for seconds in (20, 90, 300))
RESTARTED_WITHIN: Final = 20.0
LONGEST_LOOK_AWAY: Final = 0.1
KILLED_AFTER: Final = timedelta(seconds=30)


@define(eq=False)
class World:
    """A scenario sets it up, lets it run, and looks at what came of it.

    plan: what goes wrong. visits: how often each point was reached. met: the faults that happened, in which process,
        at which point.
    """

    seed: int
    plan: Sequence[Fault] = ()
    scheduler: Scheduler = field(init=False)
    random: Random = field(init=False)
    databases: MemoryDatabases = field(init=False)
    queues: MemoryQueues = field(init=False)
    catalogue: Catalogue = field(factory=Catalogue)
    authorisation: AuthorisationServer = field(init=False)
    endpoints: dict[str, Endpoint] = field(factory=dict)
    processes: list[Process] = field(factory=list)
    visits: Counter[str] = field(factory=Counter)
    met: list[tuple[Fault, str, str]] = field(factory=list)
    stopped: int = 0
    """How many processes were asked to end and did, in good order."""

    calm: bool = False
    """Nothing goes wrong any more."""

    began: datetime = BEGINNING
    claims: Claims = field(init=False)
    deliveries: Deliveries = field(init=False)
    _shared: dict[Any, Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.scheduler = Scheduler(self.seed)
        self.random = Random(f"world:{self.seed}")
        clock, ids = _TrueClock(self.scheduler), SteppingIds(start=1 << 20)
        one_writer = self.random.random() < 0.5
        locks = Locks(
            wait=self._look_again_and_again if one_writer else lambda free: self.scheduler.wait(free, BOUND),
            pause=lambda _: self.scheduler.give_way(),
            in_turn=not one_writer,
        )
        self.databases = MemoryDatabases(
            clock,
            ids,
            self._hint,
            one_writer=one_writer,
            locks=locks,
            observe=self._committed,
        )
        self.queues = MemoryQueues(clock)
        self.claims = Claims(self.scheduler)
        jumps = sum(abs(fault.seconds) for fault in self.plan if fault.kind is Kind.CLOCK)
        self.deliveries = Deliveries(DELAYS, timedelta(seconds=jumps))
        self.authorisation = AuthorisationServer(self.scheduler)
        connector = CatalogueConnector(self.catalogue, self.authorisation, self.scheduler, self.random)
        network = Network(self.endpoints, self.scheduler, self.random, self._sent)
        self._shared = {
            Ids: ids,
            Secrets: MemorySecrets(),
            WebhookSender: network,
            TargetPolicy: network,
            RetryPolicy: RetryPolicy(delays=DELAYS),
            Connectors: connector,
            Mappings: connector,
        }

    def provide(self, port: Any, adapter: Any) -> None:
        """Another adapter, or one of a port of your own, for processes that are made from now on."""
        self._shared[port] = adapter

    def endpoint(self, url: str) -> Endpoint:
        endpoint = self.endpoints[url] = Endpoint(url)
        for fault in self.plan:
            if fault.kind is Kind.OUTAGE and fault.point == endpoint_point(len(self.endpoints)):
                begins = BEGINNING + timedelta(seconds=fault.visit)
                hangs = self.random.random() < 0.3
                endpoint.outages.append(Outage(begins, begins + timedelta(seconds=fault.seconds), hangs))
        return endpoint

    def process(self, name: str) -> Process:
        """A process that does nothing yet."""
        queues = MonitoredQueues(self.queues, self.claims)
        process = Process(name, self.scheduler, self.databases, {**self._shared, Queues: queues}, self._reach)
        queues.process = process
        self.processes.append(process)
        return process

    def keep_running(self, name: str, *strands: Callable[[Process], None]) -> None:
        """A process whose strands go on for ever; whenever it dies it is started again after a while."""

        def supervise() -> None:
            lives = 0
            while True:
                lives += 1
                process = self.process(f"{name}:{lives}")
                for strand in strands:
                    process.start(strand.__name__, _bound(strand, process))
                self.outlive(process)
                self.scheduler.sleep(timedelta(seconds=0 if self.calm else self.random.random() * RESTARTED_WITHIN))

        self.scheduler.start(f"{name} supervisor", supervise)

    def outlive(self, process: Process) -> None:
        """Until all its strands have ended. One that was asked to end and does not is killed after a while."""

        def is_over() -> bool:
            return not process.lives or not process.actors

        self.scheduler.wait(lambda: is_over() or process.stopping, timedelta(days=365))
        self.scheduler.wait(is_over, KILLED_AFTER)
        if process.stopping and process.lives and is_over():
            self.claims.stopped(process)
            self.stopped += 1
        process.end()
        self.processes.remove(process)

    def end(self) -> None:
        """To be called when it has been looked at."""
        for process in list(self.processes):
            process.end()
        self.scheduler.end()

    def is_anybody_due(self, process: Process) -> bool:
        """By the clock of that process."""
        return any(moment <= process.clock.now() for moment in self.databases.admin.rows(WAKE).values())

    def _look_again_and_again(self, taken: Callable[[], bool]) -> bool:
        """As SQLite waits for its one writer: whoever comes between two looks is first."""
        until = self.scheduler.now + BOUND
        while not taken():
            if self.scheduler.now >= until:
                return False
            self.scheduler.sleep(timedelta(seconds=self.random.random() * LONGEST_LOOK_AWAY))
        return True

    def _hint(self, administration: str) -> None:
        """What a background thread of the committing process does."""
        process = self._current()
        if process is not None:
            context = Context(administration=None, triggered_by="hint", correlation_id="hint")
            command = Wake(administration=administration, at=process.clock.now())
            process.start("hint", lambda: _suppressing(lambda: process.application.run(wake, command, context)))

    def _current(self) -> Process | None:
        """Whose strand has the baton; None for one that belongs to no process."""
        return next((process for process in self.processes if self.scheduler.current in process.actors), None)

    def _committed(self, database: MemoryDatabase, written: Written) -> None:
        check_commit(database, written)
        self.deliveries.committed(database, written, self.scheduler.now)

    def _sent(self, request: WebhookRequest, accepted: bool) -> None:
        database = self.databases.tenants.of(request.headers["X-Administration-Code"])
        now, process = self.scheduler.now, self._current()
        taken_up = now if process is None else self.claims.latest.get((WEBHOOKS, process), now)
        self.deliveries.sent(database, request, taken_up=taken_up, at=now)
        if accepted:
            self.deliveries.accepted.add(request.delivery_id)

    def _reach(self, process: Process, point: str) -> None:
        self.visits[point] += 1
        self.visits[ANYWHERE] += 1
        if self.calm:
            return
        for fault in self.plan:
            if (
                fault.kind is not Kind.OUTAGE
                and fault.visit == self.visits[fault.point]
                and (fault.point in (point, ANYWHERE))
            ):
                self.met.append((fault, process.name, point))
                process.touched += fault.kind is not Kind.STOP
                self._happen(fault, process, point)

    def _happen(self, fault: Fault, process: Process, point: str) -> None:
        match fault.kind:
            case Kind.CRASH:
                process.crash()
            case Kind.STOP:
                process.stopping = True
            case Kind.PAUSE:
                process.pause(timedelta(seconds=fault.seconds))
            case Kind.CLOCK:
                process.skew += timedelta(seconds=fault.seconds)
            case Kind.FAIL:
                if "sender" not in point:  # it never raises
                    raise TemporaryFailure(f"simulated: {fault}")
            case Kind.DEFECT:
                if "sender" not in point:
                    raise PermanentFailure(f"simulated: {fault}")
            case Kind.CLASH:
                raise ChangedMeanwhile(f"simulated: {fault}")
            case _:
                self._disturb(self.random.choice(QUEUES), fault)

    def _disturb(self, name: str, fault: Fault) -> None:
        queue = self.queues[name]
        messages = []
        while claims := queue.claim():
            messages += [claim.message for claim in claims]
            queue.complete(claims)
        match fault.kind:
            case Kind.DUPLICATE:
                queue.send(messages * self.random.choice((2, 3, 10)))
            case Kind.SHUFFLE:
                self.random.shuffle(messages)
                queue.send(messages)
            case Kind.DELAY:

                def bring() -> None:
                    self.scheduler.sleep(timedelta(seconds=fault.seconds))
                    queue.send(messages)

                self.scheduler.start(f"{name} delayed", bring)
            case _:
                pass


@define(eq=False)
class _TrueClock:
    scheduler: Scheduler

    def now(self) -> Any:
        return self.scheduler.now


def _bound(strand: Callable[[Process], None], process: Process) -> Callable[[], None]:
    return lambda: strand(process)


def _suppressing(work: Callable[[], object]) -> None:
    with suppress(Exception):
        work()
