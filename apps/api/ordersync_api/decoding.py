"""What a request carries, as values: its query, its body, its conditions. Every violation is told at once."""

import re
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

from ordersync_api.values import EventNumber, Limit
from ordersync_core.kernel.decoding import decode, parse
from ordersync_core.kernel.errors import InvalidInput, Violation

T = TypeVar("T")

MAXIMUM_PARAMETERS = 100
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_ENTITY_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')


def decode_query(query_string: bytes, kind: type[T]) -> T:
    """The query as a value of the attrs class `kind`.

    A whole number and a boolean are written as in JSON; a list as one parameter with commas, or as several of the
    same name. InvalidInput for an unknown parameter, or one that stands there twice.
    """
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAXIMUM_PARAMETERS
        )
    except ValueError:
        raise InvalidInput("the query cannot be read", (Violation("", "cannot be read as a query"),)) from None
    hints = get_type_hints(kind)
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    violations = [
        Violation(f"/{name}", "must be given once")
        for name, texts in given.items()
        if len(texts) > 1 and not _is_list(hints.get(name))
    ]
    values = {name: _plain(texts, hints.get(name)) for name, texts in given.items()}
    return _decoded(values, kind, violations)


def decode_body(content: bytes, kind: type[T]) -> T:
    """The JSON body as a value of the attrs class `kind`; no body at all counts as an empty object."""
    return decode(parse_body(content) if content else {}, kind)


def parse_body(content: bytes) -> Any:
    """JSON to plain values. InvalidInput also for a null character, which no database keeps."""
    value = parse(content)
    if b"\\u0000" in content:
        violations = tuple(_null_characters(value, ""))
        if violations:
            raise InvalidInput("the body holds null characters", violations)
    return value


def parse_object(content: bytes) -> dict[str, Any]:
    value = parse_body(content)
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object", (Violation("", "must be an object"),))
    return value


def entity_tags(headers: Headers, name: str, *, weak: bool) -> frozenset[str] | None:
    """The entity tags of `If-Match` or `If-None-Match` (RFC 9110, section 13.1), or {"*"}; None without the header.

    weak: whether a weak tag counts as the strong one; otherwise it is left out, for it never matches.
    """
    values = headers.getlist(name)
    if not values:
        return None
    line = ", ".join(values)
    if line.strip() == "*":
        return frozenset("*")
    tags: set[str] = set()
    place = 0
    while place < len(line):
        match = _ENTITY_TAG.match(line, place)
        if match is None:
            text = 'must be * or entity tags such as "abc"'
            raise InvalidInput(f"the header {name} {text}", (Violation(f"/{name}", text),))
        if weak or not match[1]:
            tags.add(match[2])
        place = match.end()
    return frozenset(tags)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, an object is merged, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def together(*errors: InvalidInput | None) -> None:
    """Raise all of them as one."""
    found = [error for error in errors if error is not None]
    if len(found) == 1:
        raise found[0]
    if found:
        violations = tuple(v for error in found for v in error.violations or (Violation("", str(error)),))
        raise InvalidInput("; ".join(str(error) for error in found), violations)


def _decoded(values: dict[str, Any], kind: type[T], violations: Sequence[Violation]) -> T:
    try:
        decoded = decode(values, kind)
    except InvalidInput as error:
        repeated = {violation.pointer for violation in violations}
        violations = [*violations, *(v for v in error.violations if v.pointer not in repeated)]
        raise InvalidInput(str(error), tuple(violations)) from None
    if violations:
        raise InvalidInput(f"{violations[0].pointer} {violations[0].message}", tuple(violations))
    return decoded


def _plain(texts: list[str], hint: Any) -> Any:
    """The JSON value that the parameter stands for; what cannot be one is left as text, and refused as such."""
    if _is_list(hint):
        return [entry for text in texts for entry in text.split(",")]
    text = texts[0]
    kinds = _alternatives(hint)
    if any(kind in (int, Limit, EventNumber) for kind in kinds) and _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if bool in kinds and text in ("true", "false"):
        return text == "true"
    return text


def _is_list(hint: Any) -> bool:
    return any(get_origin(kind) is tuple for kind in _alternatives(hint))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _null_characters(value: Any, pointer: str) -> Iterator[Violation]:
    if isinstance(value, str):
        if "\x00" in value:
            yield Violation(pointer, "must not hold a null character")
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _null_characters(entry, f"{pointer}/{place}")
    elif isinstance(value, dict):
        for name, entry in value.items():
            if "\x00" in name:
                yield Violation(pointer, "must not have a name with a null character")
            yield from _null_characters(entry, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
