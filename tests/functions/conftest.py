from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functions.stack import Stack, open_stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with open_stack(tmp_path / "state") as opened:
        yield opened
