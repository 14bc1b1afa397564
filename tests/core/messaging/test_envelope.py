"""Messages on the wire: what is well-formed takes a short way, and comes out as the general decoder has it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.kernel.decoding import decode, parse
from ordersync_core.kernel.errors import InvalidInput, Violation
from ordersync_core.messaging import envelope as wire
from ordersync_core.messaging.envelope import Envelope, decode_envelope, encode
from ordersync_core.testing.strategies import moments, names

BODIES = st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.none() | st.text(max_size=5), max_size=3)
ENVELOPES = st.builds(
    Envelope,
    id=st.uuids(),
    type=names(),
    version=st.integers(1, 3),
    administration=names(),
    occurred_at=moments(),
    triggered_by=st.text(max_size=10),
    correlation_id=names(),
    traceparent=st.none() | st.text(max_size=10),
    body=BODIES,
)
FIELDS = tuple(field.name for field in fields(Envelope))
WELL_FORMED = orjson.loads(
    encode(
        Envelope(
            id=UUID(int=7),
            type="item.created",
            administration="demo",
            occurred_at=datetime(2026, 5, 1, 12, tzinfo=UTC),
            triggered_by="somebody",
            correlation_id="c",
            body={"number": 1},
        )
    )
)
VALUES: list[Any] = [
        None, True, False, 0, 1, 1.0, -1, "", "\0", "a\0b", "text", [], {}, ["x"], {"a\0": 1}, {"": {"\0": "\0"}},
        "2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31", "20260131T120000+01", "2026-13-01T00:00:00Z",
        "{0b6f6a9e-6c1c-4a0e-9d2e-2f3a4b5c6d7e}", "0b6f6a9e6c1c4a0e9d2e2f3a4b5c6d7e", "0b6f6a9e-6c1c-4a0e-9d2e",
        "urn:uuid:0B6F6A9E-6C1C-4A0E-9D2E-2F3A4B5C6D7E",
    ]  # fmt: skip


def outcome(text: bytes) -> Envelope | tuple[str, tuple[Violation, ...]]:
    try:
        return decode_envelope(text)
    except InvalidInput as error:
        return str(error), error.violations


def outcome_of_the_general_decoder(text: bytes) -> Envelope | tuple[str, tuple[Violation, ...]]:
    try:
        envelope = decode(parse(text), Envelope)
    except InvalidInput as error:
        return str(error), error.violations
    if envelope.version != 1:
        return f"message version {envelope.version} of {envelope.type} is not known here", ()
    return envelope


@given(envelope=ENVELOPES.filter(lambda envelope: "\\u0000" not in encode(envelope).decode()))
def test_what_we_send_arrives_by_the_short_way(envelope: Envelope) -> None:
    assert wire._well_formed(parse(encode(envelope))) == envelope


@pytest.mark.parametrize("name", [*FIELDS, "surprise"])
def test_a_malformed_field_is_refused_as_the_general_decoder_refuses_it(name: str) -> None:
    for value in VALUES:
        text = orjson.dumps(WELL_FORMED | {name: value})
        assert outcome(text) == outcome_of_the_general_decoder(text), value


@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(VALUES), max_size=3),
    gone=st.sets(st.sampled_from(FIELDS), max_size=2),
)
def test_so_is_any_other_malformed_message(changes: dict[str, Any], gone: set[str]) -> None:
    text = orjson.dumps({name: value for name, value in (WELL_FORMED | changes).items() if name not in gone})

    assert outcome(text) == outcome_of_the_general_decoder(text)


def test_what_is_no_object_is_refused_likewise() -> None:
    for value in VALUES:
        text = orjson.dumps(value)
        assert outcome(text) == outcome_of_the_general_decoder(text), value
