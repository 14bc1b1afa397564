"""The demo's two receivers, in a process of their own: `python -m ordersync_admin.demo.receivers FILE PORT`."""

import sys

from ordersync_admin.receiver import Receiver, serve

EVERYTHING = "everything"
UPDATES = "updates"


def main() -> None:
    path, port = sys.argv[1], int(sys.argv[2])
    serve(
        [Receiver(name=EVERYTHING, path=path), Receiver(name=UPDATES, path=path)],
        port=port,
        ready=lambda url: print(f"receivers on {url}", flush=True),
    )


if __name__ == "__main__":
    main()
