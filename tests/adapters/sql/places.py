"""Where a test's databases lie before they are made."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from sqlalchemy.engine import URL

from ordersync_adapters.sql.engines import database_url
from tests.postgres import PostgresServer

_numbers = itertools.count(1)


@frozen
class Place:
    """admin: the URL of the admin database. tenants: that of the tenants' databases, with `{code}`."""

    admin: str
    tenants: str

    @property
    def dialect(self) -> str:
        return database_url(self.admin).get_backend_name()

    @property
    def is_postgres(self) -> bool:
        return self.dialect == "postgresql"

    def tenant(self, code: str) -> URL:
        return database_url(self.tenants.replace("{code}", code))


def sqlite_place(folder: Path) -> Place:
    return Place(f"sqlite:///{folder}/admin.db", f"sqlite:///{folder}/tenants/{{code}}.db")


@contextmanager
def postgres_place(server: PostgresServer, *codes: str) -> Iterator[Place]:
    """The admin database and those of the codes are dropped at the end, as far as they were made."""
    number = next(_numbers)
    yield Place(server.url(f"place_{number}"), server.url(f"place_{number}_{{code}}"))
    for name in (f"place_{number}", *(f"place_{number}_{code}" for code in codes)):
        server.drop_database(name)
