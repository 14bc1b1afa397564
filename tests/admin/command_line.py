"""The command line in this process, on a state folder of its own, with what the other shells would do done by hand."""

from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import frozen

from ordersync_admin.cli import run
from ordersync_admin.shell import Shell
from ordersync_core.dispatch import handle_events
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.jobs.commands import BeginRun
from ordersync_core.jobs.handlers import Begun, EndRun, begin_run, end_run
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.envelope import EVENTS, QUEUED_JOBS, WEBHOOKS, decode_envelope
from ordersync_core.messaging.handlers import relay
from ordersync_core.messaging.queue import Claim, Queue, Queues
from ordersync_core.webhooks.commands import Prepare, Record
from ordersync_core.webhooks.handlers.attempts import prepare, record

CODE = "acme"
NO_ID = "0190a6f0-0000-7000-8000-000000000001"


@frozen
class Said:
    """What one call wrote, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on stdout, on one line."""
        [line] = self.out.splitlines()
        return orjson.loads(line)


@frozen
class CommandLine:
    """One administration, `acme`, and its command line."""

    state: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int = 0) -> Said:
        """`ordersync` with these words; fails unless it ends with `code`."""
        self.capsys.readouterr()
        ended = run(list(words))
        output = self.capsys.readouterr()
        assert ended == code, (words, output)
        assert "Traceback" not in output.err
        return Said(ended, output.out, output.err)

    def json(self, *words: str, code: int = 0) -> Any:
        """What it answers with --json, which is one document and nothing else."""
        said = self(*words, "--json", code=code)
        assert said.err == ""
        return said.json()

    # what people and the other shells do

    @property
    def shell(self) -> Shell:
        return Shell()

    @property
    def context(self) -> Context:
        return Context(administration=CODE, triggered_by="a-test", correlation_id="a-test")

    def queue(self, name: str) -> Queue:
        queues: Queues = self.shell.application.resolve(Queues)
        return queues[name]

    def put(self, code: str, name: str = "A name") -> None:
        item = Item(code=ItemCode(code), name=localised_text({"en": name}))
        self.shell.application.run(put_item, PutItem(item=item), self.context)

    def publish(self) -> None:
        """Number what was told, and hand it to the webhooks."""
        application = self.shell.application
        application.run(relay, Relay(), self.context)
        queue = self.queue(EVENTS)
        claims = queue.claim()
        if claims:
            handle_events(application, [decode_envelope(claim.message.body) for claim in claims], self.context)
            queue.complete(claims)

    def deliver(self, *, until_dead: bool = False) -> None:
        """Send what lies in the queue, once, and record what came of it.

        until_dead: what was not taken becomes a dead letter straight away.
        """
        application, queue = self.shell.application, self.queue(WEBHOOKS)
        claims = queue.claim()
        messages = tuple(decode_envelope(claim.message.body) for claim in claims)
        requests = application.run(prepare, Prepare(messages=messages), self.context)
        responses = tuple(self.shell.send(request) for request in requests)
        application.run(record, Record(responses=responses), self.context)
        if until_dead:
            _give_up(queue, claims)
        else:
            queue.complete(claims)

    def end_job(self, *, failure: str | None = None, **result: int) -> UUID:
        """Take the oldest run up and end it, with this result or this failure; answers its id."""
        queue = self.queue(QUEUED_JOBS)
        [claim] = queue.claim(limit=1)
        id = decode_envelope(claim.message.body).id
        begun = self.shell.application.run(begin_run, BeginRun(id=id, holder="a-test"), self.context)
        assert isinstance(begun, Begun)
        outcome = EndRun(begun=begun, result=None if failure else result, failure=failure)
        self.shell.application.run(end_run, outcome, self.context)
        if failure:
            _give_up(queue, [claim])
        else:
            queue.complete([claim])
        return id


def _give_up(queue: Queue, claims: list[Claim]) -> None:
    for claim in claims:
        assert queue.dead_letter(claim, reason="GivenUp", description="by a test [/]")
