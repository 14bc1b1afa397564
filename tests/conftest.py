"""Fixtures for all tests."""

import itertools
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.postgres import PostgresServer, PostgresUnavailable

_numbers = itertools.count(1)

# no test asserts a time: a loaded machine is no failure
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is for a machine that lacks something. Where CI is set nothing may be lacking, so it fails there."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running Postgres 18, not durable: one for each test process, so under xdist one for each worker.

    Without Postgres the tests that ask for it are skipped, except where CI is set: there they fail.
    """
    server = PostgresServer()
    try:
        server.start()
    except PostgresUnavailable as unavailable:
        server.close()
        if os.environ.get("CI"):
            pytest.fail(f"no Postgres: {unavailable}", pytrace=False)
        pytest.skip(f"no Postgres: {unavailable}")
    yield server
    server.close()


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty database, which is dropped after the test."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name)
    yield postgres.url(name)
    postgres.drop_database(name)
