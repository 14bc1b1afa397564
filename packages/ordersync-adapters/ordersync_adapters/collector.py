"""Python's collector of cycles, set for a process whose work makes very many values."""

import gc

RARELY = 100_000
"""Objects that come before a collection: the values count their own references, and hardly any is in a cycle."""


def collect_rarely() -> None:
    """Leave alone what the process began with, and look at the rest seldom. To be called when all is built."""
    gc.freeze()
    gc.set_threshold(RARELY, 20, 20)
