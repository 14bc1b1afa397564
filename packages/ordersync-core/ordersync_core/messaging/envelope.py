"""What travels on the queues: a ticket for a row, with who, when and why."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from attrs import frozen

from ordersync_core.kernel.context import Context
from ordersync_core.kernel.decoding import decode, parse
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.moments import rfc3339

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
            "id": str(envelope.id),
            "type": envelope.type,
            "version": envelope.version,
            "administration": envelope.administration,
            "occurred_at": rfc3339(envelope.occurred_at),
            "triggered_by": envelope.triggered_by,
            "correlation_id": envelope.correlation_id,
            "traceparent": envelope.traceparent,
            "body": envelope.body,
        }
    )


def decode_envelope(text: bytes) -> Envelope:
    """The message; InvalidInput for a malformed one or a version that this release does not know."""
    envelope = decode(parse(text), Envelope)
    if envelope.version != 1:
        raise InvalidInput(f"message version {envelope.version} of {envelope.type} is not known here")
    return envelope
