from datetime import datetime

from ordersync_core.testing.memory.transaction import Table, Transaction

WAKE = Table[str, datetime]("wake")


class MemoryWakeRepository:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def wake(self, due: dict[str, datetime]) -> None:
        for administration, moment in sorted(due.items()):
            self._transaction.lock(WAKE, administration)
            kept = self._transaction.row(WAKE, administration)
            self._transaction.save(WAKE, administration, moment if kept is None else min(kept, moment))

    def take_due(self, now: datetime) -> list[str]:
        due = sorted(code for code, moment in self._transaction.rows(WAKE).items() if moment <= now)
        return [code for code in due if self._transaction.try_lock(WAKE, code) and self._take(code, now)]

    def _take(self, code: str, now: datetime) -> bool:
        """False when somebody has taken it, or has moved it on, before it was locked."""
        moment = self._transaction.row(WAKE, code)
        return moment is not None and moment <= now and self._transaction.delete(WAKE, code)
