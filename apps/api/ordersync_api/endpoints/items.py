from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import IO, Any

from attrs import frozen
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from ordersync_api.bulk import results
from ordersync_api.calls import Answer, Call, PageQuery
from ordersync_api.decoding import entity_tags, merge_patch, together
from ordersync_api.exporting import exported
from ordersync_api.media import CSV, JSON, MERGE_PATCH, NDJSON
from ordersync_api.operations import Operations
from ordersync_api.problems import problem_of
from ordersync_api.shapes import BulkResult, ItemShown, ListOf
from ordersync_api.values import SearchText
from ordersync_core.administrations.model import Role
from ordersync_core.items import handlers
from ordersync_core.items.commands import DeleteItem, PutItem
from ordersync_core.items.handlers import VersionMismatch
from ordersync_core.items.model import Item, ItemCode, version_of
from ordersync_core.items.ports import ItemQueries
from ordersync_core.kernel.decoding import decode
from ordersync_core.kernel.errors import ChangedMeanwhile, InvalidInput, NotFound, Violation
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import Page, PageRequest

operations = Operations("item")

IF_MATCH, IF_NONE_MATCH = "If-Match", "If-None-Match"
PATCH_TRIES = 3
COLUMNS = (*Item(code=ItemCode("A")).content(), "updated_at")


class ItemSort(StrEnum):
    CODE = "code"
    CODE_DOWN = "-code"
    UPDATED_AT = "updated_at"
    UPDATED_AT_DOWN = "-updated_at"


@frozen(kw_only=True)
class ItemsQuery(PageQuery):
    """`search`: a part of the code or of any name. `code`: exactly this one."""

    sort: ItemSort = ItemSort.CODE
    search: SearchText | None = None
    updated_after: datetime | None = None
    code: str | None = None


@operations.get("/v1/items", answers={200: ListOf[ItemShown]}, gives=(JSON, NDJSON, CSV))
def list_items(call: Call, query: ItemsQuery) -> Answer | Response:
    """Items, a page at a time; as NDJSON or CSV all of them in one stream."""
    read = _reader(call, query)
    page = call.page(query)
    if call.media != JSON:
        return exported(read, page.after, shown, media=call.media, columns=COLUMNS)
    return call.listed(read(page), query, shown)


@operations.get("/v1/items/{code}", answers={200: ItemShown, 304: None}, headers=(IF_NONE_MATCH,))
def get_item(call: Call, code: ItemCode) -> Answer:
    """One item."""
    item = _item(call, code)
    known = entity_tags(call.headers, IF_NONE_MATCH, weak=True)
    if known is not None and known & {"*", version_of(item)}:
        return Answer(status=304, headers=_entity_tag(item))
    return Answer(body=shown(item), headers=_entity_tag(item))


@operations.put(
    "/v1/items/{code}",
    role=Role.EDITOR,
    answers={200: ItemShown, 201: ItemShown},
    headers=(IF_MATCH, IF_NONE_MATCH),
    describes=Item,
)
def put_item(call: Call, code: str, body: dict[str, Any]) -> Answer:
    """Create or replace an item: what the body leaves out is unknown from now on. `updated_at` is passed over."""
    command = PutItem(
        item=item_at(code, body),
        if_match=entity_tags(call.headers, IF_MATCH, weak=False),
        if_none_match=_only_if_absent(call.headers),
    )
    item, created = call.run(handlers.put_item, command)
    location = {"Location": call.location} if created else {}
    return Answer(body=shown(item), status=201 if created else 200, headers={**_entity_tag(item), **location})


@operations.patch(
    "/v1/items/{code}",
    role=Role.EDITOR,
    answers={200: ItemShown},
    takes=(MERGE_PATCH, JSON),
    headers=(IF_MATCH,),
    describes=Item,
)
def patch_item(call: Call, code: ItemCode, body: dict[str, Any]) -> Answer:
    """Change an item by a JSON merge patch (RFC 7396): null makes a field unknown."""
    wanted = entity_tags(call.headers, IF_MATCH, weak=False)
    for _ in range(PATCH_TRIES):
        kept = _item(call, code)
        patched = item_at(code, merge_patch(kept.content(), body))
        if wanted is not None and not wanted & {"*", version_of(kept)}:
            raise VersionMismatch("the item was changed meanwhile: read it again")
        try:
            item, _ = call.run(handlers.put_item, PutItem(item=patched, if_match=frozenset({version_of(kept)})))
        except VersionMismatch:
            continue  # somebody was faster: the patch is made on what is there now, unless If-Match forbids it
        return Answer(body=shown(item), headers=_entity_tag(item))
    raise ChangedMeanwhile(f"item {code} is being changed by others")


@operations.delete("/v1/items/{code}", role=Role.EDITOR, answers={204: None}, headers=(IF_MATCH,))
def delete_item(call: Call, code: ItemCode) -> Answer:
    """Delete an item."""
    call.run(handlers.delete_item, DeleteItem(code=code, if_match=entity_tags(call.headers, IF_MATCH, weak=False)))
    return Answer(status=204)


@operations.post(
    "/v1/items:bulk",
    role=Role.EDITOR,
    answers={200: BulkResult},
    takes=(NDJSON,),
    gives=(NDJSON,),
    describes=Item,
)
def put_many_items(call: Call, upload: IO[bytes]) -> Response:
    """Create or replace many items, one a line; the answer has a line for each, in order. Rows take effect some
    hundred at a time, and a refused one does not disturb the others."""
    lines = results(
        upload,
        lambda command: call.run(handlers.put_items, command),
        lambda error: problem_of(error, call.context.correlation_id),
    )
    return StreamingResponse(lines, media_type=NDJSON)


def shown(item: Item) -> dict[str, Any]:
    return {**item.content(), "updated_at": None if item.updated_at is None else rfc3339(item.updated_at)}


def item_at(code: str, content: dict[str, Any]) -> Item:
    """The item that a body holds at this address; the body need not repeat the code, but must not name another."""
    other = InvalidInput("/code is not that of the address", (Violation("/code", "is not that of the address"),))
    try:
        item = decode({**content, "code": code}, Item)
    except InvalidInput as error:
        together(error, None if _same_code(content.get("code", code), code) else other)
        raise
    together(None if _same_code(content.get("code", code), code) else other)
    return item


def _same_code(given: Any, code: str) -> bool:
    try:
        return given == code or ItemCode(given) == ItemCode(code)
    except (ValueError, AttributeError):
        return False


def _item(call: Call, code: ItemCode) -> Item:
    queries: ItemQueries = call.queries()
    item = queries.item(code)
    if item is None:
        raise NotFound(f"there is no item {code}")
    return item


def _reader(call: Call, query: ItemsQuery) -> Callable[[PageRequest], Page[Item]]:
    queries: ItemQueries = call.queries()
    return lambda page: queries.items(
        page, sort=query.sort.value, search=query.search, updated_after=query.updated_after, code=query.code
    )


def _entity_tag(item: Item) -> dict[str, str]:
    return {"ETag": f'"{version_of(item)}"'}


def _only_if_absent(headers: Headers) -> bool:
    tags = entity_tags(headers, IF_NONE_MATCH, weak=True)
    if tags is not None and tags != {"*"}:
        raise InvalidInput(f"{IF_NONE_MATCH} must be * here", (Violation(f"/{IF_NONE_MATCH}", "must be * here"),))
    return tags is not None
