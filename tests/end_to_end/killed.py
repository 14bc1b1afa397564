"""A shell that kills itself with signal 9 at a chosen moment: `python -m tests.end_to_end.killed POINT MODULE`.

The module runs as it always does, but one method is wrapped: at the chosen call the process is gone, without a goodbye.
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

from ordersync_adapters.queues.sql import SqlQueue
from ordersync_adapters.sql.unit_of_work import SqlUnitOfWork
from ordersync_adapters.webhook_sender.sender import AiohttpWebhookSender


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _replace(kind: type, method: str, wrapped: Callable[..., Any]) -> None:
    setattr(kind, method, wrapped)


def between_numbering_and_sending() -> None:
    """The relay: numbers are committed, no ticket has been sent."""
    send = SqlQueue.send

    def killed(queue: Any, messages: Any) -> None:
        if messages and b'"number"' in messages[0].body:
            die()
        send(queue, messages)

    _replace(SqlQueue, "send", killed)


def between_response_and_record() -> None:
    """The delivery: the receiver has taken the request, its result is on no row."""
    send = AiohttpWebhookSender.send

    async def killed(sender: Any, request: Any) -> Any:
        await send(sender, request)
        die()

    _replace(AiohttpWebhookSender, "send", killed)


def between_two_batches() -> None:
    """The job: one batch is committed, the next is not begun."""
    tell, commit = SqlUnitOfWork.tell, SqlUnitOfWork.commit
    told: set[int] = set()

    def noted(uow: Any, *changes: Any) -> None:
        tell(uow, *changes)
        if changes:
            told.add(id(uow))

    def killed(uow: Any) -> None:
        commit(uow)
        if id(uow) in told:
            die()

    _replace(SqlUnitOfWork, "tell", noted)
    _replace(SqlUnitOfWork, "commit", killed)


POINTS: dict[str, Callable[[], None]] = {
    point.__name__: point for point in (between_numbering_and_sending, between_response_and_record, between_two_batches)
}

if __name__ == "__main__":
    point, module = sys.argv[1:3]
    sys.argv = [module]
    POINTS[point]()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
