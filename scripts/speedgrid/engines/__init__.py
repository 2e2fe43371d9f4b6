"""The engines: one module each, with a class `Engine` that keeps the contract of base.py."""

from importlib import import_module

from speedgrid.engines.base import Engine


def engine_class(name: str) -> type[Engine]:
    """The engine of this name; importing it imports nothing heavy."""
    return import_module(f"speedgrid.engines.{name}").Engine
