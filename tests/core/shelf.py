"""An administration whose item flow reads a shelf, as job processes see it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ordersync_core.connections.commands import CreateConnection
from ordersync_core.connections.handlers import create_connection
from ordersync_core.connections.model import TokenSet
from ordersync_core.connections.ports import (
    ConnectorDescription,
    Connectors,
    OpenConnection,
    SourcePage,
    SourceRecord,
)
from ordersync_core.dispatch import run_job, start_command
from ordersync_core.flows.commands import SetUpFlow
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.flows.ports import ItemMapping, Mappings
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.jobs.commands import SendOwedRuns
from ordersync_core.jobs.handlers import send_owed_runs, start_run
from ordersync_core.jobs.model import JobRun
from ordersync_core.kernel.errors import (
    NotFound,
)
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.envelope import QUEUED_JOBS
from ordersync_core.messaging.queue import Message
from ordersync_core.testing.contracts.databases import ALPHA, context, open_tenant
from ordersync_core.testing.contracts.examples import CONNECTOR, new_id
from tests.core.webhooks.subscriber import Subscriber

FLOW = "flow:item"


class Shelf:
    """A connector whose external system is a dictionary: item codes and names.

    before_page: what happens just before each page is handed out; it may raise what a source raises.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.before_page: Callable[[int], None] = lambda number: None
        self.read: list[str] = []

    description = ConnectorDescription(
        name=CONNECTOR, title="A shelf", settings_schema={}, secrets_schema={}, entities={"item": ("name",)}
    )

    def check(self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any]) -> None:
        pass

    def consent_url(
        self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any], *, state: str, redirect_uri: str
    ) -> str:
        raise NotFound("a shelf asks nobody for consent")

    def exchange(
        self,
        settings: Mapping[str, Any],
        secret_settings: Mapping[str, Any],
        *,
        code: str,
        redirect_uri: str,
        now: datetime,
    ) -> TokenSet:
        raise NotFound("a shelf asks nobody for consent")

    def refresh(
        self, settings: Mapping[str, Any], secret_settings: Mapping[str, Any], *, tokens: TokenSet, now: datetime
    ) -> TokenSet:
        raise NotFound("a shelf gives no tokens")

    def source(self, entity: str, connection: OpenConnection) -> "Shelf":
        return self

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        self.read.append("all" if cursor is None else "changes")
        return self._pages(sorted(self.names))

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        self.read.append(",".join(codes))
        return self._pages([code for code in codes if code in self.names])

    def _pages(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        for number, code in enumerate(codes):
            self.before_page(number)
            record = SourceRecord.of(key=code, version=None, raw={"code": code, "name": self.names[code]})
            yield SourcePage(records=[record], cursor={"after": code})


class OneShelf:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def __getitem__(self, name: str) -> Shelf:
        return {CONNECTOR: self._shelf}[name]

    def names(self) -> Sequence[str]:
        return [CONNECTOR]

    def item(self, connector: str) -> ItemMapping:
        return lambda raw, settings: Item(code=ItemCode(raw["code"]), name=localised_text({"en": raw["name"]}))


class Site(Subscriber):
    """An administration whose item flow reads a shelf."""

    def __init__(self, databases: Any = None) -> None:
        self.shelf = Shelf()
        shelves = OneShelf(self.shelf)
        super().__init__(databases, ports={Connectors: shelves, Mappings: shelves})
        self.stock("A", "B", "C")

    def stock(self, *codes: str, name: str = "a name") -> None:
        self.shelf.names |= dict.fromkeys(codes, name)

    def set_up(self) -> None:
        connection = self.run(create_connection, CreateConnection(connector=CONNECTOR, name="Ours", settings={}))
        self.run(set_up_flow, SetUpFlow(kind=FlowKind.ITEM, connection_id=connection.id))

    def start(self, type: str = "ItemSync", **parameters: Any) -> UUID:
        run = self.run(start_run, start_command(type, parameters))
        self.lose(QUEUED_JOBS)
        return run.id

    def work(self, run_id: UUID, holder: str = "a process") -> JobRun | None:
        """What one job process does for a message."""
        return run_job(self.application, run_id, holder=holder, heartbeat=self.heartbeat, context=context(ALPHA))

    def worked(self, run_id: UUID) -> JobRun:
        run = self.work(run_id)
        assert run is not None
        return run

    def stored_run(self, id: UUID) -> JobRun:
        found: JobRun | None = self.databases.admin_queries().run(ALPHA, id)
        assert found is not None
        return found

    def sent_for(self) -> list[UUID]:
        """The runs whose tickets are sent now."""
        self.run(send_owed_runs, SendOwedRuns(), None)
        return [ticket.id for ticket in self.take(QUEUED_JOBS)]

    def occupy_the_flow(self) -> None:
        """A process somewhere holds the flow for the next minute."""
        with open_tenant(self.databases) as uow:
            assert uow.leases.take(FLOW, "somebody else") is not None
            uow.commit()

    def names(self) -> dict[str, str]:
        with open_tenant(self.databases) as uow:
            items = uow.items.get([ItemCode(code) for code in "ABCDEFG"])
        return {code: item.name["en"] for code, item in items.items()}

    def dead_letter(self, queue: str, body: bytes) -> str:
        """A dead letter with this body; answers its id."""
        self.queues[queue].send([Message(send_id=str(new_id()), body=body)])
        [claim] = self.queues[queue].claim()
        assert self.queues[queue].dead_letter(claim, reason="Tested", description="It was given up.")
        return self.queues[queue].dead_letters()[-1].id


def raising(error: BaseException, *, at_page: int = 0) -> Callable[[int], None]:
    def fail(number: int) -> None:
        if number == at_page:
            raise error

    return fail
