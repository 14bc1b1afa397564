"""A package declares what it imports, and no more."""

from pathlib import Path

import pytest

from tests.architecture.tree import Tree, packages

ROOT = Path(__file__).parents[2]


def found(tree: Tree, package: str) -> str:
    """What deptry reports of one package, with the package's own configuration; empty when there is nothing."""
    project = next(project for project in tree.projects if (project / package).is_dir())
    outcome = tree.run("deptry", "--no-ansi", "--config", str(project / "pyproject.toml"), str(project))
    assert outcome.returncode == ("Found" in outcome.stderr), outcome.stderr
    return "" if outcome.returncode == 0 else outcome.stderr


@pytest.mark.parametrize("package", packages(ROOT))
def test_the_package_declares_what_it_imports(tree: Tree, package: str) -> None:
    assert found(tree, package) == ""


@pytest.mark.parametrize("package", packages(ROOT))
def test_an_undeclared_import_is_reported(tree: Tree, package: str) -> None:
    with tree.planted(f"{package}/planted.py", "import not_installed_anywhere"):
        report = found(tree, package)
    assert f"{package}/planted.py" in report
    assert "DEP001 'not_installed_anywhere'" in report


def test_what_another_package_brings_must_be_declared_too(tree: Tree) -> None:
    with tree.planted("ordersync_jobs/planted.py", "import sqlalchemy"):
        assert "DEP003 'sqlalchemy'" in found(tree, "ordersync_jobs")


def test_a_dependency_that_nothing_imports_is_reported(tree: Tree) -> None:
    project = tree.root / "apps" / "jobs" / "pyproject.toml"
    declared = project.read_text()
    project.write_text(declared.replace('"punq', '"aiohttp>=3", "punq', 1))
    try:
        assert "DEP002 'aiohttp'" in found(tree, "ordersync_jobs")
    finally:
        project.write_text(declared)
