"""What travels on the queues: a ticket for a row, with who, when and why."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from attrs import fields, frozen

from ordersync_core.kernel.context import Context
from ordersync_core.kernel.decoding import decode, parse
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.moments import json_moment

EVENTS = "events"
WEBHOOKS = "webhooks"
QUEUED_JOBS = "queued-jobs"
QUEUES = (EVENTS, WEBHOOKS, QUEUED_JOBS)


@frozen(kw_only=True)
class Envelope:
    """`id` is stable over every repetition of the message: it is the inbox's key.

    body: what the consumer needs to find the row; the row is the truth.
    """

    id: UUID
    type: str
    version: int = 1
    administration: str
    occurred_at: datetime
    triggered_by: str
    correlation_id: str
    traceparent: str | None = None
    body: dict[str, Any]

    @property
    def context(self) -> Context:
        return Context(
            administration=self.administration,
            triggered_by=self.triggered_by,
            correlation_id=self.correlation_id,
            traceparent=self.traceparent,
        )


def encode(envelope: Envelope) -> bytes:
    return orjson.dumps(
        {
            "id": envelope.id,
            "type": envelope.type,
            "version": envelope.version,
            "administration": envelope.administration,
            "occurred_at": json_moment(envelope.occurred_at),
            "triggered_by": envelope.triggered_by,
            "correlation_id": envelope.correlation_id,
            "traceparent": envelope.traceparent,
            "body": envelope.body,
        },
        option=orjson.OPT_UTC_Z,
    )


def decode_envelope(text: bytes) -> Envelope:
    """The message; InvalidInput for a malformed one or a version that this release does not know."""
    value = parse(text)
    envelope = _well_formed(value) or decode(value, Envelope)
    if envelope.version != 1:
        raise InvalidInput(f"message version {envelope.version} of {envelope.type} is not known here")
    return envelope


_FIELDS = frozenset(field.name for field in fields(Envelope))


def _well_formed(value: Any) -> Envelope | None:
    """What `decode` makes of a message as `encode` writes it, for half the cost; None for any other, of which `decode`
    knows what is wrong with it, if anything is."""
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        return None
    version, traceparent, body = value["version"], value["traceparent"], value["body"]
    if type(version) is not int or not (traceparent is None or type(traceparent) is str) or type(body) is not dict:
        return None
    id, administration, at = value["id"], value["administration"], value["occurred_at"]
    kind, triggered_by, correlation_id = value["type"], value["triggered_by"], value["correlation_id"]
    try:
        # a TypeError when one of them is no text
        if "\0" in "".join((id, kind, administration, triggered_by, correlation_id, traceparent or "", *body)):
            return None
        envelope = Envelope(
            id=UUID(id),
            type=kind,
            version=version,
            administration=administration,
            occurred_at=datetime.fromisoformat(at),
            triggered_by=triggered_by,
            correlation_id=correlation_id,
            traceparent=traceparent,
            body=body,
        )
    except (ValueError, TypeError):
        return None
    return None if envelope.occurred_at.tzinfo is None else envelope
