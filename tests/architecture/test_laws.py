"""Every law has its tests in docs/laws.md, and every test of a law is there; `test_documents` sees that they exist."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/laws.md").read_text()
FIRST, LAST = 1, 27

ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| (`tests/[^|]+`) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)*)`")


def table() -> Mapping[str, list[tuple[str, str]]]:
    """The tests of each law, as file and name."""
    return {row[1]: TEST.findall(row[2]) for row in ROW.finditer(DOCUMENT)}


def named() -> set[tuple[str, str]]:
    return {test for tests in table().values() for test in tests}


def functions(file: Path) -> set[str]:
    body = ast.parse(file.read_text()).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    return {node.name for node in body if isinstance(node, ast.FunctionDef)} | {
        f"{node.name}::{method.name}" for node in classes for method in node.body if isinstance(method, ast.FunctionDef)
    }


@pytest.mark.parametrize("law", [str(number) for number in range(FIRST, LAST + 1)])
def test_a_law_has_tests(law: str) -> None:
    assert table()[law]


def test_every_test_of_a_law_is_named() -> None:
    written = {
        (str(file.relative_to(ROOT)), name)
        for file in ROOT.glob("tests/**/test_laws_of_*.py")
        for name in functions(file)
        if name.startswith("test_")
    }
    assert len(written) > 30
    assert written <= named()
