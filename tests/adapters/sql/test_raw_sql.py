import contextlib
import re
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, insert, select

from ordersync_adapters.sql.bulk import FEW
from ordersync_adapters.sql.flows import FlowSqlQueries
from ordersync_adapters.sql.raw import SqlRaw
from ordersync_adapters.sql.tables.raw import CONNECTORS, raw_records
from ordersync_adapters.sql.transactions import commit
from ordersync_core.flows.model import KnownRecord, RawRecord
from ordersync_core.kernel.canonical import spelling
from ordersync_core.testing.strategies import item_codes, json_objects, known_records, names
from ordersync_core.testing.strategies import raw_records as records_of_a_source
from tests.adapters.sql.stores import Store, plans_of

EXACT = "exact_online"

SEVERAL = st.lists(records_of_a_source(), max_size=8, unique_by=lambda record: record.known.key)
stored_as_usual = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def raw_of(connection: Connection, connection_id: UUID | None = None, entity: str = "item") -> SqlRaw:
    return SqlRaw(connection, EXACT, connection_id or uuid4(), entity)


def applied(key: str, *, code: str | None = None, version: int = 1) -> RawRecord:
    known = KnownRecord(
        key=key, content_hash="h1", source_version=7, code=code, applied_hash="h1", applied_version=version
    )
    return RawRecord(known=known, raw={"key": key})


def all_of(raw: SqlRaw, connection: Connection) -> dict[str, RawRecord]:
    """What is stored, read around the repository's own reads."""
    table = raw_records(EXACT, connection.dialect.name)
    keys = list(connection.execute(select(table.c.key, table.c.raw).where(raw._ours)))
    known = raw.stored([row.key for row in keys]).known
    return {row.key: RawRecord(known=known[row.key], raw=row.raw) for row in keys}


@stored_as_usual
@given(records=SEVERAL, cursor=st.none() | json_objects())
def test_what_is_saved_comes_back_as_it_was(store: Store, records: list[RawRecord], cursor: dict[str, object]) -> None:
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save(records)
        raw.save_cursor(cursor)
        assert all_of(raw, connection) == {record.known.key: record for record in records}
        assert raw.stored([record.known.key for record in records]).spelled == {
            record.known.key: spelling(record.raw) for record in records
        }
        assert raw.cursor() == cursor


@stored_as_usual
@given(records=SEVERAL, data=st.data())
def test_saving_replaces_and_marking_leaves_the_record_as_it_is(
    store: Store, records: list[RawRecord], data: st.DataObject
) -> None:
    marks = {record.known.key: data.draw(known_records(keys=st.just(record.known.key))) for record in records[::2]}
    replacements = [
        data.draw(records_of_a_source(known=known_records(keys=st.just(r.known.key)))) for r in records[1::3]
    ]
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save(records)
        raw.mark(list(marks.values()))
        marked = {r.known.key: evolve(r, known=marks.get(r.known.key, r.known)) for r in records}
        assert all_of(raw, connection) == marked
        raw.save(replacements)
        assert all_of(raw, connection) == marked | {r.known.key: r for r in replacements}


@stored_as_usual
@given(records=SEVERAL, data=st.data(), meanwhile=st.sampled_from(("nothing", "marked", "deleted")))
def test_what_was_looked_at_is_replaced_whether_its_code_stays_or_not(
    store: Store, records: list[RawRecord], data: st.DataObject, meanwhile: str
) -> None:
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save(records)
        known = raw.stored([record.known.key for record in records]).known
        if meanwhile == "marked":
            raw.mark([record._replace(code="another") for record in known.values()])
        elif meanwhile == "deleted":
            raw.delete(list(known))
        codes = {key: record.code if data.draw(st.booleans()) else "one more" for key, record in known.items()}
        replacements = [data.draw(records_of_a_source(known=known_records(keys=st.just(key)))) for key in known]
        replacements = [evolve(r, known=r.known._replace(code=codes[r.known.key])) for r in replacements]
        raw.save(replacements)
        assert all_of(raw, connection) == {record.known.key: record for record in replacements}


@stored_as_usual
@given(records=SEVERAL, flow_version=st.integers(1, 5), limit=st.integers(1, 8))
def test_unapplied_are_those_built_of_other_content_or_for_another_version_of_the_flow(
    store: Store, records: list[RawRecord], flow_version: int, limit: int
) -> None:
    expected = {
        record.known.key: record
        for record in records
        if not record.known.dropped and not record.known.is_applied(flow_version)
    }
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save(records)
        found = raw.unapplied(flow_version, limit)
    assert len(found) == min(limit, len(expected))
    assert {record.known.key: record for record in found}.items() <= expected.items()
    assert len({record.known.key for record in found}) == len(found)


