"""`$filter`: the part of OData v2's language that Exact Online understands, parsed to a small tree and run on rows.

    or  := and ("or" and)*            and := not ("and" not)*        not := "not" not | comparison
    comparison := value (("eq" | "ne" | "gt" | "ge" | "lt" | "le") value)?
    value := literal | property | function "(" value ("," value)* ")" | "(" or ")"

Comparison with null follows OData: `eq` and `ne` ask whether it is null, the others are false. Texts compare exactly,
padding included, which is why a filter on a padded property needs the spaces or `trim`.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn

from attrs import frozen

from .fields import Field, Value
from .values import BadValue, wall_date

Kind = Literal["text", "number", "guid", "date", "boolean", "null"]
Test = Callable[[Mapping[str, Value]], Any]
"""Runs on a row's values; missing properties are null."""

DEEPEST = 50
"""Nesting of parentheses and `not` that is still read."""


class FilterError(ValueError):
    """The text of it is what the answer 400 says."""


@frozen
class Constant:
    kind: Kind
    value: Value


@frozen
class Property:
    name: str
    kind: Kind


@frozen
class Call:
    name: str
    arguments: tuple["Node", ...]
    kind: Kind


@frozen
class Comparison:
    name: str
    left: "Node"
    right: "Node"
    kind: Kind = "boolean"


@frozen
class Not:
    of: "Node"
    kind: Kind = "boolean"


@frozen
class Every:
    parts: tuple["Node", ...]
    kind: Kind = "boolean"


@frozen
class Either:
    parts: tuple["Node", ...]
    kind: Kind = "boolean"


Node = Constant | Property | Call | Comparison | Not | Every | Either

_KINDS: Mapping[str, Kind] = {
    "Guid": "guid",
    "String": "text",
    "Binary": "text",
    "DateTime": "date",
    "Boolean": "boolean",
}
# substringof has its arguments the other way round: the part first, the whole second.
_FUNCTIONS: Mapping[str, tuple[int, Kind, Callable[..., Any]]] = {
    "substringof": (2, "boolean", lambda part, whole: part in whole),
    "startswith": (2, "boolean", lambda whole, part: whole.startswith(part)),
    "endswith": (2, "boolean", lambda whole, part: whole.endswith(part)),
    "trim": (1, "text", lambda whole: whole.strip(" ")),
    "tolower": (1, "text", lambda whole: whole.lower()),
    "toupper": (1, "text", lambda whole: whole.upper()),
}
_TOKENS = re.compile(
    r"""\s*(?:
        (?P<prefixed>(?:guid|datetime)'[^']*')
      | (?P<text>'(?:[^']|'')*')
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[LlMmDdFf]?(?![A-Za-z0-9_]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:/[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<sign>[(),])
    )""",
    re.VERBOSE | re.ASCII,
)
_ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_OPERATORS = frozenset({"eq", "ne", *_ORDERINGS})
NO_DEFAULTS: Mapping[str, Value] = {}


def parse_filter(text: str, fields: Mapping[str, Field]) -> Node:
    """The tree of a filter whose property names and types agree with `fields`; FilterError otherwise."""
    return _Parser(_split(text), fields).whole()


def compiled(node: Node, defaults: Mapping[str, Value] = NO_DEFAULTS) -> Test:
    """The tree as one function of a row's values; `defaults` stand for properties that a row does not have."""
    match node:
        case Constant(value=value):
            return lambda _: value
        case Property(name=name):
            default = defaults.get(name)
            return lambda values: values.get(name, default)
        case Call(arguments=arguments):
            return _compiled_call(_FUNCTIONS[node.name][2], [compiled(each, defaults) for each in arguments])
        case Comparison(name, left, right):
            return _compiled_comparison(name, compiled(left, defaults), compiled(right, defaults))
        case Not(of=of):
            test = compiled(of, defaults)
            return lambda values: not test(values)
        case Every(parts=parts):
            every = [compiled(part, defaults) for part in parts]
            return lambda values: all(test(values) for test in every)
        case Either(parts=parts):
            either = [compiled(part, defaults) for part in parts]
            return lambda values: any(test(values) for test in either)


def lower_bound(node: Node | None, name: str) -> int | None:
    """The highest n for which the filter cannot hold unless `name` is greater than n; None when it sets no bound."""
    match node:
        case Comparison("gt", Property(name=found), Constant(value=int() as value)) if found == name:
            return value
        case Comparison("ge" | "eq", Property(name=found), Constant(value=int() as value)) if found == name:
            return value - 1
        case Every(parts=parts):
            bounds = [bound for bound in (lower_bound(part, name) for part in parts) if bound is not None]
            return max(bounds, default=None)
    return None


def named_values(node: Node | None, name: str) -> set[str] | None:
    """The texts that `name` must be one of for the filter to hold; None when it does not say so."""
    match node:
        case Comparison("eq", Property(name=found), Constant(value=str() as value)) if found == name:
            return {value}
        case Every(parts=parts):
            return next((named for part in parts if (named := named_values(part, name)) is not None), None)
        case Either(parts=parts):
            each = [named_values(part, name) for part in parts]
            known = [named for named in each if named is not None]
            return set().union(*known) if len(known) == len(each) else None
    return None


def literals(text: str) -> tuple[Constant, ...]:
    """One or more literals with commas between them, as keys and skip tokens have them; FilterError otherwise."""
    return _Parser(_split(text), {}).whole_literals()


_Token = tuple[str, str, int]  # group name, text, position


