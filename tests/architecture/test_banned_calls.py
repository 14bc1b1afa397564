"""What an import contract cannot see: a clock, a chance or an id taken from the standard library by a call."""

import json
from pathlib import Path

import pytest

from tests.architecture.tree import Tree

CALLS = {
    "datetime.now": "from datetime import UTC, datetime\n\nmoment = datetime.now(UTC)",
    "datetime.now, by the module": "import datetime\n\nmoment = datetime.datetime.now(datetime.UTC)",
    "datetime.utcnow": "from datetime import datetime\n\nmoment = datetime.utcnow()",
    "time.time": "import time\n\nseconds = time.time()",
    "time.time, by name": "from time import time\n\nseconds = time()",
    "uuid4": "from uuid import uuid4\n\nid = uuid4()",
    "uuid4, by the module": "import uuid\n\nid = uuid.uuid4()",
    "uuid1": "from uuid import uuid1\n\nid = uuid1()",
    "random": "import random\n\nnumber = random.random()",
    "random, by name": "from random import randint\n\nnumber = randint(1, 6)",
}


def found(tree: Tree, file: str, text: str) -> list[str]:
    """The rules that ruff, with the real configuration, finds broken in a module of that name."""
    with tree.planted(file, text):
        path = next(tree.root.glob(f"*/*/{file}"))
        outcome = tree.run("ruff", "check", "--no-cache", "--output-format=json", str(path))
    assert outcome.returncode in (0, 1), outcome.stderr
    return [finding["code"] for finding in json.loads(outcome.stdout) if Path(finding["filename"]) == path]


@pytest.mark.parametrize("text", CALLS.values(), ids=CALLS)
def test_the_core_may_not_call_it(tree: Tree, text: str) -> None:
    assert "TID251" in found(tree, "ordersync_core/items/planted.py", text)


@pytest.mark.parametrize("text", ["datetime.date.today()", "datetime.datetime.today()"])
def test_the_core_may_not_ask_for_today(tree: Tree, text: str) -> None:
    codes = found(tree, "ordersync_core/items/planted.py", f"import datetime\n\nday = {text}")
    assert {"DTZ002", "DTZ011"} & set(codes)


def test_an_id_derived_from_others_is_allowed(tree: Tree) -> None:
    text = 'from uuid import NAMESPACE_URL, uuid5\n\nid = uuid5(NAMESPACE_URL, "urn:ordersync")'
    assert found(tree, "ordersync_core/items/planted.py", text) == []


@pytest.mark.parametrize(
    "file", ["ordersync_adapters/planted.py", "ordersync_connectors/planted.py", "ordersync_jobs/planted.py"]
)
def test_an_adapter_and_a_shell_may(tree: Tree, file: str) -> None:
    assert found(tree, file, CALLS["uuid4"]) == []
