"""Errors as problem documents (RFC 9457): the one place where a reason becomes a status.

                                                                                    HTTP
OrderSyncError
├── InvalidInput        the caller can correct the request                          422
├── NotFound            no such thing in this administration                        404
├── NotAllowed          the caller may not do this                                  403
├── Conflict            the request disagrees with the stored state                 409
│   ├── VersionMismatch     If-Match or If-None-Match does not hold                 412
│   └── ChangedMeanwhile    another transaction came first, three times             409
└── ExternalFailure
    ├── TemporaryFailure    a database, a queue or another system is away           503, with Retry-After
    └── PermanentFailure    another attempt would fail the same way                 502

`HttpError` and its kind are what only HTTP knows: 401, 405, 406, 410, 413, 415. Anything else is a fault of ours: 500.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from typing import Any

import msgspec
from attrs import field, frozen
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ordersync_core.items.handlers import VersionMismatch
from ordersync_core.kernel.errors import (
    ChangedMeanwhile,
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    PermanentFailure,
    TemporaryFailure,
    Violation,
)
from ordersync_core.webhooks.ports import TargetRefused

MEDIA_TYPE = "application/problem+json"
NAMESPACE = "urn:ordersync:problem:"
RETRY_AFTER = timedelta(seconds=5)

_log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Problem:
    """slug: names the type for ever. more: members beyond those of the RFC."""

    status: int
    slug: str
    title: str
    detail: str
    headers: Mapping[str, str] = field(factory=dict)
    more: Mapping[str, Any] = field(factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "type": NAMESPACE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }

    def response(self) -> Response:
        return Response(
            msgspec.json.encode(self.document()), self.status, headers=dict(self.headers), media_type=MEDIA_TYPE
        )


class HttpError(Exception):
    """A refusal that only HTTP knows; carries its problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Unauthenticated(HttpError):
    """reason: one sentence; None when no token was sent at all (RFC 6750, section 3)."""

    def __init__(self, reason: str | None = None) -> None:
        challenge = 'Bearer realm="ordersync"'
        if reason is not None:
            challenge += f', error="invalid_token", error_description="{reason}"'
        super().__init__(
            Problem(
                status=401,
                slug="unauthenticated",
                title="The request carries no valid access token",
                detail=reason or "send an access token as: Authorization: Bearer <token>",
                headers={"WWW-Authenticate": challenge},
            )
        )


class MethodNotAllowed(HttpError):
    def __init__(self, allowed: str) -> None:
        super().__init__(
            Problem(
                status=405,
                slug="method-not-allowed",
                title="This address does not know the method",
                detail=f"allowed here: {allowed}",
                headers={"Allow": allowed},
            )
        )


class NotAcceptable(HttpError):
    def __init__(self, offered: tuple[str, ...]) -> None:
        super().__init__(
            Problem(
                status=406,
                slug="not-acceptable",
                title="No representation fits the header Accept",
                detail=f"offered here: {', '.join(offered)}",
            )
        )


class Gone(HttpError):
    """A place in the events feed that is no more. oldest: the lowest number that can still be read."""

    def __init__(self, detail: str, *, oldest: int, next_after: str) -> None:
        super().__init__(
            Problem(
                status=410,
                slug="events-gone",
                title="The events after this place are gone",
                detail=detail,
                more={"oldest_number": oldest, "next_after": next_after},
            )
        )


class BodyTooLarge(HttpError):
    """limit: bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            Problem(
                status=413,
                slug="body-too-large",
                title="The body is too large",
                detail=f"at most {limit} bytes are taken here",
                headers={"Connection": "close"},
            )
        )


class UnsupportedMediaType(HttpError):
    def __init__(self, taken: tuple[str, ...]) -> None:
        super().__init__(
            Problem(
                status=415,
                slug="unsupported-media-type",
                title="The body's type is not taken here",
                detail=f"send the body as {' or '.join(taken)}, in UTF-8 and without a content encoding",
                headers={"Accept": ", ".join(taken)},
            )
        )


def problem_of(error: Exception, request_id: str) -> Problem:
    """What the caller is told. What might give away our inside goes to the log instead."""
    problem = _translated(error)
    if problem.status == 500:
        _log.error("request %s: %s", request_id, error, exc_info=error)
    elif problem.status > 500:
        _log.warning("request %s: %s", request_id, error)
    return problem


def _translated(error: Exception) -> Problem:
    match error:
        case HttpError():
            return error.problem
        case InvalidInput():
            return _invalid(error)
        case NotFound():
            return Problem(status=404, slug="not-found", title="There is no such thing", detail=str(error))
        case NotAllowed():
            return Problem(status=403, slug="not-allowed", title="You may not do this", detail=str(error))
        case VersionMismatch():
            return Problem(
                status=412, slug="version-mismatch", title="It is not the version you know", detail=str(error)
            )
        case ChangedMeanwhile():
            return Problem(
                status=409,
                slug="changed-meanwhile",
                title="Somebody else changed it at the same moment",
                detail="another transaction came first: send the request again",
                headers={"Retry-After": "1"},
            )
        case Conflict():
            return Problem(status=409, slug="conflict", title="It does not fit what is stored", detail=str(error))
        case TemporaryFailure():
            return _away(error.retry_after)
        case PermanentFailure():
            return Problem(
                status=502,
                slug="permanent-failure",
                title="Something that OrderSync depends on failed",
                detail="another attempt would fail the same way; the operator's log says why",
            )
        case HTTPException(status_code=404):
            return Problem(
                status=404, slug="not-found", title="There is no such thing", detail="there is nothing at this address"
            )
        case HTTPException():
            return Problem(
                status=error.status_code,
                slug="http-error",
                title="The request cannot be served",
                detail=str(error.detail),
                headers=error.headers or {},
            )
    return Problem(
        status=500,
        slug="internal-error",
        title="OrderSync failed",
        detail="this should not happen; the operator finds more in the log under the request's X-Request-Id",
    )


def _invalid(error: InvalidInput) -> Problem:
    refused = isinstance(error, TargetRefused)
    violations = error.violations or (Violation("/url" if refused else "", str(error)),)
    return Problem(
        status=422,
        slug="target-refused" if refused else "invalid-input",
        title="OrderSync does not call this address" if refused else "The request breaks a rule",
        detail=str(error),
        more={"errors": [{"pointer": v.pointer, "detail": v.message} for v in violations]},
    )


def _away(retry_after: timedelta | None) -> Problem:
    wait = max(1, ceil((retry_after or RETRY_AFTER).total_seconds()))
    return Problem(
        status=503,
        slug="temporary-failure",
        title="Something that OrderSync depends on is away",
        detail=f"try again in {wait} seconds",
        headers={"Retry-After": str(wait)},
    )
