"""The query options of one request, parsed and checked against the properties of the resource."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote

from attrs import frozen

from .fields import Field
from .filters import FilterError, Node, parse_filter

_SUPPORTED = frozenset({"$select", "$filter", "$top", "$orderby", "$inlinecount", "$skiptoken", "$expand"})


class BadQuery(ValueError):
    """The text of it is what the answer 400 says."""


@frozen
class QueryOptions:
    """
    Attributes:
        select: in the server's order; None when it was left out.
        orderby: property and whether it descends.
        skiptoken: as it was sent.
    """

    select: tuple[str, ...] | None = None
    filter: Node | None = None
    top: int | None = None
    orderby: tuple[tuple[str, bool], ...] = ()
    count: bool = False
    skiptoken: str | None = None


def parse_options(query: str, fields: Mapping[str, Field]) -> QueryOptions:
    """Read a raw query string; BadQuery for whatever Exact Online refuses. Options without a dollar are ignored."""
    given = _given(query)
    if "$skip" in given:
        raise BadQuery("The query option $skip is not supported, use $skiptoken.")
    for name in given:
        if name not in _SUPPORTED:
            raise BadQuery(f"The query parameter '{name}' begins with '$' and is not recognized.")
    if given.get("$expand", "").strip():
        raise BadQuery(f"No navigation property '{given['$expand']}' exists in this type.")
    return QueryOptions(
        select=_select(given["$select"], fields) if "$select" in given else None,
        filter=_filter(given["$filter"], fields) if given.get("$filter", "").strip() else None,
        top=_top(given["$top"]) if "$top" in given else None,
        orderby=_orderby(given.get("$orderby", ""), fields),
        count=_inlinecount(given.get("$inlinecount", "none")),
        skiptoken=given.get("$skiptoken"),
    )


def parameters(query: str) -> Mapping[str, str]:
    """The options without a dollar, as functions under `read/` take them."""
    return {name: value for name, value in parse_qsl(query, keep_blank_values=True) if not name.startswith("$")}


def next_query(query: str, token: str, top_left: int | None) -> str:
    """The query of the next page: the original options as they were sent, `$top` lowered, and the skip token."""
    parts = [part for part in query.split("&") if part and _name(part) != "$skiptoken"]
    if top_left is not None:
        parts = [f"%24top={top_left}" if _name(part) == "$top" else part for part in parts]
    return "&".join([*parts, f"%24skiptoken={quote(token, safe=chr(39) + ',')}"])


def _given(query: str) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name.startswith("$"):
            if name in given:
                raise BadQuery(f"The query parameter '{name}' appears more than once.")
            given[name] = value
    return given


def _name(part: str) -> str:
    return next((name for name, _ in parse_qsl(part, keep_blank_values=True)), "")


def _select(text: str, fields: Mapping[str, Field]) -> tuple[str, ...]:
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if "*" in asked or not asked:
        return tuple(fields)
    _refuse_unknown(asked, fields)
    chosen = set(asked)
    return tuple(name for name in fields if name in chosen)


def _filter(text: str, fields: Mapping[str, Field]) -> Node:
    try:
        return parse_filter(text, fields)
    except FilterError as error:
        raise BadQuery(str(error)) from error


def _top(text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit()) or len(text) > 9:
        raise BadQuery(f"Incorrect format for $top argument '{text}'.")
    return int(text)


def _orderby(text: str, fields: Mapping[str, Field]) -> tuple[tuple[str, bool], ...]:
    wanted = []
    for part in text.split(","):
        match part.split():
            case []:
                continue
            case [name] | [name, "asc"]:
                wanted.append((name, False))
            case [name, "desc"]:
                wanted.append((name, True))
            case _:
                raise BadQuery(f"Syntax error in $orderby '{part.strip()}'.")
    _refuse_unknown([name for name, _ in wanted], fields)
    return tuple(wanted)


def _inlinecount(text: str) -> bool:
    if text not in ("allpages", "none"):
        raise BadQuery(f"Unknown $inlinecount option '{text}'.")
    return text == "allpages"


def _refuse_unknown(names: Sequence[str], fields: Mapping[str, Field]) -> None:
    for name in names:
        if "/" in name:
            raise BadQuery(f"No navigation property '{name.partition('/')[0]}' exists in this type.")
        if name not in fields:
            raise BadQuery(f"No property '{name}' exists in this type.")
