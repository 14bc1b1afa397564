"""Which administrations there are."""

import time
from collections.abc import Sequence

from ordersync_core.administrations.model import AdministrationState
from ordersync_core.administrations.ports import AdministrationQueries
from ordersync_core.kernel.application import Application
from ordersync_functions.contexts import platform

_CONTEXT = platform("administrations")
_FRESH_SECONDS = 10.0


class ActiveAdministrations:
    """Looks them up in the admin database; an administration that was once active stays known."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._known: set[str] = set()
        self._codes: Sequence[str] = ()
        self._read_at: float | None = None

    def __contains__(self, code: object) -> bool:
        if code in self._known:
            return True
        if not isinstance(code, str) or not self._application.run(_is_active, code, _CONTEXT):
            return False
        self._known.add(code)
        return True

    def codes(self) -> Sequence[str]:
        """All of them, as of at most 10 seconds ago."""
        if self._read_at is None or time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._codes = self._application.run(_all_active, None, _CONTEXT)
            self._read_at = time.monotonic()
        return self._codes


def _is_active(code: str, *, administrations: AdministrationQueries) -> bool:
    found = administrations.administration(code)
    return found is not None and found.state is AdministrationState.ACTIVE


def _all_active(_: None, *, administrations: AdministrationQueries) -> Sequence[str]:
    return administrations.active()
