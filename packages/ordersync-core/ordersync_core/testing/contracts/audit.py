from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.clocks import ManualClock
from ordersync_core.testing.contracts.databases import DatabasesContract, all_rows, put_items, queries
from ordersync_core.testing.contracts.examples import SECOND


class AuditContract(DatabasesContract):
    """That entries are written with each change is part of `UnitOfWorkContract`."""

    def test_entries_are_listed_the_newest_first(self, databases: Databases, clock: ManualClock) -> None:
        for code in "ABC":
            put_items(databases, code)
            clock.advance(SECOND)
        put_items(databases, "D", "E", "F")

        for limit in (1, 2, 50):
            listed = [entry.key for entry in all_rows(queries(databases).audit_entries, limit=limit)]
            assert sorted(listed[:3]) == ["D", "E", "F"]
            assert listed[3:] == ["C", "B", "A"]

    def test_entries_of_one_moment_have_a_total_order(self, databases: Databases) -> None:
        put_items(databases, *(f"{n:02}" for n in range(20)))

        whole = all_rows(queries(databases).audit_entries, limit=50)
        assert all_rows(queries(databases).audit_entries, limit=3) == whole
        assert len({entry.id for entry in whole}) == 20

    def test_entries_are_narrowed_by_type_and_key(self, databases: Databases) -> None:
        put_items(databases, "A", stock=1)
        put_items(databases, "B")
        put_items(databases, "A", stock=2)

        reads = queries(databases)
        of_a = all_rows(lambda page: reads.audit_entries(page, entity_type="item", key="A"), limit=1)
        assert [entry.key for entry in of_a] == ["A", "A"]
        assert len(reads.audit_entries(PageRequest(), entity_type="item").rows) == 3
        assert reads.audit_entries(PageRequest(), entity_type="customer").rows == []
        assert reads.audit_entries(PageRequest(), key="a").rows == []
