"""Webhooks, their deliveries and the events feed."""

from typing import Any
from uuid import UUID, uuid5

import pytest
from attrs import evolve

from ordersync_core.kernel.clock import Clock
from ordersync_core.messaging.envelope import EVENTS, decode_envelope
from ordersync_core.messaging.ports import EventQueries
from ordersync_core.messaging.queue import Queues
from ordersync_core.webhooks.commands import FanOut
from ordersync_core.webhooks.handlers.fan_out import fan_out
from ordersync_core.webhooks.model import Attempt
from ordersync_core.webhooks.ports import WebhooksUnitOfWork
from tests.api.site import PUBLIC_URL, READER, A, Site, new_code

NOBODY = uuid5(UUID(int=0), "nobody")


def create(api: Site, *event_types: str) -> dict[str, Any]:
    body = {"url": PUBLIC_URL, "event_types": list(event_types) or ["*"]}
    answer = api.call("POST", "/v1/webhooks", json=body)
    assert answer.status_code == 201
    shown: dict[str, Any] = answer.json()
    return shown


def change_items(api: Site, count: int) -> list[str]:
    """Puts items, numbers their events and fans them out."""
    codes = [new_code() for _ in range(count)]
    for code in codes:
        assert api.call("PUT", f"/v1/items/{code}", json={}).status_code == 201
    api.relay()
    queue = api.application.resolve(Queues)[EVENTS]
    claims = queue.claim(1_000)
    messages = tuple(decode_envelope(claim.message.body) for claim in claims)
    api.application.run(fan_out, FanOut(messages=tuple(m for m in messages if m.administration == A)), api.context())
    queue.complete(claims)
    return codes


def deliveries(api: Site, webhook: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    answer = api.call("GET", f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": 500, **params})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_the_secret_is_shown_once(api: Site) -> None:
    answer = api.call("POST", "/v1/webhooks", json={"url": PUBLIC_URL, "event_types": ["item.*"]})
    webhook = answer.json()
    assert webhook["secret"].startswith("whsec_")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Location"] == f"/v1/webhooks/{webhook['id']}"
    secret = webhook.pop("secret")
    assert api.call("GET", answer.headers["Location"]).json() == webhook
    assert webhook in api.call("GET", "/v1/webhooks", params={"limit": 500}).json()["data"]
    rotated = api.call("POST", f"/v1/webhooks/{webhook['id']}:rotate-secret")
    assert rotated.json()["secret"].startswith("whsec_")
    assert rotated.json()["secret"] != secret
    assert rotated.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://localhost/hook",
        "https://[::1]/hook",
        "https://[::ffff:127.0.0.1]/hook",
        "https://10.0.0.1/",
        "https://192.168.1.1:8443/",
        "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://0.0.0.0/",
        "https://100.64.0.1/",
        "http://93.184.216.34/",
        "https://user:password@93.184.216.34/",
    ],
)
def test_an_address_that_is_not_called_is_refused_at_registration(memory_api: Site, url: str) -> None:
    answer = memory_api.call("POST", "/v1/webhooks", json={"url": url, "event_types": ["*"]})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:ordersync:problem:target-refused"
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/url"]


@pytest.mark.parametrize(
    "url", ["", "/hook", "ftp://93.184.216.34/", "https://", "https://a b/", "javascript:x", "x" * 3000]
)
def test_what_is_no_address_is_refused(memory_api: Site, url: str) -> None:
    answer = memory_api.call("POST", "/v1/webhooks", json={"url": url, "event_types": []})
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == ["/event_types", "/url"]


def test_a_deleted_webhook_is_gone(api: Site) -> None:
    webhook = create(api)
    path = f"/v1/webhooks/{webhook['id']}"
    assert api.call("DELETE", path).status_code == 204
    for method, address in (
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}:disable"),
        ("POST", f"{path}:rotate-secret"),
        ("GET", f"{path}/deliveries"),
    ):
        assert api.call(method, address).status_code == 404