@stored_as_usual
@given(records=SEVERAL, others=st.lists(names(), max_size=3), data=st.data())
def test_questions_and_changes_by_key_concern_those_keys_only(
    store: Store, records: list[RawRecord], others: list[str], data: st.DataObject
) -> None:
    known = {record.known.key: record.known for record in records}
    keys = data.draw(st.lists(st.sampled_from([*known, *others, "no such key"]), unique=True))
    named = {key: known[key] for key in keys if key in known}
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save(records)
        assert raw.stored(keys).known == named
        assert raw.count() == (len(known), sum(record.dropped for record in known.values()))

        assert raw.drop(keys) == sum(not record.dropped for record in named.values())
        dropped = {key: record._replace(dropped=record.dropped or key in keys) for key, record in known.items()}
        assert raw.stored(list(known)).known == dropped
        assert raw.dropped(100) == sorted(
            (record for record in dropped.values() if record.dropped), key=lambda record: record.key
        )
        assert raw.drop(keys) == 0

        assert raw.reset_applied(keys) == len(named)
        forgotten = {
            key: record._replace(applied_hash=None, applied_version=None, quarantined=False) if key in keys else record
            for key, record in dropped.items()
        }
        assert raw.stored(list(known)).known == forgotten

        raw.delete(keys)
        assert raw.stored(list(known)).known == {key: record for key, record in forgotten.items() if key not in keys}


@stored_as_usual
@given(codes=st.lists(item_codes(), min_size=1, max_size=4, unique=True), asked=st.lists(item_codes(), max_size=2))
def test_the_holder_of_a_code_is_the_record_that_was_built_into_it(
    store: Store, codes: list[str], asked: list[str]
) -> None:
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save([applied(f"key {place}", code=code) for place, code in enumerate(codes)])
        raw.save([applied("without a code")])
        assert raw.holders([*codes, *asked]) == {code: f"key {place}" for place, code in enumerate(codes)}
        assert raw.holders([code for code in asked if code not in codes]) == {}


def test_connections_and_entities_do_not_see_each_other(store: Store) -> None:
    one, other = uuid4(), uuid4()
    with store.transaction() as connection:
        places = [raw_of(connection, one), raw_of(connection, one, "customer"), raw_of(connection, other)]
        for number, raw in enumerate(places):
            raw.save([applied("k", code=f"code {number}")])
            raw.save_cursor({"number": number})
        places[0].drop(["k"])
        places[0].reset_applied(["k"])
        assert [raw.count() for raw in places] == [(1, 1), (1, 0), (1, 0)]
        assert [raw.cursor() for raw in places] == [{"number": 0}, {"number": 1}, {"number": 2}]
        assert places[1].holders(["code 0", "code 1", "code 2"]) == {"code 1": "k"}
        assert places[2].unapplied(1, 10) == []
        places[0].save_cursor(None)
        places[0].delete(["k"])
        assert [raw.cursor() for raw in places] == [None, {"number": 1}, {"number": 2}]
        assert [raw.count() for raw in places] == [(0, 0), (1, 0), (1, 0)]


def test_a_batch_takes_few_statements_however_large_it_is(store: Store) -> None:
    def statements(size: int) -> int:
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement)

        records = [applied(f"{number:05}", code=f"code {number}") for number in range(size)]
        keys = [record.known.key for record in records]
        event.listen(store.writing, "before_cursor_execute", note)
        try:
            with store.transaction() as connection:
                raw = raw_of(connection)
                assert raw.stored(keys).known == {}
                raw.save(records)
                raw.mark([record.known for record in records])
                assert len(raw.unapplied(2, size)) == size
                assert len(raw.holders([f"code {number}" for number in range(size)])) == size
                assert raw.drop(keys) == size
                assert len(raw.dropped(size)) == size
                assert raw.reset_applied(keys) == size
                raw.delete(keys)
                assert raw.count() == (0, 0)
        finally:
            event.remove(store.writing, "before_cursor_execute", note)
        return len(seen)

    assert statements(5_000) == statements(FEW + 1) <= 20


def test_what_does_not_fit_into_jsonb_fits_into_a_raw_record(store: Store) -> None:
    raw_record = evolve(applied("k"), raw={"text": "\x00", "number": 1e300, "order": {"b": 1, "a": 2}})
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save([raw_record])
        (kept,) = raw.unapplied(2, 1)
        assert kept == raw_record
        assert list(kept.raw["order"]) == ["b", "a"]


