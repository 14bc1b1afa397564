from ordersync_core.testing.memory import MemorySecrets
from ordersync_core.testing.secret_contract import SecretsContract


class TestMemorySecrets(SecretsContract):
    def make_secrets(self, *keys: str) -> MemorySecrets:
        return MemorySecrets([key.encode() for key in keys])
