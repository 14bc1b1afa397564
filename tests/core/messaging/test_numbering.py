"""What a number makes of an outbox row."""

import orjson
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.notification import Effect
from ordersync_core.messaging.model import OutboxRow, number_rows
from ordersync_core.testing.strategies import outbox_rows


@given(rows=st.lists(outbox_rows(), max_size=4), last_number=st.integers(0, 2**40))
def test_each_row_gets_the_next_number_and_a_body_that_tells_the_fact(rows: list[OutboxRow], last_number: int) -> None:
    numbering = number_rows(rows, {}, last_number=last_number, administration="demo")

    assert numbering.last_number == last_number + len(rows)
    for place, (row, numbered) in enumerate(zip(rows, numbering.numbered, strict=True), start=1):
        number = last_number + place
        assert numbered == evolve(row, number=number, body=numbered.body, tickets=1, before={}, after=None)
        assert orjson.loads(numbered.body or b"") == {
            "type": row.event_type,
            "timestamp": rfc3339(row.occurred_at),
            "id": str(row.id),
            "sequence": number,
            "administration": "demo",
            "triggered_by": row.triggered_by,
            "data": {
                "code": row.key,
                row.entity_type: row.after,
                "changed": sorted(row.before) if row.effect is Effect.UPDATE else [],
                "before": row.before,
            },
        }
