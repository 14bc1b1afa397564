from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    *(
        f"tests.connectors.exact_online.sandbox.{module}"
        for module in (
            "caller",
            "oauth_statements",
            "limit_statements",
            "shape_statements",
            "query_statements",
            "sync_statements",
            "error_statements",
        )
    )
)

from ordersync_connectors.exact_online.sandbox import SandboxSettings  # noqa: E402
from tests.connectors.exact_online.sandbox.caller import (  # noqa: E402
    FIRST_DAY,
    Caller,
    running,
    write_items,
)


@pytest.fixture(scope="session")
def item_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("exact") / "items.csv")


@pytest.fixture(scope="module")
def shared(item_file: Path) -> Iterator[tuple[Caller, Iterator[datetime]]]:
    """One sandbox for a module, and the days on which its tests happen."""
    settings = SandboxSettings(items=item_file, clock=FIRST_DAY)
    days = (FIRST_DAY + timedelta(days=100 * number) for number in range(1, 10_000))
    with running(settings) as caller:
        yield caller, days


@pytest.fixture
def site(shared: tuple[Caller, Iterator[datetime]]) -> Caller:
    """The module's sandbox on a day of its own, with a new consent: no limit and no block is left from before."""
    caller, days = shared
    caller.set_clock(next(days).isoformat())
    caller.steer("DELETE", "faults")
    caller.consent()
    return caller
