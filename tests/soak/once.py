"""One declared timer run now, and not when its moment comes: `python -m tests.soak.once NAME`."""

import sys

from azure.functions.timer import TimerRequest

from ordersync_functions import composition
from ordersync_functions.declarations import Timer, declarations


def main() -> None:
    [timer] = [each for each in declarations() if isinstance(each, Timer) and each.name == sys.argv[1]]
    timer.call(TimerRequest(past_due=False))
    composition.parts().close()


if __name__ == "__main__":
    main()
