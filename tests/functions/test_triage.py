from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import evolve

from ordersync_core.messaging.envelope import Envelope, encode
from ordersync_core.messaging.queue import MAXIMUM_DEATHS, Claim, Message
from ordersync_functions.triage import triage

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENVELOPE = Envelope(
    id=UUID(int=7),
    type="item.created",
    administration="demo",
    occurred_at=NOON,
    triggered_by="somebody",
    correlation_id="c",
    body={"number": 1, "administration": "other"},
)


def a_claim(body: bytes, **values: Any) -> Claim:
    claim = Claim(message=Message(send_id="1", body=body), token="t", deliveries=1, deaths=0, locked_until=NOON)
    return evolve(claim, **values)


def test_a_message_is_for_its_envelopes_administration_whatever_its_body_says() -> None:
    sorted_out = triage([a_claim(encode(ENVELOPE))], {"demo"})

    (task,) = sorted_out.tasks
    assert task.envelope == ENVELOPE
    assert task.envelope.context.administration == "demo"
    assert not sorted_out.hopeless


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[1,2]",
        b'{"id": 1}',
        b"[" * 100_000,
        orjson.dumps(orjson.loads(encode(ENVELOPE)) | {"version": 2}),
        orjson.dumps(orjson.loads(encode(ENVELOPE)) | {"surprise": 1}),
        encode(ENVELOPE).replace(b"somebody", b"some\\u0000body"),
    ],
)
def test_what_cannot_be_read_is_hopeless_with_a_reason(body: bytes) -> None:
    (hopeless,) = triage([a_claim(body)], {"demo"}).hopeless

    assert (hopeless.reason, hopeless.envelope) == ("Malformed", None)
    assert hopeless.description.startswith("the message cannot be read: ")


def test_an_administration_that_does_not_exist_is_hopeless() -> None:
    (hopeless,) = triage([a_claim(encode(ENVELOPE))], {"other"}).hopeless

    assert (hopeless.reason, hopeless.description) == ("UnknownAdministration", "there is no administration 'demo'")


def test_a_message_that_killed_its_process_too_often_is_hopeless() -> None:
    claims = [a_claim(encode(ENVELOPE), deaths=deaths) for deaths in (MAXIMUM_DEATHS - 1, MAXIMUM_DEATHS)]

    sorted_out = triage(claims, {"demo"})

    assert [task.claim.deaths for task in sorted_out.tasks] == [MAXIMUM_DEATHS - 1]
    assert [(each.reason, each.envelope) for each in sorted_out.hopeless] == [("KilledItsProcess", ENVELOPE)]
