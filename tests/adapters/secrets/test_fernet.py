import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from ordersync_adapters.secrets.fernet import SETTING, FernetSecrets, make_key_file
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.testing.secret_contract import SecretsContract

KEYS = {name: Fernet.generate_key().decode() for name in ("old", "new", "other")}


class TestFernetSecrets(SecretsContract):
    def make_secrets(self, *keys: str) -> FernetSecrets:
        return FernetSecrets([KEYS[key] for key in keys])


# keys from the settings


@pytest.mark.parametrize("bad", ["", "x", "not-a-key-but-quite-long-and-full-of-letters", "é" * 44, "A" * 42 + "=="])
def test_a_malformed_key_is_named_by_its_place_and_not_shown(bad: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        FernetSecrets([KEYS["old"], bad])

    text = str(refused.value)
    assert SETTING == "ORDERSYNC_SECRET_KEYS"
    assert SETTING in text
    assert "key 2" in text
    assert "\n" not in text
    assert not bad or bad not in text
    assert refused.value.__cause__ is None


def test_no_key_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match=SETTING):
        FernetSecrets([])


def test_spaces_around_a_key_do_no_harm() -> None:
    sealed = FernetSecrets([KEYS["old"]]).encrypt(b"plain")

    assert FernetSecrets([f" {KEYS['old']}\n"]).decrypt(sealed) == b"plain"


# the key file of the embedded default


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys" / "secret"

    key = make_key_file(path)

    assert make_key_file(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["secret"]
    secrets = FernetSecrets([key])
    assert secrets.decrypt(secrets.encrypt(b"plain")) == b"plain"


def test_another_folder_gets_another_key(tmp_path: Path) -> None:
    assert make_key_file(tmp_path / "a") != make_key_file(tmp_path / "b")


def test_processes_that_start_together_get_one_key(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ordersync_adapters.secrets.fernet import make_key_file\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(make_key_file(Path(sys.argv[1])))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "keys" / "secret")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    keys = {process.communicate("\n")[0] for process in processes}

    assert keys == {f"{(tmp_path / 'keys' / 'secret').read_text()}\n"}


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe"])
def test_a_damaged_key_file_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)

    with pytest.raises(InvalidInput, match="does not hold a key") as refused:
        make_key_file(path)

    assert path.read_bytes() == content
    assert "garbage" not in str(refused.value)
