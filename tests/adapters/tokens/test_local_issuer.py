import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ordersync_adapters.tokens.local_issuer import KEY_FILE, LocalIssuer, LocalKeys, make_key
from ordersync_adapters.tokens.verifier import TokenRefused, TokenVerifier, make_verifier
from ordersync_core.kernel.errors import PermanentFailure
from ordersync_core.testing.clocks import ManualClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def verifier_of(folder: Path, clock: ManualClock) -> TokenVerifier:
    return make_verifier(issuer=None, audience=None, jwks=None, folder=folder, clock=clock)


def test_what_it_issues_is_believed_as_long_as_it_says(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    token = LocalIssuer(tmp_path / "keys", clock).issue("ada", lifetime=timedelta(minutes=5))
    verifier = verifier_of(tmp_path / "keys", clock)
    assert verifier.subject(token) == "ada"
    clock.advance(timedelta(minutes=5))
    with pytest.raises(TokenRefused, match="expired"):
        verifier.subject(token)


def test_a_token_for_another_audience_is_refused(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    token = LocalIssuer(tmp_path, clock).issue("ada", audience="another")
    with pytest.raises(TokenRefused, match="audience"):
        verifier_of(tmp_path, clock).subject(token)


def test_a_token_of_another_folder_is_refused(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    token = LocalIssuer(tmp_path / "one", clock).issue("ada")
    with pytest.raises(TokenRefused, match="unknown key"):
        verifier_of(tmp_path / "two", clock).subject(token)


def test_the_key_is_readable_by_its_owner_only_and_alone_in_its_folder(tmp_path: Path) -> None:
    make_key(tmp_path / "keys")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [KEY_FILE]


def test_a_verifier_that_starts_first_finds_the_same_key(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    verifier = verifier_of(tmp_path, clock)
    with pytest.raises(TokenRefused):
        verifier.subject("no token")
    assert verifier.subject(LocalIssuer(tmp_path, clock).issue("ada")) == "ada"


def test_a_new_key_file_ends_the_tokens_of_the_old_one(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    verifier = verifier_of(tmp_path, clock)
    old = LocalIssuer(tmp_path, clock).issue("ada")
    assert verifier.subject(old) == "ada"
    (tmp_path / KEY_FILE).unlink()
    assert verifier.subject(LocalIssuer(tmp_path, clock).issue("ada")) == "ada"
    with pytest.raises(TokenRefused, match="unknown key"):
        verifier.subject(old)


def test_while_nothing_changes_the_same_set_is_answered(tmp_path: Path) -> None:
    keys = LocalKeys(tmp_path)
    assert keys.current() is keys.current()
    assert keys.renewed() is keys.current()


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_damaged_key_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(PermanentFailure, match="holds no private key"):
        LocalIssuer(tmp_path).issue("ada")


def _issue(folder: Path) -> str:
    return LocalIssuer(folder).issue("ada")


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        tokens = pool.map(_issue, [tmp_path / "keys"] * 8)
    verifier = verifier_of(tmp_path / "keys", ManualClock(datetime.now(UTC)))
    assert {verifier.subject(token) for token in tokens} == {"ada"}
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [KEY_FILE]
