"""The state folder may have any name."""

from pathlib import Path

import pytest
from punq import Container

from ordersync_adapters.settings import Settings
from ordersync_adapters.wiring import make_application, prepare_stores, register_adapters
from ordersync_core.administrations.commands import CreateAdministration
from ordersync_core.administrations.handlers import create_administration
from ordersync_core.items.commands import PutItem
from ordersync_core.items.handlers import put_item
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.context import Context
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
