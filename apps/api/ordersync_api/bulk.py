"""Many items in one request: NDJSON in, one result per row out, in order."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import msgspec
from attrs import frozen

from ordersync_api.decoding import parse_object
from ordersync_api.problems import BodyTooLarge, Problem
from ordersync_core.items.commands import PutItems
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.decoding import decode

CHUNK = 500
"""Rows of one unit of work: well below its 250 ms."""

PAUSE = 0.005
"""Seconds between two units of work, so that other writers get their turn."""

LONGEST_ROW = 1_000_000
"""Bytes."""


@frozen(kw_only=True)
class _Row:
    """number: of its line, from 1. item: None when the row is refused, and `error` says why."""

    number: int
    code: str | None
    item: Item | None
    error: Exception | None = None

    def result(self, status: int) -> bytes:
        return self._line(status, None)

    def refusal(self, problem: Problem) -> bytes:
        return self._line(problem.status, problem.document())

    def _line(self, status: int, problem: Mapping[str, Any] | None) -> bytes:
        shown = {"row": self.number, "status": status, "code": self.code, "problem": problem}
        return msgspec.json.encode(shown) + b"\n"


def results(
    upload: IO[bytes], store: Callable[[PutItems], frozenset[ItemCode]], tell: Callable[[Exception], Problem]
) -> Iterator[bytes]:
    """A line for each row of the upload that is not empty, in order, some rows at a time; closes the upload.

    store: puts the items of some rows and answers the codes of those that were created.
    tell: what the caller is told of an error.
    """
    with upload:
        for chunk in _chunks(_rows(upload)):
            yield b"".join(_stored(chunk, store, tell))
            time.sleep(PAUSE)


def _stored(
    chunk: Sequence[_Row], store: Callable[[PutItems], frozenset[ItemCode]], tell: Callable[[Exception], Problem]
) -> Iterator[bytes]:
    items = tuple(row.item for row in chunk if row.item is not None)
    created: frozenset[ItemCode] = frozenset()
    failure: Problem | None = None
    try:
        created = store(PutItems(items)) if items else created
    except Exception as error:  # told for each row it concerns; the rows after them have their own chance
        failure = tell(error)
    for row in chunk:
        if row.error is not None:
            yield row.refusal(tell(row.error))
        elif failure is not None:
            yield row.refusal(failure)
        else:
            yield row.result(201 if row.item is not None and row.item.code in created else 200)


def _chunks(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """Up to 500 rows, and no code twice in one: rows of one item take effect in their order."""
    chunk: list[_Row] = []
    codes: set[ItemCode] = set()
    for row in rows:
        repeated = row.item is not None and row.item.code in codes
        if chunk and (repeated or len(chunk) == CHUNK):
            yield chunk
            chunk, codes = [], set()
        chunk.append(row)
        if row.item is not None:
            codes.add(row.item.code)
    if chunk:
        yield chunk


def _rows(upload: IO[bytes]) -> Iterator[_Row]:
    number = 0
    while line := upload.readline(LONGEST_ROW + 1):
        number += 1
        if len(line) > LONGEST_ROW:
            while line and not line.endswith(b"\n"):
                line = upload.readline(LONGEST_ROW)
            yield _Row(number=number, code=None, item=None, error=BodyTooLarge(LONGEST_ROW))
        elif line.strip():
            yield _row(number, line)


def _row(number: int, line: bytes) -> _Row:
    content: Mapping[str, Any] = {}
    try:
        content = parse_object(line)
        item = decode(content, Item)
    except Exception as error:
        code = content.get("code")
        return _Row(number=number, code=code if isinstance(code, str) else None, item=None, error=error)
    return _Row(number=number, code=str(item.code), item=item)
