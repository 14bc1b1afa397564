"""One entry a request, written before the answer leaves, so that a log never lacks what a client has seen."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .answers import Answer, Call
from .clock import SandboxClock
from .values import iso_utc

KEPT = 100_000
"""Entries that stay in memory; a file keeps them all."""


class RequestLog:
    """
    An entry: `n` counts from 1; `at` by the sandbox's clock; `query` raw; `status` null when no answer was sent;
    `resource` in Exact's spelling or null; `rows` in this answer; `fault` the kind that struck, or null.
    """

    def __init__(self, path: Path | None, clock: SandboxClock) -> None:
        self._clock = clock
        self._entries: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self._count = 0
        self._file: BinaryIO | None = path.open("ab") if path is not None else None

    @property
    def count(self) -> int:
        return self._count

    def note(self, call: Call, answer: Answer | None, *, fault: str | None) -> None:
        self._count += 1
        entry = {
            "n": self._count,
            "at": iso_utc(self._clock.now()),
            "method": call.method,
            "path": call.path,
            "query": call.query,
            "status": answer.status if answer is not None else None,
            "resource": answer.resource if answer is not None else None,
            "rows": answer.rows if answer is not None else 0,
            "fault": fault,
        }
        self._entries.append(entry)
        if self._file is not None:
            self._file.write(orjson.dumps(entry) + b"\n")
            self._file.flush()

    def after(self, number: int) -> Sequence[Mapping[str, Any]]:
        """Entries with a higher number, as far as they are still in memory."""
        return [entry for entry in self._entries if entry["n"] > number]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
