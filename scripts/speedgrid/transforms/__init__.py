"""The transforms: one module each, with a function `make(source, target, settings, device, dtype)` that writes a new checkpoint."""

from collections.abc import Callable
from importlib import import_module


def transform(name: str) -> Callable:
    """The transform of this name; importing it imports nothing heavy."""
    return import_module(f"speedgrid.transforms.{name}").make
