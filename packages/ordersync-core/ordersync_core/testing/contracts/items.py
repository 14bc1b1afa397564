import pytest

from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.localised import localised_text
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.contracts.databases import DatabasesContract, all_rows, open_tenant, queries
from ordersync_core.testing.contracts.examples import MINUTE, NOON, SECOND, a_full_item, an_item, stock_of

A = ItemCode("A")
B = ItemCode("B")

MANY = 300
"""Enough for adapters that write many rows in another way than a few."""


class ItemsContract(DatabasesContract):
    def test_an_item_comes_back_as_it_was_saved(self, databases: Databases) -> None:
        full, bare = a_full_item(), Item(code=ItemCode("bare"), updated_at=NOON)
        save(databases, full, bare)

        for item in (full, bare):
            with open_tenant(databases) as uow:
                found = uow.items.find(item.code)
            read = queries(databases).item(item.code)
            assert found == read == item
            assert found.updated_at == read.updated_at == item.updated_at
            assert isinstance(read.code, ItemCode)

    def test_attributes_come_back_as_json(self, databases: Databases) -> None:
        save(databases, an_item("A", attributes={"sizes": ("S", "M"), "null": None, "deep": {"a": [{}, 1.5]}}))

        assert queries(databases).item(A).attributes == {"sizes": ["S", "M"], "null": None, "deep": {"a": [{}, 1.5]}}

    def test_an_item_that_was_never_saved_is_not_there(self, databases: Databases) -> None:
        with open_tenant(databases) as uow:
            assert uow.items.find(A) is None
            assert uow.items.get([A, B]) == {}
            assert uow.items.get([]) == {}
        assert queries(databases).item(A) is None

    def test_those_of_the_codes_that_exist_come(self, databases: Databases) -> None:
        save(databases, an_item("A"), an_item("C"))

        with open_tenant(databases) as uow:
            found = uow.items.get([ItemCode("C"), B, A, A])
        assert {code: item.code for code, item in found.items()} == {"A": "A", "C": "C"}

    def test_codes_are_compared_exactly(self, databases: Databases) -> None:
        save(databases, an_item("a", stock=1), an_item("A", stock=2), an_item("É", stock=3), an_item("é", stock=4))

        assert [stock_of(queries(databases).item(ItemCode(code))) for code in "aAÉé"] == [1, 2, 3, 4]

    def test_saving_again_replaces(self, databases: Databases) -> None:
        save(databases, a_full_item("A"))
        save(databases, an_item("A", stock=2, updated_at=NOON + SECOND))

        assert queries(databases).item(A) == an_item("A", stock=2)
        assert queries(databases).item(A).updated_at == NOON + SECOND
        assert queries(databases).count_items() == 1

    def test_an_item_without_a_moment_is_refused(self, databases: Databases) -> None:
        with open_tenant(databases) as uow, pytest.raises(ValueError, match="A"):
            uow.items.save([an_item("A", updated_at=None)])

    def test_a_deleted_item_is_gone(self, databases: Databases) -> None:
        save(databases, an_item("A"), an_item("B"))
        with open_tenant(databases) as uow:
            uow.items.delete([A, ItemCode("never there")])
            uow.items.delete([])
            uow.commit()

        assert queries(databases).item(A) is None
        assert queries(databases).count_items() == 1

    def test_an_item_can_be_deleted_and_saved_in_one_transaction(self, databases: Databases) -> None:
        save(databases, an_item("A", stock=1))
        with open_tenant(databases) as uow:
            uow.items.find(A)
            uow.items.delete([A])
            assert uow.items.find(A) is None
            uow.items.save([an_item("A", stock=2)])
            uow.items.save([an_item("A", stock=3)])
            uow.commit()

        assert stock_of(queries(databases).item(A)) == 3

    def test_many_items_are_saved_and_found(self, databases: Databases) -> None:
        items = [an_item(f"{n:04}", stock=n) for n in range(MANY)]
        save(databases, *items)
        save(databases, *(an_item(f"{n:04}", stock=n + 1) for n in range(0, MANY, 2)), a_full_item("new"))

        with open_tenant(databases) as uow:
            found = uow.items.get([item.code for item in items])
        assert [stock_of(found[ItemCode(f"{n:04}")]) for n in range(4)] == [1, 1, 3, 3]
        assert len(found) == MANY
        assert queries(databases).count_items() == MANY + 1

    # reading

    def test_items_are_listed_by_code(self, databases: Databases) -> None:
        """By code point: capitals before small letters, those with accents last."""
        codes = ["a", "B", "A-10", "A 1", "b", "É", "A-2", "~"]
        save(databases, *(an_item(code) for code in codes))

        for limit in (1, 3, 50):
            forward = all_rows(queries(databases).items, limit=limit)
            assert [item.code for item in forward] == sorted(codes)
            back = all_rows(lambda page: queries(databases).items(page, sort="-code"), limit=limit)
            assert [item.code for item in back] == sorted(codes, reverse=True)

    def test_items_are_listed_by_their_latest_change(self, databases: Databases) -> None:
        save(
            databases,
            an_item("A", updated_at=NOON + MINUTE),
            an_item("B", updated_at=NOON),
            an_item("C", updated_at=NOON + MINUTE),
            an_item("D", updated_at=NOON + SECOND),
        )

        for limit in (1, 2, 50):
            forward = all_rows(lambda page: queries(databases).items(page, sort="updated_at"), limit=limit)
            assert [item.code for item in forward] == ["B", "D", "A", "C"]
            back = [i.code for i in all_rows(lambda p: queries(databases).items(p, sort="-updated_at"), limit=limit)]
            assert sorted(back[:2]) == ["A", "C"]
            assert back[2:] == ["D", "B"]

    def test_a_full_last_page_says_that_it_is_the_last(self, databases: Databases) -> None:
        save(databases, an_item("A"), an_item("B"))

        assert queries(databases).items(PageRequest(limit=2)).next is None
        assert queries(databases).items(PageRequest(limit=1)).next == ("A",)

    def test_a_search_finds_parts_of_codes_and_names(self, databases: Databases) -> None:
        save(
            databases,
            an_item("Table-1", name="Wooden thing"),
            an_item("X-1", name="A round TABLE"),
            an_item("X-2", name="Chair"),
            Item(code=ItemCode("X-3"), name=localised_text({"en": "Chair", "fr": "Étable"}), updated_at=NOON),
            an_item("X_4", name="100% wool"),
        )

        def found(search: str) -> list[str]:
            return [str(item.code) for item in queries(databases).items(PageRequest(), search=search).rows]

        assert found("table") == ["Table-1", "X-1", "X-3"]
        assert found("éTABLE") == ["X-3"]
        assert found("%") == ["X_4"]
        assert found("_") == ["X_4"]
        assert found("nowhere") == []

    def test_filters_narrow_every_page(self, databases: Databases) -> None:
        save(databases, *(an_item(f"{n:02}", updated_at=NOON + n * SECOND) for n in range(10)))

        later = all_rows(lambda page: queries(databases).items(page, updated_after=NOON + 6 * SECOND), limit=2)
        assert [item.code for item in later] == ["07", "08", "09"]
        assert [item.code for item in queries(databases).items(PageRequest(), code="04").rows] == ["04"]
        assert queries(databases).items(PageRequest(), code="4").rows == []


