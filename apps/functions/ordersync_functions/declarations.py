"""The declared functions as plain values."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from attrs import frozen

from ordersync_functions.function_app import app


@frozen(kw_only=True)
class Timer:
    name: str
    schedule: str
    call: Callable[..., Any]


@frozen(kw_only=True)
class QueueTrigger:
    """one_at_a_time: how Azure hands its messages over."""

    name: str
    queue: str
    connection: str
    one_at_a_time: bool
    call: Callable[..., Any]


@frozen(kw_only=True)
class HttpTrigger:
    """auth_level: "anonymous" or "function"; the latter wants the functions' key."""

    name: str
    route: str
    methods: Sequence[str]
    auth_level: str
    call: Callable[..., Any]


Declaration = Timer | QueueTrigger | HttpTrigger


@cache
def declarations() -> Sequence[Declaration]:
    """Read once: a second `get_functions()` of the same app raises."""
    return [_declaration(function) for function in app.get_functions()]


def _declaration(function: Any) -> Declaration:
    name, call, trigger = function.get_function_name(), function.get_user_function(), function.get_trigger()
    told = trigger.get_dict_repr()
    match trigger.type:
        case "timerTrigger":
            return Timer(name=name, schedule=told["schedule"], call=call)
        case "serviceBusTrigger":
            one_at_a_time = _text(told["cardinality"]) == "one"
            return QueueTrigger(
                name=name,
                queue=told["queueName"],
                connection=told["connection"],
                one_at_a_time=one_at_a_time,
                call=call,
            )
        case "httpTrigger":
            methods = [_text(method) for method in told["methods"]]
            auth_level = _text(told["authLevel"]).lower()
            return HttpTrigger(name=name, route=told["route"], methods=methods, auth_level=auth_level, call=call)
        case other:
            raise ValueError(f"{name} has a trigger that this host does not know: {other}")


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))
