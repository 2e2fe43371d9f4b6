"""The engines: one module each, with a class `Engine` that keeps a contract of base.py."""

from importlib import import_module

from speedgrid.engines.base import Runtime


def engine_class(name: str) -> type[Runtime]:
    """The engine of this name; importing it imports nothing heavy."""
    return import_module(f"speedgrid.engines.{name}").Engine
