"""Messages through SqliteHuey: `python -m bench.peers.huey_queue FILE COUNT`. Prints one JSON object."""

import argparse
import json
import time

from huey import SqliteHuey

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    huey = SqliteHuey("bench", filename=arguments.file, fsync=True, journal_mode="wal", results=False)
    seen: list[int] = []

    @huey.task()
    def look(number: int) -> None:
        seen.append(number)

    for number in range(arguments.count):
        look(number)
    consumer = huey.create_consumer(workers=WORKERS, periodic=False, initial_delay=0.01, max_delay=0.05)
    began = time.perf_counter()
    consumer.start()
    while len(seen) < arguments.count:
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    consumer.stop(graceful=True)
    print(json.dumps({"seconds": seconds, "seen": len(set(seen)), "left": huey.pending_count()}))


if __name__ == "__main__":
    main()
