"""Which administrations cannot be worked for at the moment."""

import logging
import threading

_log = logging.getLogger("ordersync.functions")

FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0


class Troubles:
    """Counts failures in a row, so that each trouble is told once when it begins and once when it is over.

    Safe for use by many threads. doing: what fails, in the words of the log.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._failures: dict[str, int] = {}
        self._lock = threading.Lock()

    def failed(self, name: str, error: BaseException) -> float:
        """Note a failure; answers the seconds to wait before the next try: 1, 2, 4, ... 60."""
        with self._lock:
            failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == 1:
            _log.warning("%s: cannot %s for now: %s", name, self._doing, error)
        wait: float = min(FIRST_WAIT * 2.0 ** (failures - 1), LONGEST_WAIT)
        return wait

    def succeeded(self, name: str) -> None:
        with self._lock:
            failures = self._failures.pop(name, 0)
        if failures:
            _log.info("%s: can %s again", name, self._doing)

    def __contains__(self, name: str) -> bool:
        return name in self._failures
