"""What every command needs: the application, an administration, and one way to fail."""

import getpass
import logging
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import orjson
import rich_click as click

from ordersync_adapters.settings import load
from ordersync_admin.settings import AdminSettings
from ordersync_core.administrations.ports import AdministrationQueries
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import InvalidInput, NotFound, OrderSyncError
from ordersync_core.kernel.ids import Ids
from ordersync_core.kernel.paging import MAXIMUM_LIMIT
from ordersync_core.webhooks.ports import WebhookRequest, WebhookResponse

F = TypeVar("F", bound=Callable[..., Any])


class Shell:
    """Settings and application of one call of the command line; both are made when first needed.

    settings: None reads them from the environment.
    """

    def __init__(self, settings: AdminSettings | None = None) -> None:
        self._given = settings

    @cached_property
    def settings(self) -> AdminSettings:
        return load(AdminSettings) if self._given is None else self._given

    @cached_property
    def application(self) -> Application:
        from ordersync_admin.composition import build_application

        return build_application(self.settings)

    def prepare(self) -> None:
        """Make what every command needs and is not there yet: state folder, keys, admin database, queues."""
        from ordersync_admin.composition import prepare

        prepare(self.settings)

    def issue_token(self, subject: str, *, lifetime: timedelta) -> str:
        """A token of the local issuer."""
        from ordersync_admin.composition import issue_token

        return issue_token(self.settings, subject, lifetime=lifetime)

    def send(self, request: WebhookRequest) -> WebhookResponse:
        from ordersync_admin.composition import send

        return send(self.settings, request)

    def check_issuer(self) -> None:
        from ordersync_admin.composition import check_issuer

        check_issuer(self.settings)

    def admin_database_is_current(self) -> bool:
        from ordersync_admin.composition import admin_database_is_current

        return admin_database_is_current(self.settings)

    def tenant_database_is_current(self, code: str) -> bool:
        from ordersync_admin.composition import tenant_database_is_current

        return tenant_database_is_current(self.settings, code)

    def context(self, administration: str | None = None) -> Context:
        """For the person at the terminal. Raises NotFound for an administration that does not exist."""
        if administration is not None:
            self.check_administration(administration)
        ids: Ids = self.application.resolve(Ids)
        return Context(administration=administration, triggered_by=f"cli:{_user()}", correlation_id=str(ids.new()))

    def check_administration(self, code: str) -> None:
        """Raises NotFound for an administration that does not exist."""
        queries: AdministrationQueries = self.admin_queries
        if queries.administration(code) is None:
            raise NotFound(f"there is no administration {code!r}; see 'ordersync administrations list'")

    def queries(self, administration: str) -> Any:
        """All reads of that administration's database."""
        return self.application.databases.queries(self.context(administration))

    @property
    def admin_queries(self) -> Any:
        return self.application.databases.admin_queries()


pass_shell = click.make_pass_decorator(Shell, ensure=True)


def complete_administration(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Codes for the shell, from the names of the embedded databases: no server is asked, and nothing is said when
    that cannot be."""
    try:
        settings = load(AdminSettings)
        if settings.tenant_databases is not None:
            return []
        codes = [path.stem for path in (settings.state / "tenants").glob("*.db")]
        return sorted(code for code in codes if code.startswith(incomplete))
    except (OrderSyncError, OSError):
        return []


administration_option = click.option(
    "--administration",
    "-a",
    required=True,
    metavar="CODE",
    shell_complete=complete_administration,
    help="The administration's code.",
)
limit_option = click.option("--limit", type=click.IntRange(1, MAXIMUM_LIMIT), default=50, show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


def uuid_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not an id: a UUID is expected") from None


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object given for an option; InvalidInput naming the option otherwise."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{option} must be a JSON object")
    return value


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def log_to_stderr(*, debug: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
