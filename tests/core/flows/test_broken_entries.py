"""What the source sent and JSON does not know goes to quarantine, and the rest of it is built."""

from typing import Any

import pytest

from ordersync_core.connections.ports import SourcePage, SourceRecord
from ordersync_core.kernel.errors import InvalidInput
from tests.core.flows.supplier import Pages, Site, raw


def nested(depth: int) -> Any:
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**63) - 1, "half a \ud83d", {"\ud83d": 1}, nested(300)],
    ids=["a great number", "a small number", "half a character", "half a character in a name", "nested too deep"],
)
def test_an_entry_that_json_does_not_know_is_quarantined(value: Any) -> None:
    entry = {**raw("BAD"), "more": value}
    with pytest.raises(InvalidInput, match="the record cannot be kept as JSON") as refused:
        SourceRecord.of(key="bad", version=1, raw=entry)
    good = SourceRecord.of(key="good", version=2, raw=raw("GOOD"))
    site = Site(Pages([SourcePage(records=[good], broken=[(entry, str(refused.value))])]))

    assert site.sync().counts.quarantined == 1
    assert list(site.state.items) == ["GOOD"]
    assert list(site.state.quarantine.values()) == [str(refused.value)]
    quarantine = site.state.quarantine
    site.sync()
    assert site.state.quarantine == quarantine, "the same entry is the same one"
