"""The filter language: what is written is what is asked, and nothing but FilterError comes of nonsense."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_connectors.exact_online.sandbox.fields import SYNC_ITEM_FIELDS, Value
from ordersync_connectors.exact_online.sandbox.filters import (
    DEEPEST,
    FilterError,
    compiled,
    literals,
    lower_bound,
    named_values,
    parse_filter,
)

ROW: Mapping[str, Value] = {
    "Code": "A1",
    "Description": "It's 5'",
    "Timestamp": 12,
    "NetWeight": 1.5,
    "IsSalesItem": True,
}


def holds(text: str, row: Mapping[str, Value] = ROW) -> bool:
    return bool(compiled(parse_filter(text, SYNC_ITEM_FIELDS))(row))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Code eq 'A1'", True),
        ("'A1' eq Code", True),
        ("Code eq 'a1'", False),
        ("Description eq 'It''s 5'''", True),
        ("Timestamp gt 11L and Timestamp le 12", True),
        ("NetWeight ge 1.5", True),
        ("NetWeight lt 1.5e0", False),
        ("not Code eq 'A1'", False),
        ("not (Code eq 'A2') and IsSalesItem", True),
        ("Barcode eq null", True),
        ("Barcode ne null", False),
        ("Barcode ne 'x'", True),
        ("Barcode gt 'x'", False),
        ("null eq null", True),
        ("substringof('5',Description)", True),
        ("substringof('5',Barcode)", False),
        ("substringof('5',Description) eq false", False),
        ("startswith( trim(Code) , 'A' ) eq true", True),
        ("endswith(toupper(Code),'a1')", False),
        ("endswith(tolower(Code),'1')", True),
        ("Code eq 'x' or Code eq 'A1' and Timestamp eq 12", True),
        ("(Code eq 'x' or Code eq 'A1') and Timestamp eq 13", False),
        ("  ( ( Code eq 'A1' ) )  ", True),
        ("IsSalesItem eq true", True),
        ("NetWeight eq -1.5", False),
    ],
)
def test_filters_ask_what_they_say(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Code",
        "Code eq",
        "eq 'A'",
        "Code eq 'A",
        "Code eq 'A' and",
        "Code eq 'A' 'B'",
        "Code == 'A'",
        "Code eq 1",
        "Timestamp eq '1'",
        "ID eq 'x'",
        "ID eq guid'x'",
        "Modified ge datetime'yesterday'",
        "Nothing eq 1",
        "ItemGroup/Code eq 'x'",
        "Stock eq 1",
        "length(Code) eq 2",
        "startswith(Code)",
        "startswith(Code,1)",
        "trim(Code)",
        "(Code eq 'A'",
        "Code eq 'A')",
        "Timestamp gt 12x",
        "Timestamp gt 123456789012345678901234567890",
        "not" * 3,
        "and",
        "Code eq 'A' AND Code eq 'B'",
        "(" * (DEEPEST + 1) + "Code eq 'A'" + ")" * (DEEPEST + 1),
        "not " * 5000 + "Code eq 'A'",
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(FilterError):
        parse_filter(text, SYNC_ITEM_FIELDS)


@given(text=st.text(max_size=60) | st.text(st.sampled_from("()',Codeqnt 1L-."), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        node = parse_filter(text, SYNC_ITEM_FIELDS)
    except FilterError:
        return
    compiled(node)(ROW)


codes = st.sampled_from(["", "A1", "A2", "it's", "a b", "é"])
numbers = st.integers(-5, 20)
rows = st.fixed_dictionaries({"Code": codes, "Timestamp": numbers, "IsSalesItem": st.booleans(), "Barcode": st.none()})

Tree = tuple[Any, ...]
comparisons: st.SearchStrategy[Tree] = st.tuples(
    st.just("compare"),
    st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]),
    st.tuples(st.just("Code"), codes) | st.tuples(st.just("Timestamp"), numbers),
)
trees: st.SearchStrategy[Tree] = st.recursive(
    comparisons,
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    max_leaves=12,
)


def written(tree: Tree) -> str:
    match tree:
        case ("compare", operator, (name, str() as value)):
            return f"{name} {operator} '" + value.replace("'", "''") + "'"
        case ("compare", operator, (name, value)):
            return f"{name} {operator} {value}L"
        case ("not", inner):
            return f"not ({written(inner)})"
        case (operator, left, right):
            return f"({written(left)}) {operator} ({written(right)})"
    raise AssertionError(tree)


def asked(tree: Tree, row: Mapping[str, Any]) -> bool:
    match tree:
        case ("compare", operator, (name, value)):
            held = row[name]
            results: dict[str, bool] = {
                "eq": held == value,
                "ne": held != value,
                "gt": held > value,
                "ge": held >= value,
                "lt": held < value,
                "le": held <= value,
            }
            return results[operator]
        case ("not", inner):
            return not asked(inner, row)
        case ("and", left, right):
            return asked(left, row) and asked(right, row)
        case (_, left, right):
            return asked(left, row) or asked(right, row)
    raise AssertionError(tree)


@given(tree=trees, row=rows)
def test_a_written_tree_asks_what_the_tree_asks(tree: Tree, row: Mapping[str, Value]) -> None:
    assert holds(written(tree), row) is asked(tree, row)


@given(tree=trees, row=rows)
def test_shortcuts_never_leave_out_a_row_that_the_filter_holds_for(tree: Tree, row: Mapping[str, Any]) -> None:
    node = parse_filter(written(tree), SYNC_ITEM_FIELDS)
    if not asked(tree, row):
        return
    bound, named = lower_bound(node, "Timestamp"), named_values(node, "Code")
    assert bound is None or row["Timestamp"] > bound
    assert named is None or row["Code"] in named


def test_shortcuts_are_found_where_they_matter() -> None:
    def parsed(text: str) -> Any:
        return parse_filter(text, SYNC_ITEM_FIELDS)

    assert lower_bound(parsed("Timestamp gt 5L"), "Timestamp") == 5
    assert lower_bound(parsed("IsSalesItem eq true and Timestamp ge 6L"), "Timestamp") == 5
    assert lower_bound(parsed("Timestamp gt 5L or Code eq 'A'"), "Timestamp") is None
    assert named_values(parsed("Code eq 'A' or Code eq 'B'"), "Code") == {"A", "B"}
    assert named_values(parsed("Code eq 'A' or IsSalesItem"), "Code") is None


def test_several_literals_stand_in_a_skip_token() -> None:
    assert [each.value for each in literals("'a''b',12L,null,datetime'2026-06-25T00:00:00.001'")] == [
        "a'b",
        12,
        None,
        1782345600001,
    ]
    for text in ("", "Code", "'a'b", "1,,2", "1 2"):
        with pytest.raises(FilterError):
            literals(text)
