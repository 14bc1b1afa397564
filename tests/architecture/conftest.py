"""A copy of the real tree, with the real configuration, into which tests plant what must be refused."""

from pathlib import Path

import pytest

from tests.architecture.tree import Tree, copy_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return copy_tree(tmp_path_factory.mktemp("architecture"), Path(__file__).parents[2])
