from typing import Any

import orjson
import rich_click as click

from ordersync_admin.output import folding, say, show_one, show_rows
from ordersync_admin.shell import Shell, json_option, pass_shell
from ordersync_core.dispatch import resubmit
from ordersync_core.kernel.errors import InvalidInput, NotFound, OrderSyncError
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.messaging.envelope import QUEUES, decode_envelope
from ordersync_core.messaging.queue import DeadLetter, Queue, Queues

PAGE = 500
queue_option = click.option("--queue", type=click.Choice(QUEUES), help="One queue only.")


@click.group(name="dead-letters")
def command() -> None:
    """Messages that a queue has given up on, each with its reason."""


@command.command(name="list")
@queue_option
@click.option("--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="For each queue.")
@json_option
@pass_shell
def list_(shell: Shell, queue: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the oldest first."""
    queues: Queues = shell.application.resolve(Queues)
    rows = [
        _shown(name, letter)
        for name in ([queue] if queue else QUEUES)
        for letter in queues[name].dead_letters(limit=limit)
    ]
    show_rows(
        rows,
        {
            "queue": "queue",
            "id": "id",
            "reason": "reason",
            "description": folding("description"),
            "dead_at": "since",
            "administration": "administration",
            "type": "type",
        },
        as_json=as_json,
        empty="There are no dead letters.",
    )
    if rows and not as_json:
        say("Next: ordersync dead-letters show ID; once the cause is gone: ordersync dead-letters resubmit ID")


@command.command()
@click.argument("id")
@queue_option
@json_option
@pass_shell
def show(shell: Shell, id: str, queue: str | None, as_json: bool) -> None:
    """Show one dead letter with its message."""
    name, letter = _find(shell, id, queue)
    body = letter.message.body.decode(errors="replace")
    show_one(
        {
            **_shown(name, letter),
            "deliveries": letter.deliveries,
            "message": body if as_json else _read(body),
        },
        as_json=as_json,
    )
    say(f"Once the cause is gone: ordersync dead-letters resubmit {id} --queue {name}", quiet=as_json)


@command.command(name="resubmit")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them, or all of one queue.")
@queue_option
@json_option
@pass_shell
def resubmit_(shell: Shell, ids: tuple[str, ...], everything: bool, queue: str | None, as_json: bool) -> int:
    """Let dead letters be tried again; exit code 1 if any could not be."""
    if bool(ids) == everything:
        raise click.UsageError("name dead letters, or say --all")
    found = _all(shell, queue) if everything else [(_find(shell, id, queue)[0], id) for id in ids]
    results = [_resubmit(shell, name, id) for name, id in found]
    show_rows(
        results,
        {"queue": "queue", "id": "id", "problem": folding("problem")},
        as_json=as_json,
        empty="There are no dead letters.",
    )
    failed = sum(result["problem"] is not None for result in results)
    if not as_json and results:
        say(f"{len(results) - failed} resubmitted, {failed} not.")
    return 1 if failed else 0


def _resubmit(shell: Shell, name: str, id: str) -> dict[str, Any]:
    try:
        resubmit(shell.application, name, id, shell.context())
    except OrderSyncError as error:
        return {"queue": name, "id": id, "problem": str(error)}
    return {"queue": name, "id": id, "problem": None}


def _all(shell: Shell, queue: str | None) -> list[tuple[str, str]]:
    queues: Queues = shell.application.resolve(Queues)
    return [(name, letter.id) for name in ([queue] if queue else QUEUES) for letter in _walk(queues[name])]


def _walk(queue: Queue) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    while page := queue.dead_letters(limit=PAGE, after=letters[-1].id if letters else None):
        letters += page
    return letters


def _find(shell: Shell, id: str, queue: str | None) -> tuple[str, DeadLetter]:
    queues: Queues = shell.application.resolve(Queues)
    letters = {name: queues[name].find_dead_letter(id) for name in ([queue] if queue else QUEUES)}
    found = [(name, letter) for name, letter in letters.items() if letter is not None]
    if not found:
        raise NotFound(f"there is no dead letter {id}")
    if len(found) > 1:
        raise InvalidInput(
            f"there is a dead letter {id} in {' and '.join(name for name, _ in found)}: name the --queue"
        )
    return found[0]


def _read(body: str) -> Any:
    """As an object, if it is one: a person reads it line by line."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body


def _shown(name: str, letter: DeadLetter) -> dict[str, Any]:
    try:
        envelope = decode_envelope(letter.message.body)
        administration, type = envelope.administration, envelope.type
    except InvalidInput:
        administration, type = letter.message.group, None
    return {
        "queue": name,
        "id": letter.id,
        "administration": administration,
        "type": type,
        "reason": letter.reason,
        "description": letter.description,
        "dead_at": rfc3339(letter.dead_at),
    }
