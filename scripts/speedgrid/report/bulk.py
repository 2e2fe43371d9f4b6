"""How work on all results of a study at once takes less time."""

import contextlib
import gc
from collections.abc import Iterator

import pandas as pd


@contextlib.contextmanager
def in_bulk() -> Iterator[None]:
    """For work on all results of a study at once, which takes a tenth less processor time so. The garbage collector would look at the rows
    of all replies again and again and find next to nothing; and texts in the tables of pandas are Python's own, from which a row is made
    many times as fast as from Arrow's."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with pd.option_context("mode.string_storage", "python"):
            yield
    finally:
        if collects:
            gc.enable()
