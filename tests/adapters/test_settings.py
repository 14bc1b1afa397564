"""What the environment says: any state folder, and one clear line for what makes no sense."""

from datetime import timedelta
from pathlib import Path

import pytest
from punq import Container

from ordersync_adapters.settings import Settings, load
from ordersync_adapters.wiring import make_application, prepare_stores, register_adapters
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.kernel.localised import localised_text
from ordersync_core.messaging.commands import Relay
from ordersync_core.messaging.envelope import EVENTS
from ordersync_core.messaging.handlers import relay
from ordersync_core.messaging.queue import Queues

PLATFORM = Context(administration=None, triggered_by="a-test", correlation_id="a-test")


@pytest.mark.parametrize("name", ["100%", "what?", "a#b", "a%20b", "a b", "{code}", "a&b=c;d", "Köln"])
def test_everything_lies_in_the_state_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    settings = Settings(state=tmp_path / name)
    prepare_stores(settings)
    container = Container()
    register_adapters(container, settings)
    application = make_application(container)
    queues = application.resolve(Queues)
    try:
        application.run(create_administration, CreateAdministration(code="alpha", name="Alpha"), PLATFORM)
        item = Item(code=ItemCode("A"), name=localised_text({"en": "an item"}))
        application.run(put_item, PutItem(item=item), PLATFORM.within("alpha"))
        assert application.run(relay, Relay(), PLATFORM.within("alpha")) == 1
        assert queues[EVENTS].depth().ready == 1
    finally:
        queues.close()
        application.databases.close()  # type: ignore[attr-defined]

    assert (settings.keys_folder / "secrets.key").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    made = {file.relative_to(settings.state).as_posix() for file in settings.state.rglob("*.db")}
    assert made == {"admin.db", "queues.db", "tenants/alpha.db"}


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("1ms", timedelta(milliseconds=1)),
        ("2.5s", timedelta(seconds=2.5)),
        ("5", timedelta(seconds=5)),
        ("365d", timedelta(days=365)),
    ],
)
def test_a_wait_is_written_with_its_unit(monkeypatch: pytest.MonkeyPatch, text: str, wait: timedelta) -> None:
    monkeypatch.setenv("ORDERSYNC_SWEEP", text)
    monkeypatch.setenv("ORDERSYNC_RETRY_DELAYS", ",".join([text] * 15))

    settings = load(Settings)

    assert (settings.sweep, settings.retry_delays) == (wait, (wait,) * 15)


@pytest.mark.parametrize("text", ["0", "0s", "0.0000001s", "366d", "99999999999d", "9" * 400, "-1s", "soon", ""])
def test_no_wait_and_one_without_end_stop_the_start(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ORDERSYNC_SWEEP", text)
    monkeypatch.setenv("ORDERSYNC_RETRY_DELAYS", ",".join(["1s"] * 14 + [text]))

    with pytest.raises(InvalidInput, match=r"ORDERSYNC_RETRY_DELAYS must .*; ORDERSYNC_SWEEP must "):
        load(Settings)


@pytest.mark.parametrize("days", ["events=0", "events=30,log=99999999999"])
def test_rows_are_kept_for_a_number_of_days_that_a_calendar_knows(monkeypatch: pytest.MonkeyPatch, days: str) -> None:
    monkeypatch.setenv("ORDERSYNC_RETENTION", days)

    with pytest.raises(InvalidInput, match="ORDERSYNC_RETENTION each part is from 1 to 36500 days"):
        load(Settings)
