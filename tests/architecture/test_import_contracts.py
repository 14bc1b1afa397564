"""Every import contract is kept by the tree, and each breaks, alone, when one import against it is planted."""

from pathlib import Path

import pytest
from attrs import frozen

from tests.architecture.tree import Tree, configuration, packages

ROOT = Path(__file__).parents[2]
LINTER = configuration(ROOT)["importlinter"]
CONTRACTS = {contract["id"]: contract for contract in LINTER["contracts"]}


@frozen
class Plant:
    file: str
    line: str = ""

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


PLANTS = {
    "packages": [
        Plant("ordersync_core/dispatch.py", "import ordersync_adapters.settings"),
        Plant("ordersync_adapters/blobs/file.py", "import ordersync_connectors.exact_online.client"),
        Plant("ordersync_connectors/exact_online/client.py", "import ordersync_adapters.settings"),
        Plant("ordersync_connectors/exact_online/client.py", "import ordersync_jobs.run_one"),
        Plant("ordersync_admin/platform.py", "import ordersync_functions.contexts"),
    ],
    "core-features": [
        Plant("ordersync_core/webhooks/signing.py", "import ordersync_core.items.notifications"),
        Plant("ordersync_core/jobs/schedule.py", "import ordersync_core.webhooks.health"),
        Plant("ordersync_core/shipping/__init__.py"),
    ],
    "core-roles": [
        Plant("ordersync_core/messaging/tickets.py", "import ordersync_core.messaging.deduplication"),
        Plant("ordersync_core/items/utils.py"),
    ],
    "core-values": [
        Plant("ordersync_core/webhooks/retry.py", "import ordersync_core.kernel.clock"),
        Plant("ordersync_core/items/model.py", "import ordersync_core.connections.ports"),
        Plant("ordersync_core/items/commands.py", "import ordersync_core.kernel.unit_of_work"),
    ],
    "kernel": [
        Plant("ordersync_core/kernel/moments.py", "import ordersync_core.kernel.clock"),
        Plant("ordersync_core/kernel/utils.py"),
    ],
    "core-purity": [
        Plant("ordersync_core/items/handlers.py", f"import {module}")
        for module in (
            "socket",
            "os",
            "time",
            "threading",
            "concurrent.futures",
            "urllib.request",
            "httpx",
            "starlette",
        )
    ],
    "adapters": [
        Plant("ordersync_adapters/secrets/fernet.py", "import ordersync_adapters.blobs.file"),
        Plant("ordersync_adapters/utils.py"),
    ],
    "connectors": [
        Plant("ordersync_connectors/katana_pim/__init__.py", "import ordersync_connectors.exact_online.client"),
    ],
    "connector-roles": [
        Plant("ordersync_connectors/exact_online/client.py", "import ordersync_connectors.exact_online.mapping"),
        Plant("ordersync_connectors/exact_online/utils.py"),
    ],
    "sandboxes": [
        Plant(
            "ordersync_connectors/exact_online/sandbox/values.py", "import ordersync_connectors.exact_online.mapping"
        ),
        Plant("ordersync_connectors/exact_online/sandbox/values.py", "import ordersync_core.kernel.moments"),
    ],
    "mappings": [Plant("ordersync_connectors/exact_online/mapping.py", "import httpx")],
    "sqlalchemy": [
        Plant("ordersync_api/endpoints/items.py", "import sqlalchemy"),
        Plant("ordersync_adapters/blobs/file.py", "import alembic"),
    ],
    "drivers": [
        Plant("ordersync_functions/health.py", "import psycopg"),
        Plant("ordersync_admin/commands/doctor.py", "import sqlite3"),
    ],
    "azure": [Plant("ordersync_jobs/run_one.py", "import azure.functions")],
    "webhook-sender": [Plant("ordersync_adapters/tokens/jwks.py", "import aiohttp")],
    "container": [Plant("ordersync_adapters/blobs/file.py", "import punq")],
    "composition": [Plant("ordersync_jobs/run_one.py", "import ordersync_jobs.composition")],
    "named-adapters": [
        Plant("ordersync_api/endpoints/items.py", "import ordersync_adapters.sql.items"),
        Plant("ordersync_functions/health.py", "import ordersync_connectors.exact_online.adapter"),
    ],
    "endpoints": [Plant("ordersync_api/endpoints/items.py", "import ordersync_api.endpoints.webhooks")],
    "commands": [Plant("ordersync_admin/commands/items.py", "import ordersync_admin.commands.jobs")],
    "testing": [Plant("ordersync_jobs/run_one.py", "import ordersync_core.testing.clocks")],
    "test-tools": [
        Plant("ordersync_functions/health.py", "import hypothesis"),
        Plant("ordersync_core/items/model.py", "import pytest"),
    ],
    "cycles": [Plant("ordersync_functions/sweep.py", "import ordersync_functions.publish")],
}


def broken(tree: Tree) -> tuple[set[str], str]:
    """The ids of the broken contracts, and what the program printed."""
    outcome = tree.run("lint-imports", "--no-cache", "--no-logo")
    words = {
        name: word
        for line in outcome.stdout.splitlines()
        for name, _, word in (line.partition(" (")[0].rpartition(" "),)
        if word in ("KEPT", "BROKEN")
    }
    verdicts = {contract: words.get(CONTRACTS[contract]["name"]) for contract in CONTRACTS}
    assert None not in verdicts.values(), f"{verdicts}\n{outcome.stdout}\n{outcome.stderr}"
    found = {contract for contract, word in verdicts.items() if word == "BROKEN"}
    assert outcome.returncode == (1 if found else 0), outcome.stdout
    return found, outcome.stdout


@pytest.fixture(scope="module")
def as_it_is(tree: Tree) -> tuple[set[str], str]:
    return broken(tree)


def test_the_tree_keeps_every_contract(as_it_is: tuple[set[str], str]) -> None:
    found, output = as_it_is
    assert not found, output


def test_every_contract_has_a_planted_import() -> None:
    assert list(PLANTS) == list(CONTRACTS)
    assert all(PLANTS.values())


@pytest.mark.parametrize(
    ("contract", "plant"),
    [
        pytest.param(contract, plant, id=f"{contract}: {plant.module} {plant.line or 'is new'}")
        for contract, plants in PLANTS.items()
        for plant in plants
    ],
)
def test_a_planted_import_breaks_its_contract_and_no_other(
    tree: Tree, as_it_is: tuple[set[str], str], contract: str, plant: Plant
) -> None:
    with tree.planted(plant.file, plant.line):
        found, output = broken(tree)
    assert found - as_it_is[0] == {contract}, output
    assert plant.module.rpartition(".")[2] in output.partition("Broken contracts")[2]


def test_all_packages_are_watched() -> None:
    assert sorted(LINTER["root_packages"]) == packages(ROOT)
    assert sorted(CONTRACTS["cycles"]["ancestors"]) == packages(ROOT)
    layers = CONTRACTS["packages"]["layers"]
    assert sorted(package for layer in layers for package in layer.split(" | ")) == packages(ROOT)


def test_all_features_are_watched_for_their_roles() -> None:
    features = {folder.parent.name for folder in ROOT.glob("packages/ordersync-core/ordersync_core/*/__init__.py")}
    watched = {container.removeprefix("ordersync_core.") for container in CONTRACTS["core-roles"]["containers"]}
    assert watched == features - {"kernel", "testing"}
