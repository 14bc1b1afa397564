"""Strict decoding of JSON into the core's types, with every violation at once.

A number is not taken for a string, a time needs a zone, an unknown field is refused. Value rules live in value
types: a class with a hook here reports its own sentence at its own place. A model says how it is decoded by
`register`; nothing else knows cattrs.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar, get_origin
from uuid import UUID

import orjson
from cattrs import Converter
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from ordersync_core.kernel.errors import InvalidInput, Violation

T = TypeVar("T")

MAXIMUM_DEPTH = 32


class Refused(ValueError):
    """A value rule was broken; the text is for the caller."""


def _string(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise Refused("must be a string")
    if "\x00" in value:
        raise Refused("must not hold a null character")
    return value


def _integer(value: Any, _: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused("must be a whole number")
    return value


def _boolean(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused("must be true or false")
    return value


def _decimal(value: Any, _: Any) -> Decimal:
    try:
        number = Decimal(_string(value, str))
    except InvalidOperation:
        raise Refused('must be a decimal in a string, such as "12.50"') from None
    if not number.is_finite():
        raise Refused("must be a finite number")
    if len(number.as_tuple().digits) > 28 or abs(number.adjusted()) > 28:
        raise Refused("must have at most 28 digits")
    return number


def _moment(value: Any, _: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(_string(value, str))
    except ValueError:
        raise Refused("must be a time such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise Refused("must name its time zone, such as 2026-01-31T12:00:00Z")
    return moment


def _uuid(value: Any, _: Any) -> UUID:
    try:
        return UUID(_string(value, str))
    except ValueError:
        raise Refused("must be a UUID") from None


def _enumeration(value: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(_string(value, str))
    except ValueError:
        names = ", ".join(str(member.value) for member in kind)
        raise Refused(f"must be one of {names}") from None


_converter = Converter(forbid_extra_keys=True, detailed_validation=True)


def _text_or_name(value: Any, kind: type[Any]) -> Any:
    """cattrs asks for a hook by inheritance, and an enumeration of texts inherits from str."""
    return _enumeration(value, kind) if issubclass(kind, Enum) else _string(value, str)


_converter.register_structure_hook(str, _text_or_name)
_converter.register_structure_hook(int, _integer)
_converter.register_structure_hook(bool, _boolean)
_converter.register_structure_hook(Decimal, _decimal)
_converter.register_structure_hook(datetime, _moment)
_converter.register_structure_hook(UUID, _uuid)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple_of(kind: Any) -> Callable[[Any, Any], Any]:
    """Only a list becomes a tuple: cattrs would take a string or an object apart."""
    structure = homogenous_tuple_structure_factory(kind, _converter)

    def from_list(value: Any, kind: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Refused("must be a list")
        return structure(value, kind)

    return from_list


_converter.register_structure_hook_factory(_is_tuple, _tuple_of)


def register(kind: Any, build: Callable[[Any], Any]) -> None:
    """Decode `kind` by calling `build` on the JSON value; a ValueError of it is the caller's violation."""
    if isinstance(kind, type):
        _converter.register_structure_hook(kind, lambda value, _: build(value))
    else:
        _converter.register_structure_hook_func(lambda other: other == kind, lambda value, _: build(value))


def decode(value: Any, kind: type[T]) -> T:
    """A value of `kind` from parsed JSON.

    Raises:
        InvalidInput: with one violation for each rule that is broken.
    """
    try:
        return _converter.structure(value, kind)
    except Exception as error:
        violations = tuple(_violations(error, ""))
        if not violations:
            raise
        raise InvalidInput(_summary(violations), violations) from None


def parse(text: bytes) -> Any:
    """JSON to plain values; InvalidInput for malformed text, depth over 32, or a number that is no JSON."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}", (Violation("", "is not JSON"),)) from None
    # each level opens a bracket, so that few brackets need no look
    if text.count(b"{") + text.count(b"[") >= MAXIMUM_DEPTH and _depth(value) > MAXIMUM_DEPTH:
        raise InvalidInput(f"the body is nested more than {MAXIMUM_DEPTH} deep", (Violation("", "nested too deep"),))
    return value


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion, so that a hostile body cannot exhaust the stack."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for entry in level
            if isinstance(entry, dict | list)
            for child in (entry.values() if isinstance(entry, dict) else entry)
        ]
        if depth > MAXIMUM_DEPTH:
            break
    return depth


def _violations(error: BaseException, pointer: str) -> list[Violation]:
    if isinstance(error, ClassValidationError):
        with_notes, without = error.group_exceptions()
        found = [v for inner, note in with_notes for v in _violations(inner, f"{pointer}/{_token(note.name)}")]
        return found + [v for inner in without for v in _violations(inner, pointer)]
    if isinstance(error, IterableValidationError):
        inner_errors, rest = error.group_exceptions()
        found = [v for inner, note in inner_errors for v in _violations(inner, f"{pointer}/{_token(note.index)}")]
        return found + [v for inner in rest for v in _violations(inner, pointer)]
    if isinstance(error, ForbiddenExtraKeysError):
        return [Violation(f"{pointer}/{_token(name)}", "is not a known field") for name in sorted(error.extra_fields)]
    if isinstance(error, KeyError):
        return [Violation(pointer, "is required")]
    if isinstance(error, InvalidInput) and error.violations:
        return [Violation(pointer + inner.pointer, inner.message) for inner in error.violations]
    if isinstance(error, ValueError | TypeError | InvalidInput | AttributeError):
        return [Violation(pointer, _sentence(error))]
    return []


def _sentence(error: BaseException) -> str:
    if isinstance(error, ValueError | InvalidInput):
        return str(error)
    return "has the wrong type"


def _token(name: object) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _summary(violations: tuple[Violation, ...]) -> str:
    first = violations[0]
    place = first.pointer or "the body"
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return f"{place} {first.message}{more}"


def text(value: Any) -> str:
    """The string itself; ValueError for any other JSON value."""
    return _string(value, str)


def decimal(value: Any) -> Decimal:
    """The decimal in a string; ValueError for any other JSON value."""
    return _decimal(value, Decimal)


def mapping(value: Any) -> Mapping[str, Any]:
    """The JSON object itself; ValueError for any other JSON value."""
    if not isinstance(value, dict):
        raise Refused("must be an object")
    return value


register(Mapping[str, Any], mapping)
