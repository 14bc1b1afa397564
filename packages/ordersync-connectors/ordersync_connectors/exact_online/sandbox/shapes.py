"""Rows and pages as Exact Online writes them: `__metadata`, `/Date()/`, and the `d` that changes its shape."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from .fields import Field, Value
from .odata import QueryOptions
from .reading import Page, as_literal, defaults_of
from .resources import Resource
from .store import Company, Row
from .values import old_date

Entity = dict[str, Any]

_ENCODERS: Mapping[str, Callable[[Any], Any]] = {"DateTime": old_date, "Int64": str}
_PICTURE_URLS = ("PictureUrl", "PictureThumbnailUrl")


@frozen
class Shape:
    """How rows of one resource look in one answer.

    Attributes:
        columns: the chosen properties, in the server's order.
    """

    resource: Resource
    company: Company
    base_url: str
    columns: Sequence[Field]
    _plan: Sequence[tuple[str, Value, Callable[[Any], Any] | None]] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Looked up once for a page, not once for a row: pages have a thousand rows.
        defaults = defaults_of(self.resource, self.company)
        plan = [(each.name, defaults.get(each.name), _ENCODERS.get(each.edm)) for each in self.columns]
        object.__setattr__(self, "_plan", plan)

    def entity(self, row: Row) -> Entity:
        """A row with its `__metadata` in front."""
        get = row.values.get
        shown: Entity = {"__metadata": {"uri": self.uri(row), "type": self.type_name}}
        for name, default, encode in self._plan:
            value = get(name, default)
            shown[name] = value if encode is None or value is None else encode(value)
        for name in _PICTURE_URLS:
            if name in shown and self.resource.path.lower().endswith("/items"):
                # No item here has a picture; Exact shows a placeholder, with two slashes in its address.
                shown[name] = f"{self.base_url}//docs/images/placeholder_item.png"
        return shown

    @property
    def type_name(self) -> str:
        return f"Exact.Web.Api.Models.{self.resource.type_name}"

    @property
    def collection_uri(self) -> str:
        if self.resource.path == "current/Me":
            return f"{self.base_url}/api/v1/current/Me"
        return f"{self.base_url}/api/v1/{self.company.division}/{self.resource.path}"

    def uri(self, row: Row) -> str:
        key = self.resource.key
        return f"{self.collection_uri}({as_literal(self.resource.fields[key], row.values[key]).removesuffix('L')})"


def shape(resource: Resource, company: Company, base_url: str, select: Iterable[str] | None) -> Shape:
    names = resource.fields if select is None else select
    return Shape(resource, company, base_url, [resource.fields[name] for name in names])


def envelope(page: Page, entities: list[Entity], options: QueryOptions, *, page_size: int, next_url: str | None) -> Any:
    """`d`: a bare array when `$top` promises that one page is enough, otherwise an object with `results`."""
    one_page = options.top is not None and options.top <= page_size
    if one_page and options.skiptoken is None and page.total is None:
        return {"d": entities}
    d: dict[str, Any] = {"results": entities}
    if page.total is not None:
        d["__count"] = str(page.total)
    if next_url is not None:
        d["__next"] = next_url
    return {"d": d}


def single(entity: Mapping[str, Value] | Entity) -> Any:
    return {"d": entity}
