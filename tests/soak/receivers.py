"""Receivers of webhooks in a process of their own: `python -m tests.soak.receivers FILE PORT NAME...`."""

import sys

from ordersync_admin.receiver import Receiver, serve


def main() -> None:
    path, port, *names = sys.argv[1:]
    serve(
        [Receiver(name=name, path=path) for name in names],
        port=int(port),
        ready=lambda url: print(f"receivers on {url}", flush=True),
    )


if __name__ == "__main__":
    main()
