"""What a sandbox is started with."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from attrs import Attribute, field, frozen, validators

EARLIEST_CLOCK = datetime(2022, 1, 1, tzinfo=UTC)
"""The published Python client takes a rate-limit reset before December 2021 for a fault."""


def _usable_start(_: Any, __: "Attribute[datetime | None]", start: datetime | None) -> None:
    if start is not None and (start.tzinfo is None or start < EARLIEST_CLOCK):
        raise ValueError(f"the clock starts at an aware moment from {EARLIEST_CLOCK:%Y-%m-%d} on, not at {start}")


@frozen(kw_only=True)
class SandboxSettings:
    """Where the sandbox listens, what it holds, and which of Exact Online's disputed habits it shows.

    Attributes:
        port: 0 takes a free one.
        items: the item file; None starts with no item.
        seed: guids, users and scripted changes follow from it.
        clock: where the sandbox's clock starts, aware; None takes the real time. It runs on, and may be moved.
        faults: a JSON file with the fault script; None starts without faults.
        log: where one NDJSON line a request is appended; None keeps the log in memory only.
        redirect_uris: the registered ones; empty accepts any https address and, unlike Exact, any loopback one.
        further_divisions: companies beside `division`, without items, that the user may open too.
        minutely_limit, daily_limit: data calls a division takes in a minute and in a day (UTC).
        error_velocity: answers of 400, 401, 403 or 404 an endpoint gives within an hour before it is blocked.
        mandatory_filter: whether items can be listed without `$filter`; Exact does not enforce it for every app.
        outside_scope: services the app may not use (`logistics`, `users`): 403.
        without_right: endpoints the user has no right to (`logistics/units`): 403, or see `without_right_answer`.
        without_right_answer: what such an endpoint answers; `empty` is an empty list.
        retrieve_deleted_records: the user's right without which `sync/Deleted` is an empty list.
        language: of error texts: "" (English, as when `lang` is empty) or "nl-NL".
        zone: the site's; `Created` and `Modified` are its wall time.
    """

    host: str = "127.0.0.1"
    port: int = field(default=0, validator=[validators.ge(0), validators.le(65535)])
    items: Path | None = None
    seed: int = 1
    clock: datetime | None = field(default=None, validator=_usable_start)
    faults: Path | None = None
    log: Path | None = None
    client_id: str = "6f1f2b5e-3c1d-4a7e-9b52-0d7a4f6c1e01"
    client_secret: str = "sandbox-secret"
    redirect_uris: tuple[str, ...] = ()
    division: int = field(default=1, validator=validators.gt(0))
    further_divisions: tuple[int, ...] = ()
    minutely_limit: int = field(default=60, validator=validators.gt(0))
    daily_limit: int = field(default=5000, validator=validators.gt(0))
    error_velocity: int = field(default=10, validator=validators.gt(0))
    mandatory_filter: bool = True
    outside_scope: frozenset[str] = frozenset()
    without_right: frozenset[str] = frozenset()
    without_right_answer: Literal["forbidden", "empty"] = "forbidden"
    retrieve_deleted_records: bool = True
    language: Literal["", "nl-NL"] = ""
    zone: ZoneInfo = field(factory=lambda: ZoneInfo("Europe/Amsterdam"))
    country: str = "NL"
    currency: str = "EUR"
