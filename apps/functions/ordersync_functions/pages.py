"""What the two HTTP functions answer."""

from collections.abc import Callable
from html import escape
from typing import Final

import azure.functions as func
import orjson

from ordersync_core.kernel.errors import (
    Conflict,
    ExternalFailure,
    InvalidInput,
    NotAllowed,
    NotFound,
    OrderSyncError,
)

_STATUS: Final = (
    (InvalidInput, 422, "invalid-input"),
    (NotFound, 404, "not-found"),
    (NotAllowed, 403, "not-allowed"),
    (Conflict, 409, "conflict"),
    (ExternalFailure, 502, "external-failure"),
)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def problem_or_accepted(call: Callable[[], None]) -> func.HttpResponse:
    """202, or problem details (RFC 9457)."""
    try:
        call()
    except OrderSyncError as error:
        status, slug = _status(error)
        body = {"type": f"urn:ordersync:problem:{slug}", "title": slug, "status": status, "detail": str(error)}
        return func.HttpResponse(orjson.dumps(body), status_code=status, mimetype="application/problem+json")
    return func.HttpResponse(status_code=202)


def consent_page(call: Callable[[], str]) -> func.HttpResponse:
    """A page for the person who came back from the external system."""
    try:
        name = call()
    except OrderSyncError as error:
        return _page(_status(error)[0], "The connection was not authorised", str(error))
    return _page(200, "The connection is authorised", f"{name} is connected. You can close this page.")


def _page(status: int, title: str, text: str) -> func.HttpResponse:
    body = _PAGE.format(title=escape(title), text=escape(text))
    return func.HttpResponse(body, status_code=status, mimetype="text/html", headers=_HEADERS)


def _status(error: OrderSyncError) -> tuple[int, str]:
    return next(((status, slug) for kind, status, slug in _STATUS if isinstance(error, kind)), (500, "error"))
