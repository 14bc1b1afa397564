"""One request, as an endpoint sees it."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec
from attrs import asdict, field, frozen
from starlette.datastructures import Headers
from starlette.responses import Response

from ordersync_api.authentication import Tokens
from ordersync_api.cursors import Cursors
from ordersync_api.media import JSON
from ordersync_api.metrics import Metrics
from ordersync_api.values import Limit
from ordersync_core.kernel.application import Application
from ordersync_core.kernel.context import Context
from ordersync_core.kernel.paging import DEFAULT_LIMIT, Page, PageRequest

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

BODY_LIMIT = 10_000_000
BULK_LIMIT = 500_000_000


@frozen(kw_only=True)
class Shell:
    """What all requests share.

    openapi: the document that describes the operations, made once.
    body_limit, bulk_limit: bytes; bulk bodies lie on disk while they are worked on.
    """

    application: Application
    tokens: Tokens
    cursors: Cursors
    metrics: Metrics
    version: str
    openapi: Mapping[str, Any]
    body_limit: int = BODY_LIMIT
    bulk_limit: int = BULK_LIMIT


@frozen(kw_only=True)
class PageQuery:
    """What every list takes. `cursor` is the `next` of the page before."""

    limit: Limit = Limit(DEFAULT_LIMIT)
    cursor: str | None = None


class HasPage(Protocol):
    @property
    def limit(self) -> Limit: ...

    @property
    def cursor(self) -> str | None: ...


@frozen(kw_only=True)
class Answer:
    """body: becomes JSON; None for an answer without a body."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)

    def response(self) -> Response:
        if self.body is None:
            return Response(status_code=self.status, headers=dict(self.headers))
        return Response(msgspec.json.encode(self.body), self.status, headers=dict(self.headers), media_type=JSON)


def whole_list(rows: Iterable[Mapping[str, Any]]) -> Answer:
    """A list that is never so long that it needs pages."""
    return Answer(body={"data": list(rows), "next": None})


@frozen(kw_only=True)
class Call:
    """path: of the address; of what may be percent-encoded only `/` and `%` are.

    media: the type that the caller wants as an answer.
    """

    shell: Shell
    context: Context
    headers: Headers
    path: str
    media: str = JSON

    @property
    def location(self) -> str:
        """This address, as it goes into a header."""
        return "/".join(quote(unquote(part), safe=":") for part in self.path.split("/"))

    @property
    def administration(self) -> str:
        if self.context.administration is None:
            raise TypeError("this operation asks for no administration")
        return self.context.administration

    def run(self, handler: Callable[Concatenate[C, P], R], command: C) -> R:
        return self.shell.application.run(handler, command, self.context)

    def queries(self) -> Any:
        """The reads of the administration's database; the caller says which slice it means."""
        return self.shell.application.databases.queries(self.context)

    def admin_queries(self) -> Any:
        return self.shell.application.databases.admin_queries()

    def page(self, query: HasPage) -> PageRequest:
        """The page that the query asks for; InvalidInput when its cursor is of another list, filter or tenant."""
        if query.cursor is None:
            return PageRequest(limit=query.limit)
        after = self.shell.cursors.decode(query.cursor, administration=self.administration, resource=self._list(query))
        return PageRequest(limit=query.limit, after=after)

    def listed(self, page: Page[T], query: HasPage, show: Callable[[T], Mapping[str, Any]]) -> Answer:
        cursor = None
        if page.next is not None:
            cursor = self.shell.cursors.encode(
                page.next, administration=self.administration, resource=self._list(query)
            )
        return Answer(body={"data": [show(row) for row in page.rows], "next": cursor})

    def created(
        self,
        body: Mapping[str, Any],
        id: UUID,
        *,
        status: int = 201,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """Something new, that is found below this address."""
        return Answer(body=body, status=status, headers={"Location": f"{self.location}/{id}", **headers})

    def _list(self, query: HasPage) -> str:
        """Names the list that a cursor belongs to: its address and filters, whatever the size of the page."""
        filters = asdict(query, filter=lambda attribute, _: attribute.name not in ("limit", "cursor"))  # type: ignore[arg-type]
        return f"{self.path}?{msgspec.json.encode(filters).decode()}"
