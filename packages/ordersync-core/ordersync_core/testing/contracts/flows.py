"""Flows, the execution log, quarantine, raw records with their cursor, and the keys that a read has seen."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from attrs import evolve

from ordersync_core.flows.model import Counts, Flow, FlowKind, Guard, KnownRecord, Quarantined, RawRecord, Step
from ordersync_core.kernel.canonical import spelling
from ordersync_core.kernel.paging import PageRequest
from ordersync_core.kernel.unit_of_work import Databases
from ordersync_core.testing.contracts.databases import (
    BETA,
    DatabasesContract,
    all_rows,
    hesitate,
    open_tenant,
    queries,
    retried,
    together,
)
from ordersync_core.testing.contracts.examples import (
    CONNECTOR,
    ENTITY,
    MINUTE,
    NOON,
    SECOND,
    a_flow,
    a_quarantined,
    a_record,
    an_applied_record,
    an_execution,
    new_id,
)

ITEM = FlowKind.ITEM


class FlowsContract(DatabasesContract):
    def test_a_flow_comes_back_as_it_was_saved(self, databases: Databases) -> None:
        flow = a_flow(guard=Guard(floor=3, ratio=Decimal("0.125")), version=4)
        with open_tenant(databases) as uow:
            assert uow.flows.find(ITEM) is None
        assert queries(databases).flow(ITEM) is None
        save_flow(databases, flow)

        with open_tenant(databases) as uow:
            assert uow.flows.find(ITEM) == flow
        assert queries(databases).flow(ITEM) == flow

    def test_saving_a_flow_again_replaces_it(self, databases: Databases) -> None:
        save_flow(databases, a_flow())
        changed = a_flow(source=Step(connection_id=new_id(), aspects=("images",)), version=2)
        save_flow(databases, changed)

        assert queries(databases).flow(ITEM) == changed

    def test_no_version_of_a_flow_is_lost(self, databases: Databases) -> None:
        """Also not when twins set it up at once: one of them sees the other's."""

        def set_up() -> None:
            with open_tenant(databases) as uow:
                kept = uow.flows.find(ITEM)
                hesitate()
                uow.flows.save(a_flow() if kept is None else evolve(kept, version=kept.version + 1))
                uow.commit()

        together(*[lambda: retried(set_up)] * 6)

        assert queries(databases).flow(ITEM).version == 6

    # the execution log

    def test_an_execution_comes_back_as_it_was_saved(self, databases: Databases) -> None:
        running = an_execution()
        ended = an_execution(
            ended_at=NOON + MINUTE,
            complete_read=True,
            cursor={"timestamp": 7, "deep": {"list": [1, None]}},
            answered=("B", "a"),
            counts=Counts(read=15, created=1, updated=2, deleted=3, unchanged=4, quarantined=5),
            held=6,
        )
        at_the_beginning = an_execution(cursor={})
        save_executions(databases, running, ended, at_the_beginning)

        for execution in (running, ended, at_the_beginning):
            with open_tenant(databases) as uow:
                assert uow.executions.find(execution.run_id) == execution
            assert queries(databases).execution(execution.run_id) == execution
        with open_tenant(databases) as uow:
            assert uow.executions.find(new_id()) is None
        assert queries(databases).execution(new_id()) is None

    def test_an_execution_goes_on_counting(self, databases: Databases) -> None:
        execution = an_execution()
        save_executions(databases, execution)
        later = evolve(execution.add(Counts(read=5, created=5)), ended_at=NOON + MINUTE, held=1)
        save_executions(databases, later)

        assert queries(databases).execution(execution.run_id) == later

    def test_no_count_of_an_execution_is_lost(self, databases: Databases) -> None:
        execution = an_execution()
        save_executions(databases, execution)

        def count() -> None:
            with open_tenant(databases) as uow:
                kept = uow.executions.find(execution.run_id)
                hesitate()
                uow.executions.save(kept.add(Counts(read=1)))
                uow.commit()

        together(*[lambda: retried(count)] * 6)

        assert queries(databases).execution(execution.run_id).counts == Counts(read=6)

    def test_executions_are_listed_the_newest_first(self, databases: Databases) -> None:
        falling = sorted((new_id() for _ in range(7)), reverse=True)
        executions = [an_execution(run_id=id, started_at=NOON + n * SECOND) for n, id in enumerate(falling)]
        save_executions(databases, *executions)

        for limit in (1, 3, 50):
            listed = all_rows(lambda page: queries(databases).executions(ITEM, page), limit=limit)
            assert listed == executions[::-1]

    # quarantine

    def test_an_entry_comes_back_as_it_was_saved(self, databases: Databases) -> None:
        entry = a_quarantined("K-1", reason="the “code” is empty", raw={"Code": "", "nul": "a\x00b", "n": [1, None]})
        broken = a_quarantined("broken:1", raw=["not", "an", "object"])
        quarantine(databases, entry, broken)

        assert queries(databases).quarantine(ITEM, PageRequest()).rows == [entry, broken]

    def test_an_entry_keeps_since_when_it_lies_there(self, databases: Databases) -> None:
        quarantine(databases, a_quarantined("K"))
        quarantine(databases, a_quarantined("K", reason="another", raw={"v": 2}, since=NOON + MINUTE))

        (entry,) = queries(databases).quarantine(ITEM, PageRequest()).rows
        assert entry == Quarantined(key="K", reason="another", raw={"v": 2}, since=NOON)

    def test_a_cleared_entry_is_gone(self, databases: Databases) -> None:
        quarantine(databases, *(a_quarantined(key) for key in "ABC"))
        with open_tenant(databases) as uow:
            uow.quarantine.clear(ITEM, ["A", "C", "never there"])
            uow.quarantine.clear(ITEM, [])
            uow.commit()

        with open_tenant(databases) as uow:
            assert uow.quarantine.keys(ITEM) == ["B"]

    def test_a_cleared_entry_lies_there_anew(self, databases: Databases) -> None:
        quarantine(databases, a_quarantined("K"))
        with open_tenant(databases) as uow:
            uow.quarantine.clear(ITEM, ["K"])
            uow.quarantine.save(ITEM, [a_quarantined("K", since=NOON + MINUTE)])
            uow.commit()

        (entry,) = queries(databases).quarantine(ITEM, PageRequest()).rows
        assert entry.since == NOON + MINUTE

    def test_the_quarantine_is_listed_by_key(self, databases: Databases) -> None:
        keys = ["b", "A", "a", "10", "2", "É"]
        quarantine(databases, *(a_quarantined(key) for key in keys))

        for limit in (1, 4, 50):
            listed = all_rows(lambda page: queries(databases).quarantine(ITEM, page), limit=limit)
            assert [entry.key for entry in listed] == sorted(keys)


