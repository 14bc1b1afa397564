"""Items through the API: writing, conditions, lists, streams."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from ordersync_core.items.model import Item
from ordersync_core.kernel.canonical import canonical_bytes
from ordersync_core.kernel.decoding import decode
from ordersync_core.testing.strategies import items
from tests.api.site import EDITOR, OWNER, Site, new_code

FULL: dict[str, Any] = {
    "name": {"en": "Screw", "nl": "Schroef"},
    "family_code": "screws",
    "unit": "piece",
    "units": [{"unit": "box", "factor": "100"}],
    "vat_tariff": "Normal",
    "attributes": {"length": 12, "colours": ["red"], "deep": {"a": [1.5, None, True]}},
    "images": [
        {"position": 1, "file_name": "a.png", "content_type": "image/png", "content_hash": "ab" * 32, "blob": "b"}
    ],
    "attachments": [{"file_name": "a.pdf", "content_type": "application/pdf", "content_hash": "cd" * 32, "blob": "c"}],
    "stocks": [{"warehouse": "main", "quantity": "3.50"}],
    "restock_orders": [{"warehouse": "main", "quantity": "5", "expected_date": "2026-04-01T00:00:00.000000Z"}],
}


def put(api: Site, code: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    return api.call("PUT", f"/v1/items/{quote(code, safe='')}", json=body or {}, headers=headers)


def get(api: Site, code: str, **headers: str) -> httpx.Response:
    return api.call("GET", f"/v1/items/{quote(code, safe='')}", headers=headers)


def test_an_item_is_created_read_replaced_and_deleted(api: Site) -> None:
    code = new_code()
    created = put(api, code, FULL)
    assert created.status_code == 201
    assert created.headers["Location"] == f"/v1/items/{code}"
    assert created.json() == {**FULL, "code": code, "updated_at": created.json()["updated_at"]}
    read = get(api, code)
    assert read.json() == created.json()
    assert read.headers["ETag"] == created.headers["ETag"]
    replaced = put(api, code, {"name": {"en": "Bolt"}})
    assert replaced.status_code == 200
    assert replaced.json()["units"] == []
    assert replaced.headers["ETag"] != created.headers["ETag"]
    assert api.call("DELETE", f"/v1/items/{code}").status_code == 204
    assert get(api, code).status_code == 404
    assert api.call("DELETE", f"/v1/items/{code}").status_code == 404


def test_what_was_read_can_be_put_back_and_changes_nothing(api: Site) -> None:
    code = new_code()
    put(api, code, FULL)
    read = get(api, code).json()
    again = put(api, code, read)
    assert again.status_code == 200
    assert again.json() == read


@pytest.mark.parametrize(
    "code", ["a/b", "100%", "%2F", "a b", "ä-ß", "日本", "🔩", "a:b", "a?b#c", "..", "a;b=c", "x:bulk"]
)
def test_any_code_can_be_an_address(api: Site, code: str) -> None:
    created = api.client.put(
        f"{api.url}/v1/items/{quote(code, safe='').replace('.', '%2E')}",
        json={},
        headers={"Authorization": f"Bearer {api.token(OWNER)}"},
    )
    assert created.status_code in (200, 201)
    assert created.json()["code"] == code
    listed = api.call("GET", "/v1/items", params={"code": code}).json()["data"]
    assert [item["code"] for item in listed] == [code]
    if code != "..":  # the client itself resolves it
        assert get(api, code).json()["code"] == code


def test_an_unencoded_slash_is_another_address(api: Site) -> None:
    put(api, "x/y")
    assert api.call("GET", "/v1/items/x/y").status_code == 404
    assert api.call("GET", "/v1/items/x%2Fy").status_code == 200


def test_codes_are_trimmed_and_in_one_normal_form(api: Site) -> None:
    assert put(api, " Ame\u0301lie ").json()["code"] == "Am\u00e9lie"
    assert get(api, "Ame\u0301lie").json()["code"] == "Am\u00e9lie"


def test_an_address_that_is_not_utf_8_names_nothing(api: Site) -> None:
    assert api.call("GET", "/v1/items/%FF").status_code == 404


def test_if_match_keeps_a_stale_writer_out(api: Site) -> None:
    code = new_code()
    first = put(api, code, {"unit": "a"}).headers["ETag"]
    second = put(api, code, {"unit": "b"}, **{"If-Match": first})
    assert second.status_code == 200
    for answer in (
        put(api, code, {"unit": "c"}, **{"If-Match": first}),
        put(api, code, {"unit": "c"}, **{"If-Match": f"W/{second.headers['ETag']}"}),
        put(api, new_code(), {}, **{"If-Match": "*"}),
        api.call("PATCH", f"/v1/items/{code}", json={"unit": "c"}, headers={"If-Match": first}),
        api.call("DELETE", f"/v1/items/{code}", headers={"If-Match": first}),
    ):
        assert answer.status_code == 412
        assert answer.json()["type"] == "urn:ordersync:problem:version-mismatch"
    assert get(api, code).json()["unit"] == "b"
    assert put(api, code, {"unit": "c"}, **{"If-Match": f'"other", {second.headers["ETag"]}'}).status_code == 200
    assert put(api, code, {"unit": "d"}, **{"If-Match": "*"}).status_code == 200


def test_if_none_match_star_creates_only(api: Site) -> None:
    code = new_code()
    assert put(api, code, {}, **{"If-None-Match": "*"}).status_code == 201
    assert put(api, code, {"unit": "a"}, **{"If-None-Match": "*"}).status_code == 412
    refused = put(api, code, {}, **{"If-None-Match": '"abc"'})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/If-None-Match"


def test_if_none_match_spares_the_body(api: Site) -> None:
    code = new_code()
    tag = put(api, code, FULL).headers["ETag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = get(api, code, **{"If-None-Match": known})
        assert answer.status_code == 304
        assert answer.headers["ETag"] == tag
    assert get(api, code, **{"If-None-Match": '"x"'}).status_code == 200
    assert get(api, code, **{"If-None-Match": "x"}).status_code == 422


def test_head_answers_like_get_without_the_body(api: Site) -> None:
    code = new_code()
    tag = put(api, code, FULL).headers["ETag"]
    answer = api.call("HEAD", f"/v1/items/{code}")
    assert (answer.status_code, answer.headers["ETag"], answer.content) == (200, tag, b"")


def test_a_patch_changes_only_what_it_names(api: Site) -> None:
    code = new_code()
    put(api, code, FULL)
    merge = {"Content-Type": "application/merge-patch+json"}
    patch = {"name": {"nl": None, "de": "Schraube"}, "unit": None, "attributes": {"length": 13, "deep": {"a": None}}}
    answer = api.call("PATCH", f"/v1/items/{code}", content=json.dumps(patch), headers=merge)
    assert answer.status_code == 200
    assert answer.json() == {
        **FULL,
        "code": code,
        "name": {"de": "Schraube", "en": "Screw"},
        "unit": None,
        "attributes": {"length": 13, "colours": ["red"], "deep": {}},
        "updated_at": answer.json()["updated_at"],
    }
    assert api.call("PATCH", f"/v1/items/{new_code()}", json={}).status_code == 404
    refused = api.call("PATCH", f"/v1/items/{code}", json={"vat_tariff": "Much", "code": "other", "x": 1})
    assert sorted(error["pointer"] for error in refused.json()["errors"]) == ["/code", "/vat_tariff", "/x"]


def test_of_writers_at_the_same_moment_one_is_first_and_none_is_lost(api: Site) -> None:
    code = new_code()
    path = f"/v1/items/{code}"
    with ThreadPoolExecutor(6) as threads:
        created = list(threads.map(lambda n: put(api, code, {"unit": str(n)}, **{"If-None-Match": "*"}), range(6)))
        assert sorted(answer.status_code for answer in created) == [201, *[412] * 5]
        tag = get(api, code).headers["ETag"]
        changed = list(threads.map(lambda n: put(api, code, {"unit": f"new {n}"}, **{"If-Match": tag}), range(6)))
        assert sorted(answer.status_code for answer in changed) == [200, *[412] * 5]

        def patch(n: int) -> None:
            while (answer := api.call("PATCH", path, json={"attributes": {str(n): n}})).status_code == 409:
                assert answer.json()["type"] == "urn:ordersync:problem:changed-meanwhile"
            assert answer.status_code == 200

        list(threads.map(patch, range(6)))
    assert get(api, code).json()["attributes"] == {str(n): n for n in range(6)}


def test_a_list_is_paged_without_gap_or_repeat(api: Site) -> None:
    prefix = new_code()
    codes = sorted(f"{prefix}-{n:02}" for n in range(7))
    for code in codes:
        put(api, code, {"name": {"en": f"Thing {code}"}})
    for sort, expected in (
        ("code", codes),
        ("-code", codes[::-1]),
        ("updated_at", codes),
        ("-updated_at", codes[::-1]),
    ):
        params = {"limit": "3", "search": prefix, "sort": sort}
        seen: list[str] = []
        sizes: list[int] = []
        while True:
            page = api.call("GET", "/v1/items", params=params).json()
            seen += [item["code"] for item in page["data"]]
            sizes.append(len(page["data"]))
            if page["next"] is None:
                break
            params["cursor"] = page["next"]
        assert seen == expected
        assert sizes == [3, 3, 1]


def test_a_cursor_belongs_to_its_list_and_filters_whatever_the_size_of_the_page(api: Site) -> None:
    prefix = new_code()
    for n in range(3):
        put(api, f"{prefix}-{n}")
    page = api.call("GET", "/v1/items", params={"limit": 1, "search": prefix}).json()
    same = api.call("GET", "/v1/items", params={"limit": 2, "search": prefix, "cursor": page["next"]})
    assert [item["code"] for item in same.json()["data"]] == [f"{prefix}-1", f"{prefix}-2"]
    for path, params in (
        ("/v1/items", {"search": prefix, "sort": "-code"}),
        ("/v1/items", {}),
        ("/v1/webhooks", {}),
        ("/v1/items", {"search": prefix, "cursor": page["next"] + "AAAA"}),
        ("/v1/items", {"search": prefix, "cursor": ""}),
        ("/v1/items", {"search": prefix, "cursor": "ключ"}),
    ):
        answer = api.call("GET", path, params={"cursor": page["next"], **params})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/cursor"]


def test_filters(api: Site) -> None:
    prefix = new_code()
    put(api, f"{prefix}-a", {"name": {"nl": "Zeskantbout"}})
    moment = put(api, f"{prefix}-b", {"name": {"en": "Nut"}}).json()["updated_at"]
    put(api, f"{prefix}-c", {"name": {"en": "Washer"}})

    def codes(**params: str) -> list[str]:
        return [item["code"] for item in api.call("GET", "/v1/items", params=params).json()["data"]]

    assert codes(search="zeskant") == [f"{prefix}-a"]
    assert codes(updated_after=moment) == [f"{prefix}-c"]
    assert codes(code=f"{prefix}-b") == [f"{prefix}-b"]
    assert codes(code="no such") == []


def test_an_export_streams_all_pages(memory_api: Site) -> None:
    api = memory_api
    prefix = new_code()
    lines = [json.dumps({"code": f"{prefix}-{n:04}", **FULL}) for n in range(1_203)]
    bulk(api, lines)
    export = api.call("GET", "/v1/items", params={"search": prefix}, headers={"Accept": "application/x-ndjson"})
    rows = [json.loads(line) for line in export.content.splitlines()]
    assert [row["code"] for row in rows] == [f"{prefix}-{n:04}" for n in range(1_203)]
    assert rows[7] == get(api, f"{prefix}-0007").json()
    table = api.call("GET", "/v1/items", params={"search": prefix}, headers={"Accept": "text/csv"})
    cells = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["code"] for row in cells] == [row["code"] for row in rows]
    assert cells[7]["unit"] == "piece"
    assert json.loads(cells[7]["name"]) == FULL["name"]
    assert cells[7].keys() == rows[7].keys()


def test_an_empty_export_has_a_head_only(api: Site) -> None:
    params = {"search": "nothing is called so"}
    assert api.call("GET", "/v1/items", params=params, headers={"Accept": "application/x-ndjson"}).content == b""
    table = api.call("GET", "/v1/items", params=params, headers={"Accept": "text/csv"}).text
    assert table.startswith("code,name,")
    assert table.count("\r\n") == 1


def bulk(api: Site, lines: list[str], subject: str = EDITOR) -> list[dict[str, Any]]:
    answer = api.call(
        "POST",
        "/v1/items:bulk",
        subject=subject,
        content="\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.splitlines()]


def test_bulk_answers_one_result_a_row_in_order(api: Site) -> None:
    one, two = new_code(), new_code()
    results = bulk(
        api,
        [
            json.dumps({"code": one, "unit": "a"}),
            "{not json",
            json.dumps({"code": two, "units": [{"unit": 3, "factor": "-1"}], "x": 1}),
            "",
            json.dumps({"code": one, "unit": "b"}),
            json.dumps({"code": one, "unit": "b"}),
            json.dumps([one]),
            json.dumps({"unit": "nameless"}),
            json.dumps({"code": two, "administration": "beta"}),
            '{"code": "a\\u0000b", "attributes": {"x": ["\\u0000"]}}',
        ],
    )
    assert [(r["row"], r["status"], r["code"]) for r in results] == [
        (1, 201, one),
        (2, 422, None),
        (3, 422, two),
        (5, 200, one),
        (6, 200, one),
        (7, 422, None),
        (8, 422, None),
        (9, 422, two),
        (10, 422, None),
    ]
    assert [e["pointer"] for e in results[2]["problem"]["errors"]] == ["/units/0/unit", "/units/0/factor", "/x"]
    assert results[0]["problem"] is None
    assert get(api, one).json()["unit"] == "b"
    assert get(api, two).status_code == 404


def test_a_row_that_is_too_long_does_not_disturb_the_next(memory_api: Site) -> None:
    code = new_code()
    long = json.dumps({"code": "long", "attributes": {"text": "x" * 2_500_000}})
    assert [r["status"] for r in bulk(memory_api, [long, json.dumps({"code": code}), long])] == [413, 201, 413]


def test_rows_of_one_item_take_effect_in_order_and_are_told(api: Site) -> None:
    code = new_code()
    api.relay()
    before = len(events(api))
    bulk(api, [json.dumps({"code": code, "unit": unit}) for unit in "aabb"])
    api.relay()
    assert [event["type"] for event in events(api)[before:]] == ["item.created"]
    assert events(api)[-1]["data"]["item"]["unit"] == "b"


def events(api: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = "0"
    while True:
        page = api.call("GET", "/v1/events", params={"limit": 500, "after": after}).json()
        found += page["data"]
        after = page["next_after"]
        if not page["data"]:
            return found


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(item=items())
def test_an_item_survives_the_way_through_the_api(api: Site, item: Item) -> None:
    """By value: where an equal item is stored already, its spelling of numbers stays."""
    answer = api.client.put(
        f"{api.url}/v1/items/{quote(item.code, safe='').replace('.', '%2E')}",
        json=item.content(),
        headers={"Authorization": f"Bearer {api.token(OWNER)}"},
    )
    assert answer.status_code in (200, 201), answer.text
    read = api.call("GET", "/v1/items", params={"code": item.code})
    (shown,) = read.json()["data"]
    assert decode(shown, Item) == item
    assert canonical_bytes(shown["attributes"]) == canonical_bytes(item.attributes)
