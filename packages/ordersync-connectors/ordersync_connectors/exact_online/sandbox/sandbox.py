"""The sandbox without a server: one call in, one answer out, everything in memory."""

from attrs import evolve

from .answers import Answer, Call, html, oauth_error
from .clock import SandboxClock
from .control import Control
from .data_api import DataApi
from .faults import FaultScript, read_faults
from .item_file import ItemRow, read_item_file
from .oauth import TokenDesk
from .request_log import RequestLog
from .resources import Site
from .settings import SandboxSettings
from .store import Company

_OAUTH_ERRORS = {400: "invalid_grant", 401: "unauthorized_client", 429: "access_denied"}


class Sandbox:
    """Exact Online as far as reading items needs it.

    Raises (on construction):
        ItemFileError: the item file has a broken row.
        FaultError: the fault script cannot be read.
        OSError: the log cannot be opened.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        items: list[ItemRow] = read_item_file(settings.items) if settings.items is not None else []
        self.faults = FaultScript(read_faults(settings.faults) if settings.faults is not None else ())
        self.clock = SandboxClock(settings.clock, settings.zone)
        companies = {
            division: Company(division=division, seed=settings.seed, clock=self.clock, currency=settings.currency)
            for division in (settings.division, *settings.further_divisions)
        }
        company = companies[settings.division]
        company.load(items)
        self.log = RequestLog(settings.log, self.clock)
        self.control = Control(company, self.clock, self.faults, self.log).app()
        self._tokens = TokenDesk(settings, self.clock)
        self._data = DataApi(Site(settings, self.clock, companies), self._tokens)

    def answer(self, call: Call, *, halve_pages: bool = False) -> Answer:
        match call.path.lower().rstrip("/"):
            case "/api/oauth2/auth":
                return _named("oauth2/auth", self._tokens.authorise(call))
            case "/api/oauth2/token":
                return _named("oauth2/token", self._tokens.token(call))
            case path if path.startswith("/api/v1/"):
                return self._data.answer(call, halve_pages=halve_pages)
        return html(404, "Not found")

    def scripted_status(self, call: Call, status: int, text: str | None) -> Answer:
        """The answer that a fault script asks for, in place of the real one."""
        if status in (502, 503):
            return html(status, text or "Exact Online is temporarily unavailable due to maintenance")
        if call.path.lower().startswith("/api/oauth2/"):
            error = _OAUTH_ERRORS.get(status, "server_error")
            return oauth_error(status, error, text or "A problem has occurred.")
        return self._data.scripted_status(call, status, text)

    def close(self) -> None:
        self.log.close()


def _named(resource: str, answer: Answer) -> Answer:
    return evolve(answer, resource=resource)
