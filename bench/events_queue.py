"""From committed outbox rows to acknowledged `events` messages, with all that OrderSync promises on the way (number,
send, claim, inbox, handle, acknowledge), against the least code that claims and acknowledges as many outbox rows:

    python -m bench.events_queue [--database sqlite|postgres] [--messages 20000] [--rounds 3] [--peers]

Prints one JSON object. Both sides work in turn on new databases with the project's tables, indexes and durability;
after each round the rows are counted by SQL. --peers adds other queues, which `make bench-peers` installs.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvicorn

from bench.deployment import (
    DATABASES,
    Addresses,
    Deployment,
    Void,
    deployed,
    file_of,
    fresh_addresses,
    libpq_of,
    medians,
    postgres_if,
    until,
)
from tests.postgres import PostgresServer

CODE = "bench"
PEERS = {"sqlite": {"huey": 6}, "postgres": {"procrastinate": 30, "pgqueuer": 1}}
"""By how many times each is to be beaten."""

OF_LIMIT = 0.3
NOTHING_IS_LEFT = "SELECT count(*) = 0 FROM queue_messages"
ALL_HAVE_AN_OUTCOME = (
    "SELECT NOT EXISTS (SELECT 1 FROM outbox WHERE ticket_at IS NOT NULL)"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE number IS NULL AND absorbed_by IS NULL)"
)


def real_path(addresses: Addresses, messages: int) -> float:
    with deployed(addresses) as deployment:
        context = deployment.administration(CODE)
        deployment.put(context, messages)
        with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
            seconds = runner.run(handle_all(deployment))
        handled = deployment.ask(CODE, "SELECT count(*) FROM outbox WHERE handled_at IS NOT NULL")
        last = deployment.ask(CODE, "SELECT max(number) FROM outbox")
        inbox = deployment.ask(CODE, "SELECT count(*) FROM inbox")
        if not handled == last == inbox == messages:
            raise Void(f"of {messages} events {handled} were handled, {last} numbered, {inbox} in the inbox")
    return seconds


async def handle_all(deployment: Deployment) -> float:
    began = time.perf_counter()
    async with deployment.running():
        await until(lambda: bool(deployment.ask(CODE, ALL_HAVE_AN_OUTCOME)))
        return await until(lambda: bool(deployment.ask("queues", NOTHING_IS_LEFT))) - began


def limit(addresses: Addresses, messages: int) -> float:
    with deployed(addresses) as deployment:
        deployment.put(deployment.administration(CODE), messages)
    return _counted("bench.limits.events_queue", _address(addresses.tenants.format(code=CODE)), messages=messages)


def peer(name: str, addresses: Addresses, messages: int) -> float:
    """It makes its own tables in an empty database, and commits its messages before its time begins."""
    addresses.state.mkdir(exist_ok=True)
    return _counted(f"bench.peers.{name}_queue", _address(addresses.queues), str(messages), messages=messages)


def _counted(module: str, *arguments: str, messages: int) -> float:
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, check=True, timeout=600)
    answer = json.loads(done.stdout)
    if answer["seen"] != messages or answer["left"] != 0:
        raise Void(f"{module} saw {answer['seen']} of {messages} messages and left {answer['left']}")
    return float(answer["seconds"])


def _address(url: str) -> str:
    return file_of(url) if url.startswith("sqlite:") else libpq_of(url)


def one_round(
    database: str, folder: Path, server: PostgresServer | None, messages: int, peers: dict[str, int]
) -> dict[str, float]:
    """Messages a second by who handled them."""
    rates: dict[str, float] = {}
    for name in ("ordersync", "limit", *peers):
        with fresh_addresses(database, folder, server) as addresses:
            # a peer that is known to be slow gets fewer: its rate is what counts
            count = messages if name in ("ordersync", "limit") else max(500, messages // peers[name])
            match name:
                case "ordersync":
                    seconds = real_path(addresses, count)
                case "limit":
                    seconds = limit(addresses, count)
                case _:
                    seconds = peer(name, addresses, count)
            rates[name] = count / seconds
            print(f"{name}: {rates[name]:,.0f} a second", file=sys.stderr)
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    peers = PEERS[arguments.database] if arguments.peers else {}
    answer = {"bench": "events_queue", "database": arguments.database, "messages": arguments.messages}
    try:
        with tempfile.TemporaryDirectory() as name, postgres_if(arguments.database) as server:
            rounds = [
                one_round(arguments.database, Path(name), server, arguments.messages, peers)
                for _ in range(arguments.rounds)
            ]
    except Void as void:
        print(json.dumps(answer | {"void": str(void)}))
        return 1
    rates = medians(rounds)
    ratios = medians([{name: each["ordersync"] / each[name] for name in ("limit", *peers)} for each in rounds])
    print(
        json.dumps(
            answer
            | {"a_second": {name: round(rate) for name, rate in rates.items()}}
            | {"of_the_limit": round(ratios["limit"], 3), "goal": OF_LIMIT, "reached": ratios["limit"] >= OF_LIMIT}
            | {f"times_{name}": {"times": round(ratios[name], 1), "goal": goal} for name, goal in peers.items()}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