class OverlappingItemsContract(DatabasesContract):
    """For databases in which transactions overlap: a row that `find` did not see can still be added by another."""

    def test_a_twin_that_was_not_seen_is_not_overwritten(self, databases: Databases) -> None:
        for many in (False, True):
            code = ItemCode("many" if many else "few")
            others = [an_item(f"{n:04}") for n in range(MANY)] if many else []

            def overwrite(code: ItemCode = code, others: list[Item] = others) -> None:
                with open_tenant(databases) as uow:
                    assert uow.items.get([code, *(item.code for item in others)]) == {}
                    save(databases, an_item(code, stock=1))
                    uow.items.save([*others, an_item(code, stock=2)])
                    uow.commit()

            with pytest.raises(ChangedMeanwhile):
                overwrite()
            assert stock_of(queries(databases).item(code)) == 1

    def test_a_twin_that_was_seen_later_can_be_replaced(self, databases: Databases) -> None:
        with open_tenant(databases) as uow:
            assert uow.items.find(A) is None
            save(databases, an_item("A", stock=1))
            assert stock_of(uow.items.find(A)) == 1
            uow.items.save([an_item("A", stock=2)])
            uow.commit()

        assert stock_of(queries(databases).item(A)) == 2

    def test_rows_that_are_not_committed_are_seen_by_nobody(self, databases: Databases) -> None:
        with open_tenant(databases) as one, open_tenant(databases) as other:
            one.items.save([an_item("A")])

            assert other.items.find(A) is None
            one.commit()
            assert other.items.find(A) is not None


def save(databases: Databases, *items: Item) -> None:
    with open_tenant(databases) as uow:
        uow.items.save(items)
        uow.commit()
