"""The seven packages as they would be published, and environments outside the workspace that hold them."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.wheels import ROOT, Built, Installs, files_of, packages, run

EXPORT = ("--quiet", "--frozen", "--all-packages", "--all-extras", "--no-dev", "--no-emit-workspace", "--no-hashes")
NO_NETWORK = ("dns error", "error sending request", "failed to fetch", "client error (connect)", "timed out")


@pytest.fixture(scope="session")
def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=ROOT / ".uv" / "bin")
    if found is None:
        pytest.fail("uv is neither on the PATH nor in .uv/bin; `make test` puts it there", pytrace=False)
    return found


@pytest.fixture(scope="session")
def built(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    outcome = run(uv, "build", "--quiet", "--all-packages", "--out-dir", str(folder), cwd=ROOT)
    assert outcome.returncode == 0, outcome.stderr
    return Built(folder, {package.name: files_of(package) for package in packages()})


@pytest.fixture(scope="session")
def installed(uv: str, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installs:
    """Makes a virtual environment with what it is given, in the lock file's versions; answers its `bin` folder.

    What uv has in its cache is enough; it asks the package index for the rest. Without either, the test is skipped,
    except where CI is set: there it fails.
    """

    def uv_must(*arguments: str, cwd: Path) -> None:
        outcome = run(uv, *arguments, cwd=cwd)
        assert outcome.returncode == 0, outcome.stderr

    def install(*requirements: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        locked, environment = folder / "locked.txt", folder / "venv"
        uv_must("export", *EXPORT, "--project", str(ROOT), "--output-file", str(locked), cwd=folder)
        uv_must("venv", "--quiet", "--no-project", "--python", sys.executable, str(environment), cwd=folder)
        python = environment / "bin" / "python"
        asked = ["pip", "install", "--python", str(python), "--constraints", str(locked), *requirements]
        outcome = run(uv, *asked, "--offline", cwd=folder)
        if outcome.returncode != 0:
            outcome = run(uv, *asked, cwd=folder)
        if outcome.returncode != 0 and any(sign in outcome.stderr.lower() for sign in NO_NETWORK):
            reason = "not in uv's cache, and no package index to be reached"
            if os.environ.get("CI"):
                pytest.fail(f"{reason}: {outcome.stderr}", pytrace=False)
            pytest.skip(reason)
        assert outcome.returncode == 0, outcome.stderr
        return environment / "bin"

    return install
