import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, text, update
from sqlalchemy.exc import StatementError

from ordersync_adapters.sql.engines import create_sqlite_file, writing_engine
from ordersync_adapters.sql.metadata import JsonText
from ordersync_adapters.sql.types import (
    Moment,
    Uuid,
    database_moment,
    from_microseconds,
    to_json,
    to_microseconds,
    to_uuid,
)

metadata = MetaData()
rows = Table(
    "rows",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Moment),
    Column("document", JsonText),
    Column("id", Uuid),
)

moments = st.datetimes(timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)

Keep = Callable[..., Any]
"""Write a row with these values and answer the row that is read back."""


@pytest.fixture(params=["sqlite", "postgres"])
def keep(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keep]:
    if request.param == "sqlite":
        create_sqlite_file(tmp_path / "types.db")
        url = f"sqlite:///{tmp_path}/types.db"
    else:
        url = request.getfixturevalue("postgres_database")
    engine = writing_engine(url, keep=1)
    with engine.begin() as connection:
        metadata.create_all(connection)

    def write_and_read(**values: object) -> Any:
        with engine.connect() as connection:
            number = connection.execute(insert(rows).values(values).returning(rows.c.number)).scalar_one()
            return connection.execute(select(rows).where(rows.c.number == number)).one()

    yield write_and_read
    engine.dispose()


several_examples = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@several_examples
@given(at=moments, document=documents, id=st.uuids())
def test_values_come_back_as_they_were(keep: Keep, at: datetime, document: object, id: UUID) -> None:
    row = keep(at=at, document=document, id=id)

    assert (row.at, row.document, row.id) == (at, document, id)
    assert row.at.tzinfo is UTC


def test_nothing_comes_back_as_nothing(keep: Keep) -> None:
    row = keep(at=None, document=None, id=None)

    assert (row.at, row.document, row.id) == (None, None, None)


def test_a_moment_in_another_zone_comes_back_in_utc(keep: Keep) -> None:
    row = keep(at=datetime(2026, 7, 1, 14, 30, tzinfo=timezone(timedelta(hours=2))))

    assert row.at == datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
    assert row.at.tzinfo is UTC


def test_a_moment_without_a_zone_is_refused(keep: Keep) -> None:
    with pytest.raises(StatementError, match="has no time zone"):
        keep(at=datetime(2026, 7, 1, 12, 30))  # noqa: DTZ001


@given(at=moments)
def test_microseconds_are_exact(at: datetime) -> None:
    assert from_microseconds(to_microseconds(at)) == at


@given(id=st.uuids())
def test_an_id_from_its_stored_text_is_like_any_other(id: UUID) -> None:
    read = to_uuid(str(id))
    assert (read, hash(read), repr(read), read.is_safe) == (id, hash(id), repr(id), id.is_safe)
    assert pickle.loads(pickle.dumps(read)) == id


def test_json_for_the_driver_is_compact_and_refuses_what_json_does_not_know() -> None:
    assert to_json({"name": {"nl": "é"}, "units": [1, None]}) == '{"name":{"nl":"é"},"units":[1,null]}'
    with pytest.raises(TypeError):
        to_json({1, 2})


def test_on_sqlite_the_stored_forms_are_plain(tmp_path: Path) -> None:
    create_sqlite_file(tmp_path / "plain.db")
    with writing_engine(f"sqlite:///{tmp_path}/plain.db").begin() as connection:
        metadata.create_all(connection)
        at, id = datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC), UUID(int=0x0190 << 112)
        connection.execute(insert(rows).values(at=at, document={"a": 1}, id=id))

        stored = connection.execute(text("SELECT at, document, id, typeof(at), typeof(id) FROM rows")).one()

    assert tuple(stored) == (1_000_005, '{"a":1}', str(id), "integer", "text")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_the_databases_moment_can_be_written_and_compared(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if database == "sqlite":
        create_sqlite_file(tmp_path / "moment.db")
        url = f"sqlite:///{tmp_path}/moment.db"
    else:
        url = request.getfixturevalue("postgres_database")

    present = select(database_moment())
    with writing_engine(url).begin() as connection:
        metadata.create_all(connection)
        before = connection.execute(present).scalar_one()
        connection.execute(insert(rows).values(at=database_moment()))
        connection.execute(insert(rows).values(at=before))
        connection.execute(update(rows).where(rows.c.number == 2).values(at=database_moment(plus=timedelta(minutes=1))))
        after = connection.execute(present).scalar_one()
        now, later = connection.execute(select(rows.c.at).order_by(rows.c.number)).scalars()

        due = select(func.count()).where(rows.c.at <= database_moment())
        due_in_two_minutes = select(func.count()).where(rows.c.at <= database_moment(plus=timedelta(minutes=2)))
        assert connection.execute(due).scalar_one() == 1
        assert connection.execute(due_in_two_minutes).scalar_one() == 2

    assert before <= now <= after
    assert before + timedelta(minutes=1) <= later <= after + timedelta(minutes=1)
