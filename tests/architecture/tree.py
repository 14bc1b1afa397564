import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

PROJECTS = ("packages", "apps")


@frozen
class Tree:
    """root: holds `pyproject.toml` and the folders of PROJECTS, without tests."""

    root: Path

    @property
    def projects(self) -> list[Path]:
        return _projects(self.root)

    @contextmanager
    def planted(self, file: str, text: str) -> Iterator[None]:
        """`text` at the end of a module, which is made, with its folder, when it is not there.

        file: below the folder of its project, such as `ordersync_core/items/model.py`.
        """
        package = file.partition("/")[0]
        path = next(project for project in self.projects if (project / package).is_dir()) / file
        before = path.read_text() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{before or ''}\n{text}\n")
        try:
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_text(before)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the environment's programs, from the copy's root; it sees the copy, not what is installed."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(project) for project in self.projects),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        return subprocess.run(
            [str(Path(sys.executable).with_name(program)), *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


def copy_tree(target: Path, source: Path) -> Tree:
    shutil.copy(source / "pyproject.toml", target)
    for folder in PROJECTS:
        shutil.copytree(source / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", ".*", "data"))
    return Tree(target)


def configuration(root: Path) -> dict[str, Any]:
    """The `[tool.*]` tables of the workspace."""
    with (root / "pyproject.toml").open("rb") as file:
        tools: dict[str, Any] = tomllib.load(file)["tool"]
    return tools


def packages(root: Path) -> list[str]:
    """The import names of all projects."""
    return sorted(package.parent.name for project in _projects(root) for package in project.glob("*/py.typed"))


def _projects(root: Path) -> list[Path]:
    return sorted(file.parent for folder in PROJECTS for file in (root / folder).glob("*/pyproject.toml"))
