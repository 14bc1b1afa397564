import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

from attrs import frozen

ROOT = Path(__file__).parents[2]

Installs = Callable[..., Path]
"""Requirements -> the `bin` folder of a new virtual environment that holds them."""


@frozen
class Built:
    """folder: the wheels and source archives. files: what lay in each package's folder when they were built."""

    folder: Path
    files: dict[str, set[str]]

    @property
    def wheels(self) -> list[Path]:
        return sorted(self.folder.glob("*.whl"))

    def wheel(self, package: str) -> Path:
        return next(wheel for wheel in self.wheels if wheel.name.startswith(f"{package}-"))

    def contents(self, package: str) -> set[str]:
        """The names of the wheel's files, those about the wheel itself left out."""
        with ZipFile(self.wheel(package)) as archive:
            return {name for name in archive.namelist() if not name.endswith("/") and name.startswith(f"{package}/")}


def run(program: str | Path, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program in an environment that knows nothing of the workspace's own."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT", "ORDERSYNC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        [str(program), *arguments],
        cwd=cwd,
        env={**kept, "UV_PYTHON_DOWNLOADS": "never", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def packages() -> list[Path]:
    return sorted(marker.parent for folder in ("packages", "apps") for marker in (ROOT / folder).glob("*/*/py.typed"))


def files_of(package: Path) -> set[str]:
    return {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
