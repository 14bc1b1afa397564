"""Bringing a database to the present revision, with Alembic's scripts in the folders beside this file.

All of it is one transaction, so what breaks off leaves nothing; two at once wait for each other.
"""

from functools import cache
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select
from sqlalchemy.engine import URL

from ordersync_adapters.sql.engines import is_postgres, reading_engine, writing_engine
from ordersync_adapters.sql.errors import sql_errors
from ordersync_core.kernel.errors import Conflict

ADMIN = Path(__file__).parent / "admin"
TENANT = Path(__file__).parent / "tenant"

_LOCK = 0x6F7264657273796E
"""Number of the advisory lock on Postgres; "ordersyn" in ASCII."""


def upgrade(url: URL, folder: Path) -> None:
    """Run what is missing of the scripts in `folder`; nothing when the database is up to date.

    Raises:
        Conflict: a later release has migrated it already.
    """
    if is_current(url, folder):
        return
    with sql_errors(), writing_engine(url).begin() as connection:
        if is_postgres(url):
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        _check_known(connection, folder)
        _run(connection, folder)


def is_current(url: URL, folder: Path) -> bool:
    """Whether the database is at the scripts' newest revision."""
    with sql_errors(), reading_engine(url).connect() as connection:
        return _revision(connection) == _scripts(folder).get_current_head()


def _run(connection: Connection, folder: Path) -> None:
    scripts = _scripts(folder)

    def missing(revision: Any, _: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", revision)

    with EnvironmentContext(Config(), scripts, fn=missing, destination_rev="head") as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()


def later_release(revision: str | None, folder: Path) -> str | None:
    """The sentence that says that a later release has made this revision; None when it is one of `folder`, or none."""
    if revision is None or revision in _revisions(folder):
        return None
    return f"the database is at revision {revision}, which a later release has made: use that release"


def _check_known(connection: Connection, folder: Path) -> None:
    later = later_release(_revision(connection), folder)
    if later is not None:
        raise Conflict(later)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@cache
def _revisions(folder: Path) -> frozenset[str]:
    return frozenset(script.revision for script in _scripts(folder).walk_revisions())


@cache
def _scripts(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder))
