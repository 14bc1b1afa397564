"""Delivering webhooks: signed, recorded, to be retried, against bare aiohttp that only signs and sends as many:

    python -m bench.webhooks [--database sqlite|postgres] [--deliveries 20000] [--rounds 3] [--peers]

Prints one JSON object. 50 endpoints in a process of their own take the requests of both sides in turn. The deliveries
are committed before; what is measured is all that becomes of them then, by the Functions shell as a
user gets it on this machine: claim, prepare, send, record, settle, and the tickets of those for which the windows had
no room. Afterwards they are counted by SQL and by the endpoints. --peers adds one shared httpx client.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.deployment import (
    DATABASES,
    Deployment,
    Void,
    deployed,
    fresh_addresses,
    functions_shell,
    medians,
    postgres_if,
)
from bench.receivers import Receivers, receivers
from ordersync_core.dispatch import handle_events
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.envelope import EVENTS, WEBHOOKS, decode_envelope
from ordersync_core.messaging.handlers import relay
from ordersync_core.messaging.queue import Claim
from tests.postgres import PostgresServer

CODE = "bench"
ENDPOINTS = 50
OF_LIMIT = 0.75
TIMES_HTTPX = 8
HTTPX_SHARE = 8
"""One shared client is slow: it gets this part of the requests, and its rate is what counts."""

AT_ONCE = 1_000
LONGEST = 300.0
LOOK_EVERY = 0.1
"""Seconds: each look makes a connection, which costs the server as much as many deliveries."""

NONE_WAITS = "SELECT NOT EXISTS (SELECT 1 FROM deliveries WHERE state = 'Waiting')"


def fan_out_all(deployment: Deployment, count: int, ports: list[int]) -> None:
    """Commit so many deliveries for these endpoints, with the tickets that the windows leave room for."""
    context = deployment.administration(CODE)
    for port in ports:
        deployment.webhook(context, f"http://127.0.0.1:{port}/hook")
    deployment.put(context, count // len(ports))
    deployment.parts.application.run(relay, Relay(window=count), context)
    queue = deployment.parts.queues[EVENTS]
    while claims := queue.claim():
        handle_events(deployment.parts.application, [decode_envelope(each.message.body) for each in claims], context)
        queue.complete(claims)


def held(deployment: Deployment) -> list[Claim]:
    """The tickets that are out, kept from the processes that are about to start: starting is not measured."""
    tickets: list[Claim] = []
    while claims := deployment.parts.queues[WEBHOOKS].claim(AT_ONCE):
        tickets += claims
    return tickets


def seconds_to_deliver(deployment: Deployment, tickets: list[Claim]) -> float:
    with functions_shell(deployment.addresses):
        began = time.perf_counter()
        deployment.parts.queues[WEBHOOKS].abandon(tickets)
        while not deployment.ask(CODE, NONE_WAITS):
            if time.perf_counter() - began > LONGEST:
                raise Void("not all was delivered in time")
            time.sleep(LOOK_EVERY)
        return time.perf_counter() - began


def real_path(database: str, folder: Path, server: PostgresServer | None, count: int) -> float:
    with (
        receivers(ENDPOINTS) as endpoints,
        fresh_addresses(database, folder, server) as addresses,
        deployed(addresses) as deployment,
    ):
        fan_out_all(deployment, count, endpoints.ports)
        seconds = seconds_to_deliver(deployment, held(deployment))
        delivered = deployment.ask(CODE, "SELECT count(*) FROM deliveries WHERE state = 'Delivered'")
        recorded = deployment.ask(CODE, "SELECT count(*) FROM attempts WHERE status = 200")
        received = sum(endpoints.requests())
        if not delivered == recorded == received == count:
            raise Void(f"of {count} deliveries {delivered} are delivered, {recorded} recorded, {received} received")
    return seconds


def sender(module: str, count: int) -> float:
    with receivers(ENDPOINTS) as endpoints:
        command = [sys.executable, "-m", module, str(count), *map(str, endpoints.ports)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600)
        answer, received = json.loads(done.stdout), _received(endpoints)
    if not answer["answered"] == received == count:
        raise Void(f"{module}: of {count} requests {answer['answered']} were answered, {received} received")
    return float(answer["seconds"])


def _received(endpoints: Receivers) -> int:
    return sum(endpoints.requests())


def one_round(
    database: str, folder: Path, server: PostgresServer | None, count: int, *, peers: bool
) -> dict[str, float]:
    """Deliveries a second by who sent them."""
    rates = {
        "ordersync": count / real_path(database, folder, server, count),
        "limit": count / sender("bench.limits.webhooks", count),
    }
    if peers:
        rates["httpx"] = count // HTTPX_SHARE / sender("bench.peers.httpx_webhooks", count // HTTPX_SHARE)
    print(", ".join(f"{name}: {rate:,.0f} a second" for name, rate in rates.items()), file=sys.stderr)
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    count = arguments.deliveries // ENDPOINTS * ENDPOINTS
    answer = {"bench": "webhooks", "database": arguments.database, "deliveries": count, "endpoints": ENDPOINTS}
    try:
        with tempfile.TemporaryDirectory() as name, postgres_if(arguments.database) as server:
            rounds = [
                one_round(arguments.database, Path(name), server, count, peers=arguments.peers)
                for _ in range(arguments.rounds)
            ]
    except Void as void:
        print(json.dumps(answer | {"void": str(void)}))
        return 1
    ratios = medians([{name: each["ordersync"] / each[name] for name in each} for each in rounds])
    print(
        json.dumps(
            answer
            | {"a_second": {name: round(rate) for name, rate in medians(rounds).items()}}
            | {"of_the_limit": round(ratios["limit"], 3), "goal": OF_LIMIT, "reached": ratios["limit"] >= OF_LIMIT}
            | ({"times_httpx": {"times": round(ratios["httpx"], 1), "goal": TIMES_HTTPX}} if arguments.peers else {})
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
