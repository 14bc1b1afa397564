"""Every adapter of a port runs the very cases of its suite: none is left out, replaced or skipped."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

from ordersync_core.testing import contracts
from ordersync_core.testing.blob_contract import BlobsContract
from ordersync_core.testing.queue_contract import QueueContract
from ordersync_core.testing.secret_contract import SecretsContract

ROW_LOCKS_ONLY = {
    "OverlappingItemsContract",
    "OverlappingJobsContract",
    "OverlappingWakeContract",
    "LateCommitContract",
}
"""Suites of transactions that overlap: with one writer at a time there are none."""

DATABASE_MODULES = {
    "in memory, row locks": "tests.core.testing.test_memory_databases",
    "in memory, one writer": "tests.core.testing.test_memory_one_writer",
    "SQLite and Postgres": "tests.adapters.sql.test_contracts",
}
OTHER_MODULES = {
    QueueContract: ("tests.core.testing.test_memory_queue", "tests.adapters.queues.test_sql_queue"),
    BlobsContract: ("tests.core.testing.test_memory_blobs", "tests.adapters.blobs.test_file_blobs"),
    SecretsContract: ("tests.core.testing.test_memory_secrets", "tests.adapters.secrets.test_fernet"),
}


def suites() -> dict[str, type]:
    """Every suite of the databases' ports, by name."""
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(contracts.__path__):
        loaded = importlib.import_module(f"{contracts.__name__}.{module.name}")
        for name, kind in inspect.getmembers(loaded, inspect.isclass):
            if name.endswith("Contract") and cases(kind):
                found[name] = kind
    return found


def cases(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name.startswith("test_")}


def adapters(module: str, suite: type) -> Iterator[type]:
    for _, kind in inspect.getmembers(importlib.import_module(module), inspect.isclass):
        if kind.__module__ == module and issubclass(kind, suite) and kind.__name__.startswith("Test"):
            yield kind


def assert_runs_all(suite: type, module: str) -> None:
    tested = list(adapters(module, suite))
    assert tested, f"{module} does not run {suite.__name__}"
    for kind in tested:
        assert cases(kind) >= cases(suite)
        for name in cases(suite):
            case = getattr(kind, name)
            assert case is getattr(suite, name), f"{kind.__name__} replaces {name}"
            marks = {mark.name for mark in getattr(case, "pytestmark", [])}
            assert not marks & {"skip", "skipif", "xfail"}, f"{name} is marked {marks}"


@pytest.mark.parametrize("suite", suites().values(), ids=suites())
@pytest.mark.parametrize("module", DATABASE_MODULES.values(), ids=DATABASE_MODULES)
def test_each_database_runs_every_case(suite: type, module: str) -> None:
    if suite.__name__ in ROW_LOCKS_ONLY and module == DATABASE_MODULES["in memory, one writer"]:
        assert not list(adapters(module, suite))
        return
    assert_runs_all(suite, module)


@pytest.mark.parametrize(
    ("suite", "module"), [(suite, module) for suite, modules in OTHER_MODULES.items() for module in modules]
)
def test_each_queue_blob_store_and_vault_runs_every_case(suite: type, module: str) -> None:
    assert_runs_all(suite, module)
