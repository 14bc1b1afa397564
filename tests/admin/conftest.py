"""A command line for each test; the state folder is copied from one that was made once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.admin.command_line import CODE, CommandLine


@pytest.fixture(scope="session")
def made_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the administration `acme` and nothing in it."""
    state = tmp_path_factory.mktemp("admin") / "state"
    subprocess.run(
        [sys.executable, "-m", "ordersync_admin", "administrations", "create", CODE, "--name", "Acme"],
        env={**_without_settings(), "ORDERSYNC_STATE": str(state)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    return state


@pytest.fixture
def ordersync(
    made_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    state = tmp_path / "state"
    shutil.copytree(made_state, state)
    for name in [name for name in os.environ if name.startswith("ORDERSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ORDERSYNC_STATE", str(state))
    monkeypatch.setenv("ORDERSYNC_ALLOW_PRIVATE_TARGETS", "true")
    return CommandLine(state, capsys)


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
