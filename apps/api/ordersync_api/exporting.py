"""Whole lists as a stream: page after page, so that memory does not grow with the list."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response, StreamingResponse

from ordersync_api.media import CSV, NDJSON
from ordersync_core.kernel.paging import MAXIMUM_LIMIT, Page, PageRequest

T = TypeVar("T")
Read = Callable[[PageRequest], Page[T]]


def exported(
    read: Read[T],
    after: tuple[Any, ...] | None,
    show: Callable[[T], Mapping[str, Any]],
    *,
    media: str,
    columns: Sequence[str],
) -> Response:
    """All rows from `after` on. The first page is read before the answer begins, so that its failure has a status; a
    later failure breaks the connection, so that nobody takes a part for the whole."""
    first = read(PageRequest(limit=MAXIMUM_LIMIT, after=after))
    pages = _pages(first, read)
    if media == NDJSON:
        return StreamingResponse((_ndjson(page, show) for page in pages), media_type=NDJSON)
    return StreamingResponse(
        _csv(pages, show, columns), headers={"Content-Type": f"{CSV}; charset=utf-8; header=present"}
    )


def _pages(first: Page[T], read: Read[T]) -> Iterator[Sequence[T]]:
    page = first
    yield page.rows
    while page.next is not None:
        page = read(PageRequest(limit=MAXIMUM_LIMIT, after=page.next))
        yield page.rows


def _ndjson(rows: Sequence[T], show: Callable[[T], Mapping[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(show(row)) + b"\n" for row in rows)


def _csv(
    pages: Iterator[Sequence[T]], show: Callable[[T], Mapping[str, Any]], columns: Sequence[str]
) -> Iterator[bytes]:
    """RFC 4180. What is not a scalar is a JSON text in its cell; null is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for rows in pages:
        for row in rows:
            shown = show(row)
            writer.writerow([_cell(shown[column]) for column in columns])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