def test_deliveries_are_listed_by_position_and_filtered_by_state(api: Site) -> None:
    everything, updates = create(api, "*"), create(api, "item.updated")
    change_items(api, 3)
    listed = deliveries(api, everything)
    assert [d["position"] for d in listed] == [1, 2, 3]
    assert {d["event_type"] for d in listed} == {"item.created"}
    assert {d["state"] for d in listed} == {"Waiting"}
    assert deliveries(api, updates) == []
    assert deliveries(api, everything, state="Delivered") == []
    assert deliveries(api, everything, state="Waiting") == listed
    first = api.call("GET", f"/v1/webhooks/{everything['id']}/deliveries", params={"limit": 2}).json()
    rest = api.call(
        "GET", f"/v1/webhooks/{everything['id']}/deliveries", params={"limit": 2, "cursor": first["next"]}
    ).json()
    assert first["data"] + rest["data"] == listed
    assert rest["next"] is None


def test_disabling_parks_and_enabling_asks(api: Site) -> None:
    webhook = create(api)
    path = f"/v1/webhooks/{webhook['id']}"
    change_items(api, 2)
    disabled = api.call("POST", f"{path}:disable").json()
    assert (disabled["state"], disabled["disabled_because"]) == ("Disabled", "disabled by a person")
    assert [d["state"] for d in deliveries(api, webhook)] == ["Parked", "Parked"]
    change_items(api, 1)
    assert len(deliveries(api, webhook)) == 2
    delivery = deliveries(api, webhook)[0]["id"]
    assert api.call("POST", f"/v1/deliveries/{delivery}:redeliver").status_code == 409
    assert api.call("POST", f"{path}:replay", json={"after": 0}).status_code == 409
    assert api.call("POST", f"{path}:enable", json={"backlog": "forget"}).status_code == 422
    assert api.call("POST", f"{path}:enable", json={"backlog": "cancel_parked"}).json()["state"] == "Enabled"
    assert [d["state"] for d in deliveries(api, webhook)] == ["Cancelled", "Cancelled"]
    change_items(api, 1)
    api.call("POST", f"{path}:disable", json={})
    assert api.call("POST", f"{path}:enable").status_code == 200
    assert [d["state"] for d in deliveries(api, webhook)] == ["Cancelled", "Cancelled", "Waiting"]


def test_replay_sends_what_came_after_a_number_at_new_positions(api: Site) -> None:
    webhook = create(api)
    change_items(api, 3)
    numbers = [d["event_number"] for d in deliveries(api, webhook)]
    answer = api.call("POST", f"/v1/webhooks/{webhook['id']}:replay", json={"after": numbers[0]})
    assert (answer.status_code, answer.json()) == (202, {"deliveries": 2})
    again = deliveries(api, webhook)[3:]
    assert [(d["position"], d["event_number"]) for d in again] == [(4, numbers[1]), (5, numbers[2])]
    for after in (-1, "0", None, 1.5, 2**63):
        refused = api.call("POST", f"/v1/webhooks/{webhook['id']}:replay", json={"after": after})
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/after"]


def test_a_delivery_shows_its_attempts_and_can_be_sent_again(api: Site) -> None:
    webhook = create(api)
    change_items(api, 1)
    (delivery,) = deliveries(api, webhook)
    path = f"/v1/deliveries/{delivery['id']}"
    assert api.call("GET", path).json() == {**delivery, "attempt_log": []}

    def fail(_: None, *, uow: WebhooksUnitOfWork, clock: Clock) -> None:
        with uow:
            row = uow.deliveries.get([UUID(delivery["id"])])[UUID(delivery["id"])]
            now = clock.now()
            attempt = Attempt(
                delivery_id=row.id, number=1, started_at=now, ended_at=now, status=500, response=b"\xffno\x00"
            )
            uow.deliveries.record([attempt])
            uow.deliveries.save([evolve(row, attempts=1, tickets=0, reason="HTTP 500")])
            uow.commit()

    api.application.run(fail, None, api.context())
    shown = api.call("GET", path).json()
    assert (shown["attempts"], shown["reason"]) == (1, "HTTP 500")
    (attempt,) = shown["attempt_log"]
    assert (attempt["number"], attempt["status"], attempt["error"]) == (1, 500, None)
    assert attempt["response"] == "\ufffdno\x00"
    again = api.call("POST", f"{path}:redeliver")
    assert again.status_code == 202
    assert (again.json()["state"], again.json()["reason"]) == ("Waiting", None)


