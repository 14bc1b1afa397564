"""A local server that behaves as Exact Online's API does, as far as reading items needs it.

Everything it knows is told in `external-systems` chapter 1; a deviation is named where it is made.
"""

from .faults import FaultError
from .item_file import ItemFileError, ItemRow, ItemRows, read_item_file
from .server import SandboxServer, run_sandbox
from .settings import SandboxSettings

__all__ = [
    "FaultError",
    "ItemFileError",
    "ItemRow",
    "ItemRows",
    "SandboxServer",
    "SandboxSettings",
    "read_item_file",
    "run_sandbox",
]
