"""The description: valid, complete, and true to the routes."""

import re
from html.parser import HTMLParser

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from ordersync_api.app import OPERATIONS, build_app
from ordersync_api.cursors import Cursors
from tests.api.site import Site, in_memory


class NoTokens:
    def subject(self, token: str) -> str:
        return token


def test_it_is_valid(memory_api: Site) -> None:
    assert memory_api.openapi["openapi"] == "3.1.0"
    errors = list(OpenAPIV31SpecValidator(memory_api.openapi).iter_errors())
    assert errors == []


def test_it_describes_exactly_the_routes(memory_api: Site) -> None:
    app = build_app(in_memory(), tokens=NoTokens(), cursors=Cursors.of([b"x"]))
    routed = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.app.operations  # type: ignore[attr-defined]
    }
    described = {(path, method) for path, methods in memory_api.openapi["paths"].items() for method in methods}
    assert described == routed
    assert len(described) == len(OPERATIONS)


def test_every_operation_has_a_name_of_its_own_and_a_sentence(memory_api: Site) -> None:
    operations = [o for methods in memory_api.openapi["paths"].values() for o in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations)


def test_every_part_of_an_address_is_described(memory_api: Site) -> None:
    for path, methods in memory_api.openapi["paths"].items():
        for operation in methods.values():
            parts = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert parts == set(re.findall(r"{(\w+)}", path))


def test_each_address_knows_its_methods(memory_api: Site) -> None:
    """405 with all methods of the address in Allow, whoever asks."""
    for path, methods in memory_api.openapi["paths"].items():
        concrete = re.sub(r"{\w+}", "x", path)
        allowed = {method.upper() for method in methods} | ({"HEAD"} if "get" in methods else set())
        answer = memory_api.call("OPTIONS", concrete, subject=None)
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert answer.json()["type"] == "urn:ordersync:problem:method-not-allowed"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/items/", "/v2/items", "/v1/item", "/V1/items", "//v1/items"])
def test_an_unknown_address_is_a_problem(memory_api: Site, path: str) -> None:
    answer = memory_api.client.get(memory_api.url + path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_for_people_asks_nothing_of_anybody_else(memory_api: Site) -> None:
    answer = memory_api.call("GET", "/docs", subject=None, headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = Page()
    page.feed(answer.text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "form"}
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    assert addresses == ["/openapi.json"]
    for path in memory_api.openapi["paths"]:
        assert path in page.text
