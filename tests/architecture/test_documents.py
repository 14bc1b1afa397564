"""What the documents name is there: functions, tests, files, commands."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])

NAME = re.compile(r"`(ordersync_\w+(?:\.\w+)*)(?::(\w+(?:\.\w+)*))?`")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+(?:::\w+)*))?`")
FILE = re.compile(r"`((?:bench|docs|apps|packages|tools)/[\w/.-]+\.\w+)`")
TARGET = re.compile(r"`make (\w[\w-]*)")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]*)?\)")


def mentions(pattern: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
    for document in DOCUMENTS:
        for found in pattern.finditer(document.read_text()):
            yield (document.name, *(group or "" for group in found.groups()))


@pytest.mark.parametrize(("document", "module", "name"), sorted(set(mentions(NAME))))
def test_names_resolve(document: str, module: str, name: str) -> None:
    found = import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)


@pytest.mark.parametrize(("document", "file", "name"), sorted(set(mentions(TEST))))
def test_tests_exist(document: str, file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    if name:
        assert name.replace("::", ".") in defined_in(ROOT / file)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_exist(document: Path) -> None:
    for found in FILE.finditer(document.read_text()):
        assert (ROOT / found.group(1)).exists(), found.group(1)


@pytest.mark.parametrize(("document", "target"), sorted(set(mentions(TARGET))))
def test_make_has_the_targets(document: str, target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    for found in LINK.finditer(document.read_text()):
        assert (document.parent / found.group(1)).exists(), found.group(1)


def test_the_walks_name_enough_to_be_followed() -> None:
    walked = [name for document, _, name in mentions(NAME) if document == "architecture.md" and name]
    assert len(walked) > 40


@cache
def defined_in(file: Path) -> frozenset[str]:
    """Functions, classes and methods of a module, methods with and without their class; inherited ones are not among
    them."""
    names = set[str]()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {*methods, *(f"{node.name}.{method}" for method in methods)}
    return frozenset(names)
