from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.site import Site, site


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def api(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(request.param, tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(scope="module")
def memory_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """In memory only: for what does not depend on the database."""
    with site("memory", tmp_path_factory.mktemp("state")) as running:
        yield running