def _split(text: str) -> list[_Token]:
    tokens, position = [], 0
    end = len(text.rstrip())
    while position < end:
        found = _TOKENS.match(text, position)
        if found is None or found.lastgroup is None:
            raise FilterError(f"Syntax error at position {position}.")
        tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        position = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: Sequence[_Token], fields: Mapping[str, Field]) -> None:
        self._tokens = tokens
        self._fields = fields
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._either()
        if self._next < len(self._tokens):
            self._fail()
        return self._boolean(node)

    def whole_literals(self) -> tuple[Constant, ...]:
        found = [self._literal()]
        while self._took(","):
            found.append(self._literal())
        if self._next < len(self._tokens):
            self._fail()
        return tuple(found)

    def _literal(self) -> Constant:
        group, text, _ = self._peek()
        if group not in ("text", "prefixed", "number") and text not in ("true", "false", "null"):
            self._fail()
        self._next += 1
        return _constant(group, text)

    def _either(self) -> Node:
        parts = [self._every()]
        while self._took("or"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Either(tuple(self._boolean(part) for part in parts))

    def _every(self) -> Node:
        parts = [self._not()]
        while self._took("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else Every(tuple(self._boolean(part) for part in parts))

    def _not(self) -> Node:
        if not self._took("not"):
            return self._comparison()
        self._deeper()
        node = Not(self._boolean(self._not()))
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        left = self._value()
        name = self._peek()[1]
        if name not in _OPERATORS:
            return left
        self._next += 1
        right = self._value()
        if left.kind != right.kind and "null" not in (left.kind, right.kind):
            raise FilterError(f"Operator '{name}' incompatible with operand types '{left.kind}' and '{right.kind}'.")
        return Comparison(name, left, right)

    def _value(self) -> Node:
        group, text, _ = self._peek()
        if group in ("text", "prefixed", "number") or text in ("true", "false", "null"):
            return self._literal()
        if text == "(":
            return self._in_parentheses()
        if group != "word" or text in _OPERATORS | {"and", "or", "not"}:
            self._fail()
        self._next += 1
        return self._call(text) if self._peek()[1] == "(" else self._property(text)

    def _in_parentheses(self) -> Node:
        self._deeper()
        self._expect("(")
        node = self._either()
        self._expect(")")
        self._depth -= 1
        return node

    def _property(self, name: str) -> Node:
        if "/" in name:
            raise FilterError(f"Filter parameter not supported: navigation property '{name}'.")
        field = self._fields.get(name)
        if field is None:
            raise FilterError(f"No property '{name}' exists in this type.")
        if not field.filterable:
            raise FilterError(f"Filter on field '{name}' is not supported.")
        return Property(name, _KINDS.get(field.edm, "number"))

    def _call(self, name: str) -> Node:
        if name not in _FUNCTIONS:
            raise FilterError(f"Unknown function '{name}'.")
        count, kind, _ = _FUNCTIONS[name]
        self._deeper()
        self._expect("(")
        arguments = [self._value()]
        while self._took(","):
            arguments.append(self._value())
        self._expect(")")
        self._depth -= 1
        if len(arguments) != count or any(each.kind not in ("text", "null") for each in arguments):
            raise FilterError(f"No applicable function found for '{name}' with these arguments.")
        return Call(name, tuple(arguments), kind)

    def _boolean(self, node: Node) -> Node:
        if node.kind not in ("boolean", "null"):
            raise FilterError("Expression of type 'Edm.Boolean' expected.")
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise FilterError("The filter is too deeply nested.")

    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "", -1)

    def _took(self, text: str) -> bool:
        if self._peek()[1] != text or self._peek()[0] not in ("word", "sign"):
            return False
        self._next += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._took(text):
            self._fail()

    def _fail(self) -> NoReturn:
        group, text, position = self._peek()
        where = "at the end" if group == "end" else f"at position {position} near {text}"
        raise FilterError(f"Syntax error {where}.")


def _constant(group: str, text: str) -> Constant:
    if group == "text":
        return Constant("text", text[1:-1].replace("''", "'"))
    if group == "number":
        return Constant("number", _number(text))
    if group == "prefixed":
        prefix, _, quoted = text.partition("'")
        return _guid(quoted[:-1]) if prefix == "guid" else _date(quoted[:-1])
    return Constant("null", None) if text == "null" else Constant("boolean", text == "true")


def _number(text: str) -> int | float:
    digits = text.rstrip("LlMmDdFf")
    if re.fullmatch(r"-?\d+", digits):
        if len(digits) > 20:
            raise FilterError(f"{text} is out of range.")
        return int(digits)
    return float(digits)


def _guid(text: str) -> Constant:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise FilterError(f"Unrecognized 'Edm.Guid' literal 'guid'{text}''.")
    return Constant("guid", text.lower())


def _date(text: str) -> Constant:
    try:
        return Constant("date", wall_date(text))
    except BadValue:
        raise FilterError(f"Unrecognized 'Edm.DateTime' literal 'datetime'{text}''.") from None


def _compiled_call(apply: Callable[..., Any], arguments: Sequence[Test]) -> Test:
    def call(values: Mapping[str, Value]) -> Any:
        given = [argument(values) for argument in arguments]
        return None if None in given else apply(*given)

    return call


def _compiled_comparison(name: str, left: Test, right: Test) -> Test:
    if name == "eq":
        return lambda values: left(values) == right(values)
    if name == "ne":
        return lambda values: left(values) != right(values)
    holds = _ORDERINGS[name]

    def compare(values: Mapping[str, Value]) -> bool:
        one, other = left(values), right(values)
        return one is not None and other is not None and holds(one, other)

    return compare