class RawRecordsContract(DatabasesContract):
    # the cursor

    def test_the_cursor_comes_back_as_it_was_saved(self, databases: Databases) -> None:
        place = new_id()
        assert cursor(databases, place) is None
        for saved in ({"timestamp": 7}, {"page": None, "deep": {"list": [1, "x"]}}, {}, None, {"timestamp": 8}):
            save_cursor(databases, place, saved)
            assert cursor(databases, place) == saved

    def test_each_entity_of_each_connection_has_its_own_cursor(self, databases: Databases) -> None:
        one, other = new_id(), new_id()
        save_cursor(databases, one, {"n": 1})
        save_cursor(databases, other, {"n": 2})
        with open_tenant(databases) as uow:
            uow.raw(CONNECTOR, one, "customer").save_cursor({"n": 3})
            uow.commit()
        save_cursor(databases, other, None)

        assert (cursor(databases, one), cursor(databases, other)) == ({"n": 1}, None)
        with open_tenant(databases) as uow:
            assert uow.raw(CONNECTOR, one, "customer").cursor() == {"n": 3}

    # records

    def test_a_record_comes_back_as_the_source_sent_it(self, databases: Databases) -> None:
        place = new_id()
        strange = {"Code": " a ", "nul": "a\x00b", "b": 1.5, "a": [True, None, {"é": "🪑"}], "big": 2**53}
        record = a_record("K-1", raw=strange, source_version=2**40)
        without = a_record("K-2", source_version=None)
        save(databases, place, record, without)

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.unapplied(1, 10) == [record, without]
            assert raw.stored(["K-2", "K-1", "never there"]).known == {"K-1": record.known, "K-2": without.known}
            assert raw.stored([]).known == {}
            assert raw.stored(["K-1", "never there"]).spelled == {"K-1": spelling(strange)}

    def test_everything_known_comes_back(self, databases: Databases) -> None:
        place = new_id()
        known = KnownRecord(
            key="K",
            content_hash="a",
            source_version=7,
            code="A-1",
            applied_hash="b",
            applied_version=3,
            quarantined=True,
            dropped=True,
        )
        save(databases, place, RawRecord(known=known, raw={}))

        assert self.known(databases, place, "K") == known

    def test_saving_again_replaces(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, a_record("K"), a_record("L"))
        changed = a_record("K", raw={"v": 2}, content_hash="other", source_version=2, code="C")
        save(databases, place, changed)

        with open_tenant(databases) as uow:
            assert uow.raw(CONNECTOR, place, ENTITY).unapplied(1, 10) == [changed, a_record("L")]

    def test_marking_leaves_the_raw_record_as_it_is(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, a_record("K", raw={"v": 1}), a_record("L"))
        known = a_record("K").known._replace(code="C", applied_hash="old", applied_version=1, quarantined=True)
        with open_tenant(databases) as uow:
            uow.raw(CONNECTOR, place, ENTITY).mark([known, a_record("never there").known])
            uow.raw(CONNECTOR, place, ENTITY).mark([])
            uow.commit()

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.unapplied(1, 10) == [RawRecord(known=known, raw={"v": 1}), a_record("L")]
            assert raw.count() == (2, 0)

    def test_many_records_are_saved_and_marked(self, databases: Databases) -> None:
        place = new_id()
        records = [a_record(f"{n:04}") for n in range(300)]
        save(databases, place, *records)
        applied = [an_applied_record(f"{n:04}") for n in range(200)]
        save(databases, place, *applied[:100])
        with open_tenant(databases) as uow:
            uow.raw(CONNECTOR, place, ENTITY).mark([record.known for record in applied[100:]])
            uow.commit()

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.unapplied(1, 1_000) == records[200:]
            assert len(raw.stored([record.known.key for record in records]).known) == 300

    def test_the_versions_of_tombstones_are_kept(self, databases: Databases) -> None:
        """Whether or not there is a record; each place has its own."""
        place, elsewhere = new_id(), new_id()
        save(databases, place, a_record("K", source_version=1))
        self.save_tombstones(databases, place, {"K": 5, "never there": 2**40, "É": 1})
        self.save_tombstones(databases, place, {"K": 7})
        self.save_tombstones(databases, place, {})
        self.save_tombstones(databases, elsewhere, {"K": 9})

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.tombstones(["K", "never there", "L"]) == {"K": 7, "never there": 2**40}
            assert raw.tombstones([]) == {}
            assert raw.count() == (1, 0)
            raw.delete(["K"])
            assert raw.tombstones(["K", "É"]) == {"K": 7, "É": 1}
            assert uow.raw(CONNECTOR, elsewhere, ENTITY).tombstones(["K", "É"]) == {"K": 9}
            assert uow.raw(CONNECTOR, place, "customer").tombstones(["K"]) == {}

    def test_many_tombstones_are_kept(self, databases: Databases) -> None:
        place = new_id()
        versions = {f"{n:04}": n for n in range(300)}
        self.save_tombstones(databases, place, versions)
        self.save_tombstones(databases, place, {key: version + 1 for key, version in versions.items()})

        with open_tenant(databases) as uow:
            found = uow.raw(CONNECTOR, place, ENTITY).tombstones(list(versions))
        assert found == {key: version + 1 for key, version in versions.items()}

    def test_what_is_in_quarantine_or_not_built_is_waiting(self, databases: Databases) -> None:
        place = new_id()
        refused = an_applied_record("refused", quarantined=True)
        never, older = a_record("never"), an_applied_record("older content", applied_hash="older")
        save(
            databases,
            place,
            refused,
            never,
            older,
            an_applied_record("built"),
            an_applied_record("dropped", quarantined=True, dropped=True),
            an_applied_record("not asked for", quarantined=True),
        )

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            asked = ["refused", "older content", "never", "built", "dropped", "never there"]
            assert raw.waiting(asked) == [never, older, refused]
            assert raw.waiting([]) == []

    def test_what_was_built_otherwise_is_unapplied(self, databases: Databases) -> None:
        """Never built, of other content, for another version of the flow; but not what the source dropped."""
        place = new_id()
        save(
            databases,
            place,
            a_record("never"),
            an_applied_record("older content", applied_hash="older"),
            an_applied_record("older flow", flow_version=1),
            an_applied_record("newer flow", flow_version=3),
            an_applied_record("no version", flow_version=2, applied_version=None),
            an_applied_record("current", flow_version=2),
            an_applied_record("refused", flow_version=2, quarantined=True),
            a_record("dropped", dropped=True),
        )

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            left_over = {record.known.key for record in raw.unapplied(2, 10)}
            assert left_over == {"never", "older content", "older flow", "newer flow", "no version"}
            assert len(raw.unapplied(2, 2)) == 2

    def test_holders_of_codes_are_named(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, an_applied_record("K-1", code="A"), an_applied_record("K-2", code="B"), a_record("K-3"))

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.holders(["A", "C"]) == {"A": "K-1"}
            assert raw.holders(["A", "B", "a"]) == {"A": "K-1", "B": "K-2"}
            assert raw.holders([]) == {}

    def test_what_the_source_dropped_holds_no_code(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, an_applied_record("K-1", code="A", dropped=True), an_applied_record("K-2", code="B"))
        with open_tenant(databases) as uow:
            assert uow.raw(CONNECTOR, place, ENTITY).holders(["A", "B"]) == {"B": "K-2"}

        save(databases, place, an_applied_record("K-3", code="A"))
        with open_tenant(databases) as uow:
            assert uow.raw(CONNECTOR, place, ENTITY).holders(["A", "B"]) == {"A": "K-3", "B": "K-2"}

    def test_what_the_source_dropped_is_marked_once(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, *(an_applied_record(key) for key in "CABD"))

        assert self.drop(databases, place, "B", "A", "never there") == 2
        assert self.drop(databases, place, "B", "C") == 1
        assert self.drop(databases, place) == 0

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert [known.key for known in raw.dropped(10)] == ["A", "B", "C"]
            assert [known.key for known in raw.dropped(2)] == ["A", "B"]
            assert raw.dropped(1) == [an_applied_record("A", dropped=True).known]
            assert raw.count() == (4, 3)

    def test_deleted_records_are_gone(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, *(a_record(key) for key in "ABC"))
        with open_tenant(databases) as uow:
            uow.raw(CONNECTOR, place, ENTITY).delete(["A", "C", "never there"])
            uow.raw(CONNECTOR, place, ENTITY).delete([])
            uow.commit()

        with open_tenant(databases) as uow:
            assert list(uow.raw(CONNECTOR, place, ENTITY).stored(list("ABC")).known) == ["B"]

    def test_a_record_can_be_built_anew(self, databases: Databases) -> None:
        place = new_id()
        save(
            databases,
            place,
            an_applied_record("built", quarantined=True),
            an_applied_record("other"),
            a_record("never built"),
        )
        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.reset_applied(["built", "never there"]) == 1
            assert raw.reset_applied([]) == 0
            uow.commit()

        known = self.known(databases, place, "built")
        assert (known.applied_hash, known.applied_version, known.code) == (None, None, "built")
        with open_tenant(databases) as uow:
            left_over = uow.raw(CONNECTOR, place, ENTITY).unapplied(1, 10)
        assert {record.known.key for record in left_over} == {"built", "never built"}

    def test_records_of_other_entities_and_connections_do_not_mix(self, databases: Databases) -> None:
        place, elsewhere = new_id(), new_id()
        save(databases, place, an_applied_record("K", code="A"))
        save(databases, elsewhere, an_applied_record("K", code="B", dropped=True), a_record("L"))
        with open_tenant(databases) as uow:
            uow.raw(CONNECTOR, place, "customer").save([a_record("K", dropped=True)])
            uow.commit()

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert raw.count() == (1, 0)
            assert raw.holders(["A", "B"]) == {"A": "K"}
            assert (raw.unapplied(1, 10), raw.dropped(10)) == ([], [])
            raw.delete(["K", "L"])
            raw.reset_applied(["K"])
            assert uow.raw(CONNECTOR, elsewhere, ENTITY).count() == (2, 1)
            assert uow.raw(CONNECTOR, place, "customer").count() == (1, 1)

    def test_records_that_are_not_committed_were_never_saved(self, databases: Databases) -> None:
        place = new_id()
        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            raw.save([a_record("K")])
            raw.save_cursor({"n": 1})
            assert raw.count() == (1, 0)

        with open_tenant(databases) as uow:
            raw = uow.raw(CONNECTOR, place, ENTITY)
            assert (raw.count(), raw.cursor()) == ((0, 0), None)

    # what a complete read has seen

    def test_what_was_not_seen_is_missing(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, *(a_record(key) for key in ("A", "B", "C", "É", "z")), a_record("D", dropped=True))

        with queries(databases).keys_seen(CONNECTOR, place, ENTITY) as seen:
            assert keys(seen.missing(2)) == ["A", "B", "C", "z", "É"]
            seen.add(["B", "new"])
            seen.add(["z", "B"])
            seen.add([])
            pages = list(seen.missing(2))
        assert pages == [["A", "C"], ["É"]]

    def test_nothing_is_missing_when_all_was_seen(self, databases: Databases) -> None:
        place = new_id()
        records = [a_record(f"{n:04}") for n in range(500)]
        save(databases, place, *records)

        with queries(databases).keys_seen(CONNECTOR, place, ENTITY) as seen:
            seen.add([record.known.key for record in records])
            assert list(seen.missing(100)) == []

    def test_the_missing_can_be_dropped_on_the_way(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, *(a_record(f"{n:02}") for n in range(25)))

        dropped = []
        with queries(databases).keys_seen(CONNECTOR, place, ENTITY) as seen:
            seen.add(["03", "10"])
            for missing in seen.missing(4):
                assert 1 <= len(missing) <= 4
                dropped += missing
                self.drop(databases, place, *missing)
        assert dropped == [f"{n:02}" for n in range(25) if n not in (3, 10)]

    def test_what_is_stored_during_the_read_counts(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, a_record("old"))
        with queries(databases).keys_seen(CONNECTOR, place, ENTITY) as seen:
            save(databases, place, a_record("new"))
            seen.add(["new"])
            assert keys(seen.missing(10)) == ["old"]

    def test_what_was_seen_is_forgotten_with_the_block(self, databases: Databases) -> None:
        place = new_id()
        save(databases, place, a_record("A"))
        with queries(databases).keys_seen(CONNECTOR, place, ENTITY) as seen:
            seen.add(["A"])

        with queries(databases).keys_seen(CONNECTOR, place, ENTITY) as seen:
            assert keys(seen.missing(10)) == ["A"]

    def test_two_reads_at_once_do_not_mix(self, databases: Databases) -> None:
        place, elsewhere = new_id(), new_id()
        save(databases, place, a_record("A"), a_record("B"))
        save(databases, elsewhere, a_record("C"))
        with open_tenant(databases, BETA) as uow:
            uow.raw(CONNECTOR, place, ENTITY).save([a_record("A")])
            uow.commit()

        with (
            queries(databases).keys_seen(CONNECTOR, place, ENTITY) as one,
            queries(databases).keys_seen(CONNECTOR, elsewhere, ENTITY) as other,
            queries(databases, BETA).keys_seen(CONNECTOR, place, ENTITY) as beta,
        ):
            one.add(["A"])
            other.add(["B"])
            assert keys(one.missing(10)) == ["B"]
            assert keys(other.missing(10)) == ["C"]
            assert keys(beta.missing(10)) == ["A"]

    def known(self, databases: Databases, place: UUID, key: str) -> KnownRecord:
        with open_tenant(databases) as uow:
            record: KnownRecord = uow.raw(CONNECTOR, place, ENTITY).stored([key]).known[key]
            return record

    def save_tombstones(self, databases: Databases, place: UUID, versions: dict[str, int]) -> None:
        with open_tenant(databases) as uow:
            uow.raw(CONNECTOR, place, ENTITY).save_tombstones(versions)
            uow.commit()

    def drop(self, databases: Databases, place: UUID, *keys: str) -> int:
        with open_tenant(databases) as uow:
            count: int = uow.raw(CONNECTOR, place, ENTITY).drop(keys)
            uow.commit()
            return count


def save_flow(databases: Databases, flow: Flow) -> None:
    with open_tenant(databases) as uow:
        uow.flows.save(flow)
        uow.commit()


def save_executions(databases: Databases, *executions: Any) -> None:
    with open_tenant(databases) as uow:
        for execution in executions:
            uow.executions.save(execution)
        uow.commit()


def quarantine(databases: Databases, *entries: Quarantined) -> None:
    with open_tenant(databases) as uow:
        uow.quarantine.save(ITEM, entries)
        uow.commit()


def save(databases: Databases, place: UUID, *records: RawRecord) -> None:
    with open_tenant(databases) as uow:
        uow.raw(CONNECTOR, place, ENTITY).save(records)
        uow.commit()


def cursor(databases: Databases, place: UUID) -> Any:
    with open_tenant(databases) as uow:
        return uow.raw(CONNECTOR, place, ENTITY).cursor()


def save_cursor(databases: Databases, place: UUID, value: Any) -> None:
    with open_tenant(databases) as uow:
        uow.raw(CONNECTOR, place, ENTITY).save_cursor(value)
        uow.commit()


def keys(pages: Any) -> list[str]:
    return [key for page in pages for key in page]
