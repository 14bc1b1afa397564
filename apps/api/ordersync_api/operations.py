"""Operations: what the API can do, declared beside the function that does it.

An endpoint is a plain function of a `Call`. Its other parameters say what it takes: `query` and `body` are decoded into
their type, `upload` is a bulk body on disk, and every other one is a part of the address. It runs in a thread, answers
an `Answer` or a response, and raises the core's errors. The same declaration makes the route and its description.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from attrs import field, frozen
from starlette.responses import Response

from ordersync_api.calls import Answer, Call
from ordersync_api.media import JSON
from ordersync_core.administrations.model import Role

Endpoint = Callable[..., Answer | Response]
E = TypeVar("E", bound=Endpoint)

NOT_PATH = ("query", "body", "upload")
ROLES = {"GET": Role.READER}


@frozen
class Nothing:
    """No parameters, or a body without content."""


@frozen(kw_only=True)
class Operation:
    """One method of one address.

    role: the least that the caller must have; None when no administration is asked for.
    public: whether it is open to everybody, without a token.
    answers: for each status of success what the body looks like; None for none.
    takes, gives: media types of the request's body and of the answer.
    headers: request headers that have a meaning here, besides those of all operations.
    describes: the body's type for the description, where the endpoint takes it as plain JSON.
    creates: a 202 names in Location what was created, as every 201 does.
    refuses: for the description, statuses of refusals besides those of its method and its body.
    """

    method: str
    path: str
    tag: str
    endpoint: Endpoint
    role: Role | None
    public: bool = False
    answers: Mapping[int, Any]
    takes: tuple[str, ...] = (JSON,)
    gives: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()
    describes: Any = None
    creates: bool = False
    refuses: tuple[int, ...] = ()
    hints: Mapping[str, Any]

    @property
    def path_parameters(self) -> Mapping[str, Any]:
        return {name: hint for name, hint in self.hints.items() if name not in NOT_PATH}

    @property
    def query(self) -> Any:
        return self.hints.get("query", Nothing)

    @property
    def body(self) -> Any:
        """The type of the body, `Nothing` for a method that may come with an empty one, None for one without."""
        if "upload" in self.hints:
            return None
        return self.hints.get("body", Nothing if self.method == "POST" else None)

    @property
    def uploads(self) -> bool:
        return "upload" in self.hints


@frozen
class Operations:
    """Collects the operations of one module."""

    tag: str
    all: list[Operation] = field(factory=list)

    def get(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._declare("GET", path, options)

    def put(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._declare("PUT", path, options)

    def post(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._declare("POST", path, options)

    def patch(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._declare("PATCH", path, options)

    def delete(self, path: str, **options: Any) -> Callable[[E], E]:
        return self._declare("DELETE", path, options)

    def _declare(self, method: str, path: str, options: dict[str, Any]) -> Callable[[E], E]:
        def declared(endpoint: E) -> E:
            hints = get_type_hints(endpoint)
            parameters = list(inspect.signature(endpoint).parameters)[1:]
            self.all.append(
                Operation(
                    method=method,
                    path=path,
                    tag=self.tag,
                    endpoint=endpoint,
                    hints={name: hints[name] for name in parameters},
                    **{"role": ROLES.get(method, Role.OWNER), **options},
                )
            )
            return endpoint

        return declared


def call_endpoint(operation: Operation, call: Call, arguments: Mapping[str, Any]) -> Response:
    answer = operation.endpoint(call, **arguments)
    return answer.response() if isinstance(answer, Answer) else answer