def test_reading_is_enough_for_looking(api: Site) -> None:
    webhook = create(api)
    assert api.call("GET", f"/v1/webhooks/{webhook['id']}", subject=READER).status_code == 200
    assert api.call("DELETE", f"/v1/webhooks/{webhook['id']}", subject=READER).status_code == 403


def test_the_feed_hands_out_every_event_once_in_order(api: Site) -> None:
    start = feed_end(api)
    codes = change_items(api, 5)
    after, seen = start, []
    while True:
        page = api.call("GET", "/v1/events", params={"after": after, "limit": 2}).json()
        seen += page["data"]
        after = page["next_after"]
        if not page["data"]:
            break
    assert [event["data"]["code"] for event in seen] == codes
    numbers = [event["sequence"] for event in seen]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert {event["type"] for event in seen} == {"item.created"}
    assert api.call("GET", "/v1/events", params={"after": after}).json() == {"data": [], "next_after": after}
    beginning = api.call("GET", "/v1/events", params={"limit": 1}).json()
    assert beginning["data"][0]["sequence"] == 1
    assert api.call("GET", "/v1/events", params={"limit": 1, "after": "0"}).json() == beginning


def feed_end(api: Site) -> str:
    api.relay()
    after = "0"
    while True:
        page = api.call("GET", "/v1/events", params={"after": after, "limit": 500}).json()
        after = page["next_after"]
        if not page["data"]:
            return str(after)


def test_a_feed_of_some_types_also_gets_on_where_nothing_is_selected(api: Site) -> None:
    start = feed_end(api)
    (code,) = change_items(api, 1)
    api.call("DELETE", f"/v1/items/{code}")
    change_items(api, 1)
    page = api.call("GET", "/v1/events", params={"after": start, "types": "item.deleted,item.updated"}).json()
    assert [event["type"] for event in page["data"]] == ["item.deleted"]
    assert page["next_after"] == feed_end(api)
    refused = api.call("GET", "/v1/events", params={"types": "item.created,item.change"})
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/types/1"]


@pytest.mark.parametrize("after", ["7", "-1", "", "x", "AAAA", "00"])
def test_a_place_is_opaque(memory_api: Site, after: str) -> None:
    answer = memory_api.call("GET", "/v1/events", params={"after": after})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/after"]


class Purged:
    """The reads of a tenant whose oldest events were purged, or whose database was restored."""

    def __init__(self, queries: EventQueries, *, oldest: int | None, epoch: UUID | None = None) -> None:
        self._queries = queries
        self._oldest = oldest
        self._epoch = epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queries, name)

    def feed(self) -> Any:
        feed = self._queries.feed()
        return feed if self._epoch is None else evolve(feed, epoch=self._epoch)

    def oldest_number(self) -> int | None:
        return self._oldest


def test_a_purged_place_is_gone_and_tells_where_to_go_on(memory_api: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    api = memory_api
    change_items(api, 4)
    place = api.call("GET", "/v1/events", params={"limit": 1}).json()["next_after"]
    end = feed_end(api)
    real = api.application.databases.queries

    def stand_in(oldest: int | None, epoch: UUID | None = None) -> None:
        monkeypatch.setattr(
            api.application.databases,
            "queries",
            lambda context: Purged(real(context), oldest=oldest, epoch=epoch),
        )

    stand_in(2)
    assert api.call("GET", "/v1/events", params={"after": place}).status_code == 200
    stand_in(3)
    gone = api.call("GET", "/v1/events", params={"after": place})
    assert gone.status_code == 410
    assert gone.json()["type"] == "urn:ordersync:problem:events-gone"
    assert gone.json()["oldest_number"] == 3
    on = api.call("GET", "/v1/events", params={"after": gone.json()["next_after"]}).json()
    assert on["data"][0]["sequence"] == 3
    stand_in(None)
    assert api.call("GET", "/v1/events", params={"after": place}).status_code == 410
    assert api.call("GET", "/v1/events", params={"after": end}).status_code == 200
    stand_in(1, epoch=NOBODY)
    restored = api.call("GET", "/v1/events", params={"after": end})
    assert restored.status_code == 410
    assert "restored" in restored.json()["detail"]
    assert api.call("GET", "/v1/events", params={"after": restored.json()["next_after"]}).status_code == 200
