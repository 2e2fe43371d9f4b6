"""The transforms: one module each, with a function `make(task)` that writes a new checkpoint and returns further columns of
schema.CHECKPOINT, and `SETTINGS`, the JSON schema of what a technique may tell it.

What a schema cannot say, a module says in a function `problem(settings, dtype)`: why it would refuse settings that fit the schema, or a
number format, whatever the model and device; empty where it would not. Both are held against every study when it is planned.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from speedgrid.hardware import Device


@dataclass(frozen=True)
class Task:
    """The task of a transform: read the checkpoint folder `source`, write a whole one to the empty folder `target`.

    `settings` are those of the technique's `transform`, without `method`; `calibration` gives texts for methods that need some, in
    the order in which they are to be taken.
    """

    source: Path
    target: Path
    settings: Mapping
    device: Device
    dtype: str
    threads: int
    seed: int
    trust_remote_code: bool
    calibration: Callable[[], Sequence[str]]


def transform(name: str) -> Callable[[Task], dict]:
    """The transform of this name; importing it imports nothing heavy."""
    return import_module(f"speedgrid.transforms.{name}").make


def settings_schema(name: str) -> Mapping:
    """The JSON schema of the settings of a transform, those of `transform` in a technique without `method`."""
    return import_module(f"speedgrid.transforms.{name}").SETTINGS


def problem(name: str, settings: Mapping, dtype: str) -> str:
    """Why a transform refuses settings that fit its schema, or the number format of the cell, whatever the model; empty where it does
    not."""
    module = import_module(f"speedgrid.transforms.{name}")
    return module.problem(settings, dtype) if hasattr(module, "problem") else ""


def writes(name: str) -> str:
    """The format of a transform's checkpoints: `safetensors`, unless its module names another one (`WRITES`)."""
    return getattr(import_module(f"speedgrid.transforms.{name}"), "WRITES", "safetensors")


def uses_torch(name: str) -> bool:
    """Whether the transform computes with PyTorch on the device; one that does not says `USES_TORCH = False`."""
    return getattr(import_module(f"speedgrid.transforms.{name}"), "USES_TORCH", True)
