"""What one request is and what one answer is, before they meet the wire; and the shapes of refusals."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

import orjson
from attrs import evolve, field, frozen

JSON = "application/json; charset=utf-8"
ATOM = "application/atom+xml; charset=utf-8"


@frozen(kw_only=True)
class Call:
    """One request.

    Attributes:
        path: decoded, without the query.
        query: raw, without the question mark.
        headers: names in lower case.
        base_url: scheme and host the caller used, without a slash at the end.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    base_url: str

    @property
    def wants_json(self) -> bool:
        return "application/json" in self.headers.get("accept", "").lower()


@frozen(kw_only=True)
class Answer:
    """One answer.

    Attributes:
        resource: what was called, in Exact's spelling; None when nothing by that name exists.
        rows: entities in the body.
    """

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    resource: str | None = None
    rows: int = 0

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        return evolve(self, headers={**self.headers, **headers})


class DataError(Exception):
    """A refusal by the data API; `data_error` shapes it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def json_answer(content: Any, *, status: int = 200, rows: int = 0) -> Answer:
    return Answer(status=status, body=orjson.dumps(content), content_type=JSON, rows=rows)


def data_error(status: int, text: str, *, language: str = "", json: bool = True) -> Answer:
    """A refusal by the data API: the code stays empty, as Exact leaves it nearly always."""
    if json:
        return json_answer(error_body(text, language), status=status)
    xml = (
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
        '<error xmlns="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata">'
        f'<code></code><message xml:lang="{language}">{escape(text)}</message></error>'
    )
    return Answer(status=status, body=xml.encode(), content_type="application/xml; charset=utf-8")


def error_body(text: str, language: str = "") -> Mapping[str, Any]:
    return {"error": {"code": "", "message": {"lang": language, "value": text}}}


def oauth_error(status: int, error: str, description: str, *, reason: str | None = None) -> Answer:
    answer = json_answer({"error": error, "error_description": description}, status=status)
    return answer if reason is None else answer.with_headers({"Reason": reason})


def html(status: int, title: str) -> Answer:
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status=status, body=page.encode(), content_type="text/html; charset=utf-8")
