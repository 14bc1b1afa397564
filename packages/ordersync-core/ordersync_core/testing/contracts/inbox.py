from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from ordersync_core.items.model import ItemCode
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.contracts.databases import (
    PATIENCE,
    DatabasesContract,
    hesitate,
    open_tenant,
    put_item,
    queries,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import an_item, new_id, stock_of, with_stock

HANDLER = "fan_out"


class InboxContract(DatabasesContract):
    def enter(self, databases: Databases, *ids: UUID, handler: str = HANDLER) -> frozenset[UUID]:
        with open_tenant(databases) as uow:
            repeated: frozenset[UUID] = uow.processed(handler, ids)
            uow.commit()
            return repeated

    def test_new_messages_are_no_repetitions(self, databases: Databases) -> None:
        assert self.enter(databases, new_id(), new_id()) == frozenset()
        assert self.enter(databases) == frozenset()

    def test_exactly_the_repeated_ones_are_answered(self, databases: Databases) -> None:
        first, second, third = new_id(), new_id(), new_id()
        self.enter(databases, first, second)

        assert self.enter(databases, third, first) == {first}
        assert self.enter(databases, third, second, first) == {first, second, third}

    def test_many_are_entered_at_once(self, databases: Databases) -> None:
        ids = [new_id() for _ in range(300)]
        self.enter(databases, *ids[::2])

        assert self.enter(databases, *ids) == set(ids[::2])

    def test_each_handler_has_its_own_inbox(self, databases: Databases) -> None:
        message = new_id()
        self.enter(databases, message)

        assert self.enter(databases, message, handler="another") == frozenset()
        assert self.enter(databases, message) == {message}

    def test_what_was_not_committed_was_not_processed(self, databases: Databases) -> None:
        message = new_id()
        with open_tenant(databases) as uow:
            uow.processed(HANDLER, [message])

        assert self.enter(databases, message) == frozenset()

    def test_a_message_twice_in_one_batch_is_no_repetition(self, databases: Databases) -> None:
        message = new_id()

        assert self.enter(databases, message, message) == frozenset()
        assert self.enter(databases, message, message) == {message}

    def test_effects_happen_once_when_deliveries_race(self, databases: Databases) -> None:
        """Every batch holds every message, each in another order."""
        ids = [new_id() for _ in range(6)]
        code = ItemCode("A")
        with open_tenant(databases) as uow:
            put_item(uow, an_item("A", stock=0))
            uow.commit()

        def handle(batch: list[UUID]) -> None:
            with open_tenant(databases) as uow:
                new = set(batch) - uow.processed(HANDLER, batch)
                hesitate()
                if new:
                    item = uow.items.find(code)
                    uow.items.save([with_stock(item, stock_of(item) + len(new))])
                uow.commit()

        batches = [ids[n:] + ids[:n] for n in range(len(ids))] + [ids[::-1], ids]
        together(*[lambda batch=batch: retried(lambda: handle(batch)) for batch in batches])

        assert stock_of(queries(databases).item(code)) == len(ids)

    def test_the_twin_of_one_that_gives_up_does_the_work(self, databases: Databases) -> None:
        message = new_id()
        with ThreadPoolExecutor() as pool:
            with open_tenant(databases) as uow:
                uow.processed(HANDLER, [message])
                twin = pool.submit(retried, lambda: self.enter(databases, message))
                hesitate()
            assert twin.result(PATIENCE) == frozenset()

    def test_the_twin_of_one_that_commits_leaves_it_out(self, databases: Databases) -> None:
        message = new_id()
        with ThreadPoolExecutor() as pool:
            with open_tenant(databases) as uow:
                uow.processed(HANDLER, [message])
                twin = pool.submit(retried, lambda: self.enter(databases, message))
                hesitate()
                uow.commit()
            assert twin.result(PATIENCE) == {message}
