"""Whether the queue `events` slows down with what waits: how many events are handled a second when 300,000 wait, and
(Postgres) while somebody else's transaction holds a snapshot, in times of the rate when 20,000 wait and nobody does:

    python -m bench.depth [--database sqlite|postgres] [--shallow 20000] [--deep 300000]

Prints one JSON object.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import psycopg
import uvicorn

from bench.deployment import DATABASES, Addresses, Void, deployed, fresh_addresses, libpq_of, postgres_if
from bench.events_queue import CODE, handle_all
from tests.postgres import PostgresServer

GOALS = {"deep": 0.7, "held": 0.35}


@contextmanager
def held_snapshot(addresses: Addresses) -> Iterator[None]:
    """Transactions that have read once and do not end: nothing that dies meanwhile can be cleared away."""
    with ExitStack() as stack:
        for url in (addresses.tenants.format(code=CODE), addresses.queues):
            connection = stack.enter_context(psycopg.connect(libpq_of(url)))
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT count(*) FROM pg_class")
        yield


def rate(database: str, folder: Path, server: PostgresServer | None, messages: int, *, held: bool = False) -> float:
    """Events a second, from committed outbox rows to acknowledged messages."""
    with fresh_addresses(database, folder, server) as addresses, deployed(addresses) as deployment:
        deployment.put(deployment.administration(CODE), messages)
        with (
            held_snapshot(addresses) if held else nullcontext(),
            asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner,
        ):
            seconds = runner.run(handle_all(deployment))
        handled = deployment.ask(CODE, "SELECT count(*) FROM outbox WHERE handled_at IS NOT NULL")
        if handled != messages:
            raise Void(f"of {messages} events {handled} were handled")
    return messages / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--shallow", type=int, default=20_000)
    parser.add_argument("--deep", type=int, default=300_000)
    arguments = parser.parse_args()
    waiting = {"shallow": arguments.shallow, "deep": arguments.deep}
    answer = {"bench": "depth", "database": arguments.database, "waiting": waiting}
    try:
        with tempfile.TemporaryDirectory() as name, postgres_if(arguments.database) as server:
            where = (arguments.database, Path(name), server)
            before = rate(*where, arguments.shallow)
            rates = {"deep": rate(*where, arguments.deep)}
            if server is not None:
                rates["held"] = rate(*where, arguments.shallow, held=True)
            shallow = (before + rate(*where, arguments.shallow)) / 2
    except Void as void:
        print(json.dumps(answer | {"void": str(void)}))
        return 1
    a_second = {name: round(each) for name, each in {"shallow": shallow, **rates}.items()}
    ratios = {name: {"of_shallow": round(each / shallow, 2), "goal": GOALS[name]} for name, each in rates.items()}
    print(json.dumps(answer | {"a_second": a_second} | ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
