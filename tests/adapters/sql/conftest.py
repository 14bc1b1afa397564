from collections.abc import Iterator

import pytest

from tests.adapters.sql.stores import Store, postgres_store, sqlite_store


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for a test module: its tests take ids of their own."""
    if request.param == "sqlite":
        opened = sqlite_store(tmp_path_factory.mktemp("store"))
    else:
        opened = postgres_store(request.getfixturevalue("postgres"))
    with opened as store:
        yield store
