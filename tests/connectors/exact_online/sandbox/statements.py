"""The table of statements: each names what the reference says and holds the requests that show it."""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from tests.connectors.exact_online.sandbox.caller import Caller

Check = Callable[[Caller], None]


@frozen
class Statement:
    section: str
    text: str
    check: Check
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.section} {self.text}"


STATEMENTS: list[Statement] = []


def shows(section: str, text: str, **settings: Any) -> Callable[[Check], Check]:
    """Registers a check under the statement it shows; with `settings` it gets a sandbox of its own."""

    def register(check: Check) -> Check:
        STATEMENTS.append(Statement(section, text, check, settings))
        return check

    return register
