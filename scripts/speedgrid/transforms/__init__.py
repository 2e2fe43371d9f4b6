"""The transforms: one module each, with a function `make` that writes a new checkpoint; docs/adding-a-technique.md has its signature."""

from collections.abc import Callable
from importlib import import_module


def transform(name: str) -> Callable:
    """The transform of this name; importing it imports nothing heavy."""
    return import_module(f"speedgrid.transforms.{name}").make
