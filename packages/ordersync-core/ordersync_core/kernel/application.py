import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from attrs import evolve, frozen

from ordersync_core.kernel.context import Context
from ordersync_core.kernel.errors import ChangedMeanwhile
from ordersync_core.kernel.unit_of_work import (
    AdminQueries,
    AdminUnitOfWork,
    Databases,
    Opens,
    Queries,
    UnitOfWork,
)

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")

TRIES = 3


@frozen
class Application:
    """Runs a handler with its ports filled in by type.

    resolve: gives the adapter of a port; raises when none was registered.
    databases: opens units of work and queries, bound to the context of the run.
    """

    resolve: Callable[[Any], Any]
    databases: Databases

    def run(self, handler: Callable[Concatenate[C, P], R], command: C, context: Context) -> R:
        """The handler's answer. A run that meets `ChangedMeanwhile` is repeated, three tries in all."""
        ports = _ports_of(handler)
        for _ in range(TRIES - 1):
            try:
                return self._call(handler, command, ports, context)
            except ChangedMeanwhile:
                continue
        return self._call(handler, command, ports, context)

    def providing(self, port: Any, adapter: Any) -> "Application":
        """The same application, with `adapter` for `port`: for what exists only for a while, such as a run."""
        return evolve(self, resolve=lambda wanted: adapter if wanted is port else self.resolve(wanted))

    def _call(self, handler: Callable[..., R], command: object, ports: Mapping[str, Any], context: Context) -> R:
        return handler(command, **{name: self._port(port, context) for name, port in ports.items()})

    def _port(self, port: Any, context: Context) -> Any:
        if port is Context:
            return context
        if port is Application:
            return self
        if get_origin(port) is Opens:
            (slice_,) = get_args(port)
            return lambda: self._port(slice_, context)
        ancestors = getattr(port, "__mro__", ())
        if UnitOfWork in ancestors:
            return self.databases.unit_of_work(context)
        if AdminUnitOfWork in ancestors:
            return self.databases.admin_unit_of_work(context)
        if Queries in ancestors:
            return self.databases.queries(context)
        if AdminQueries in ancestors:
            return self.databases.admin_queries()
        return self.resolve(port)


@cache
def _ports_of(handler: Callable[..., Any]) -> Mapping[str, Any]:
    hints = get_type_hints(handler)
    return {
        name: hints[name]
        for name, parameter in inspect.signature(handler).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
