"""What every adapter of `Secrets` promises, as examples.

class TestMySecrets(SecretsContract):
    def make_secrets(self, *keys: str) -> Secrets:
        return MySecrets([KEYS[key] for key in keys])
"""

import pytest

from ordersync_core.kernel.errors import PermanentFailure
from ordersync_core.kernel.secrets import Secrets

PLAIN = b'{"refresh_token": "top secret"}'


class SecretsContract:
    def make_secrets(self, *keys: str) -> Secrets:
        """With these keys, of the names "old", "new" and "other"; the first encrypts, all of them decrypt."""
        raise NotImplementedError

    @pytest.fixture
    def secrets(self) -> Secrets:
        return self.make_secrets("old")

    def test_what_was_sealed_can_be_opened(self, secrets: Secrets) -> None:
        for plain in (b"", b"\x00", PLAIN, bytes(range(256)) * 100):
            assert secrets.decrypt(secrets.encrypt(plain)) == plain

    def test_another_process_with_the_key_opens_it(self, secrets: Secrets) -> None:
        assert self.make_secrets("old").decrypt(secrets.encrypt(PLAIN)) == PLAIN

    def test_the_plain_text_does_not_show(self, secrets: Secrets) -> None:
        sealed = secrets.encrypt(PLAIN)

        assert b"secret" not in sealed
        assert b"token" not in sealed

    def test_equal_texts_are_sealed_differently(self, secrets: Secrets) -> None:
        assert len({secrets.encrypt(PLAIN) for _ in range(20)}) == 20

    def test_changed_bytes_are_refused(self, secrets: Secrets) -> None:
        sealed = secrets.encrypt(PLAIN)

        for place in range(len(sealed)):
            changed = bytearray(sealed)
            changed[place] ^= 1
            with pytest.raises(PermanentFailure):
                secrets.decrypt(bytes(changed))

    def test_a_part_is_refused(self, secrets: Secrets) -> None:
        sealed = secrets.encrypt(PLAIN)

        for part in (
            b"",
            sealed[:1],
            sealed[: len(sealed) // 2],
            sealed[:-4],
            sealed[4:],
            sealed + sealed,
            sealed + b"\n",
        ):
            with pytest.raises(PermanentFailure):
                secrets.decrypt(part)

    def test_what_was_never_sealed_is_refused(self, secrets: Secrets) -> None:
        for rubbish in (b"\x00" * 100, b"plain text", "é".encode() * 40, b"A" * 140):
            with pytest.raises(PermanentFailure):
                secrets.decrypt(rubbish)

    def test_another_key_does_not_open_it(self, secrets: Secrets) -> None:
        with pytest.raises(PermanentFailure):
            self.make_secrets("other").decrypt(secrets.encrypt(PLAIN))

    def test_after_a_rotation_both_are_opened_and_the_new_key_seals(self, secrets: Secrets) -> None:
        rotated = self.make_secrets("new", "old")

        assert rotated.decrypt(secrets.encrypt(PLAIN)) == PLAIN
        assert self.make_secrets("new").decrypt(rotated.encrypt(PLAIN)) == PLAIN
        with pytest.raises(PermanentFailure):
            secrets.decrypt(rotated.encrypt(PLAIN))

    def test_an_error_shows_nothing_secret(self, secrets: Secrets) -> None:
        sealed = secrets.encrypt(PLAIN)
        with pytest.raises(PermanentFailure) as refused:
            self.make_secrets("other").decrypt(sealed)

        assert sealed.decode("latin1") not in str(refused.value)
        assert 'secret"' not in str(refused.value)

    def test_random_bytes_do_not_repeat(self, secrets: Secrets) -> None:
        drawn = [secrets.random(16) for _ in range(200)]

        assert {len(draw) for draw in drawn} == {16}
        assert len(set(drawn)) == 200
        assert len(secrets.random(1)) == 1
        assert len(secrets.random(1_000)) == 1_000
