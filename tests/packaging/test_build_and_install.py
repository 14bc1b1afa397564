"""What is published is whole: built, installed into an empty environment outside the workspace, and used there."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.packaging.wheels import ROOT, Built, Installs, run

PACKAGES = (
    "ordersync_adapters",
    "ordersync_admin",
    "ordersync_api",
    "ordersync_connectors",
    "ordersync_core",
    "ordersync_functions",
    "ordersync_jobs",
)
SAMPLE_ITEMS = "ordersync_connectors/exact_online/sandbox/data/uci-online-retail-items.csv"
MIGRATIONS = "ordersync_adapters/sql/migrations"


@pytest.fixture(scope="module")
def everything(built: Built, installed: Installs) -> Path:
    return installed(*(str(wheel) for wheel in built.wheels))


@pytest.fixture(scope="module")
def core_alone(built: Built, installed: Installs) -> Path:
    return installed(f"ordersync-core[testing] @ {built.wheel('ordersync_core').as_uri()}")


def version() -> str:
    with (ROOT / "apps" / "admin" / "pyproject.toml").open("rb") as file:
        declared: str = tomllib.load(file)["project"]["version"]
    return declared


def test_seven_packages_are_built_of_one_version(built: Built) -> None:
    assert [wheel.name for wheel in built.wheels] == [f"{package}-{version()}-py3-none-any.whl" for package in PACKAGES]
    archives = sorted(archive.name for archive in built.folder.glob("*.tar.gz"))
    assert archives == [f"{package}-{version()}.tar.gz" for package in PACKAGES]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_all_files_of_its_package(built: Built, package: str) -> None:
    contents = built.contents(package)
    assert contents == built.files[package]
    assert f"{package}/py.typed" in contents


def test_the_wheels_hold_what_is_not_imported_but_read(built: Built) -> None:
    adapters = built.contents("ordersync_adapters")
    for database in ("admin", "tenant"):
        assert any(name.startswith(f"{MIGRATIONS}/{database}/versions/") for name in adapters)
    assert SAMPLE_ITEMS in built.contents("ordersync_connectors")


def test_the_command_says_its_version(everything: Path, tmp_path: Path) -> None:
    outcome = run(everything / "ordersync", "--version", cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split()[-1] == version()


def test_the_command_migrates_new_databases(everything: Path, tmp_path: Path) -> None:
    outcome = run(
        everything / "ordersync", "administrations", "create", "shop", "--json",
        cwd=tmp_path, ORDERSYNC_STATE=str(tmp_path / "state"),
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["state"] == "Active"


def test_nothing_comes_from_the_workspace(everything: Path, tmp_path: Path) -> None:
    script = f"import {', '.join(PACKAGES)}\nfor package in ({', '.join(PACKAGES)}): print(package.__file__)"
    outcome = run(everything / "python", "-c", script, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    places = [Path(line) for line in outcome.stdout.splitlines()]
    assert len(places) == len(PACKAGES)
    assert all(place.is_relative_to(everything.parent) for place in places)


def test_the_sandbox_finds_its_items(everything: Path, tmp_path: Path) -> None:
    script = "from ordersync_connectors.exact_online.sandbox.samples import SAMPLE_ITEMS; print(SAMPLE_ITEMS)"
    outcome = run(everything / "python", "-c", script, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert (
        Path(outcome.stdout.strip()).read_bytes()
        == (ROOT / "packages/ordersync-connectors" / SAMPLE_ITEMS).read_bytes()
    )


def test_the_core_with_its_extra_needs_no_other_package(core_alone: Path, tmp_path: Path) -> None:
    script = """
import importlib, pkgutil
import ordersync_core.testing
for package in ("ordersync_core", "ordersync_core.testing"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
for name in ("ordersync_adapters", "sqlalchemy"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise AssertionError(name)
"""
    outcome = run(core_alone / "python", "-c", script, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