def test_a_connector_without_raw_records_is_an_error(store: Store) -> None:
    with store.transaction() as connection, pytest.raises(KeyError):
        SqlRaw(connection, "unknown", uuid4(), "item")
    assert EXACT in CONNECTORS


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (lambda raw: raw.stored(["00001", "00002"]).known, "pk_records|sqlite_autoindex_exact_online_records_1"),
        (lambda raw: raw.holders(["code 1", "code 2"]), "ix_(exact_online_)?records_code"),
        (lambda raw: raw.drop(["00001", "00002"]), "pk_records|sqlite_autoindex_exact_online_records_1"),
        (lambda raw: raw.dropped(10), "ix_(exact_online_)?records_dropped"),
        (lambda raw: raw.unapplied(1, 10), "ix_(exact_online_)?records_(stale|applied_version)"),
    ],
    ids=["known", "holders", "drop", "dropped", "unapplied"],
)
def test_each_question_has_an_index_before_anyone_analysed_the_table(
    store: Store, question: Callable[[SqlRaw], object], index: str
) -> None:
    with store.transaction() as connection:
        raw = raw_of(connection)
        raw.save([applied(f"{number:05}", code=f"code {number}") for number in range(3_000)])
        plans = plans_of(connection, lambda: question(raw))
    assert plans
    for plan in plans:
        assert re.search(index, plan), plan


# The keys that a complete read has seen


def stored(store: Store, *keys: str) -> UUID:
    connection_id = uuid4()
    with store.transaction() as connection:
        raw_of(connection, connection_id).save([applied(key) for key in keys])
        raw_of(connection, connection_id, "customer").save([applied("of another entity")])
        raw_of(connection).save([applied("of another connection")])
        commit(connection)
    return connection_id


@stored_as_usual
@given(
    keys=st.lists(names(maximum=5), max_size=12, unique=True),
    strangers=st.lists(names(maximum=5), max_size=4),
    limit=st.integers(1, 5),
    data=st.data(),
)
def test_missing_are_stored_keys_that_were_not_seen(
    store: Store, keys: list[str], strangers: list[str], limit: int, data: st.DataObject
) -> None:
    seen = [*(data.draw(st.lists(st.sampled_from(keys), max_size=12)) if keys else []), *strangers]
    dropped = data.draw(st.sets(st.sampled_from(keys))) if keys else set()
    connection_id = stored(store, *keys)
    with store.transaction() as connection:
        raw_of(connection, connection_id).drop(list(dropped))
        commit(connection)
    with FlowSqlQueries(store.read).keys_seen(EXACT, connection_id, "item") as read:
        read.add(seen[::2])
        read.add(seen[1::2])
        read.add([])
        pages = list(read.missing(limit))
    missing = [key for page in pages for key in page]
    assert missing == sorted(set(keys) - set(seen) - dropped)
    assert all(len(page) == limit for page in pages[:-1])
    assert all(pages)


def test_missing_keys_may_be_dropped_page_by_page(store: Store) -> None:
    keys = [f"{number:03}" for number in range(25)]
    connection_id = stored(store, *keys)
    found: list[str] = []
    with FlowSqlQueries(store.read).keys_seen(EXACT, connection_id, "item") as read:
        read.add(["003"])
        for page in read.missing(10):
            found += page
            with store.transaction() as connection:
                raw_of(connection, connection_id).drop(page)
                commit(connection)
    assert found == [key for key in keys if key != "003"]


def test_what_a_read_has_seen_vanishes_with_its_block_and_leaves_a_connection_that_only_reads(store: Store) -> None:
    connection_id = stored(store, "k")
    queries = FlowSqlQueries(store.read)
    with contextlib.suppress(ZeroDivisionError), queries.keys_seen(EXACT, connection_id, "item") as read:
        read.add(["k"])
        raise ZeroDivisionError
    with queries.keys_seen(EXACT, connection_id, "item") as read:
        assert list(read.missing(10)) == [["k"]]
    table = raw_records(EXACT, store.reading.dialect.name)
    with store.read() as connection, pytest.raises(Exception, match=r"read-?\s?only"):
        connection.execute(insert(table).values(connection_id=connection_id, entity="item", key="x", raw={}))


def test_two_reads_at_once_do_not_see_each_other(store: Store) -> None:
    connection_id = stored(store, "a", "b")
    queries = FlowSqlQueries(store.read)
    with (
        queries.keys_seen(EXACT, connection_id, "item") as one,
        queries.keys_seen(EXACT, connection_id, "item") as other,
    ):
        one.add(["a"])
        other.add(["b"])
        assert list(one.missing(10)) == [["b"]]
        assert list(other.missing(10)) == [["a"]]


def test_a_read_holds_no_snapshot(store: Store) -> None:
    """Between two statements the database may forget everything that was written over meanwhile."""
    connection_id = stored(store, "a", "b")
    with FlowSqlQueries(store.read).keys_seen(EXACT, connection_id, "item") as read:
        read.add(["a"])
        pages = read.missing(1)
        assert next(pages) == ["b"]
        with store.transaction() as connection:
            raw_of(connection, connection_id).save([applied("c")])
            commit(connection)
        with store.writing.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if store.is_postgres:
                held = connection.exec_driver_sql(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)"
                )
                assert held.scalar_one() == 0
            else:
                busy, log, checkpointed = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                assert (busy, log, checkpointed) == (0, 0, 0)
        assert next(pages) == ["c"]
