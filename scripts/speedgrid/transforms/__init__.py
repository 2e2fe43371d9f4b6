"""The transforms: one module each, with a function `make(task)` that writes a new checkpoint and returns further columns of
schema.CHECKPOINT."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from speedgrid.hardware import Device


@dataclass(frozen=True)
class Task:
    """What a transform is told: read the checkpoint folder `source`, write a whole one to the empty folder `target`.

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


def uses_torch(name: str) -> bool:
    """Whether the transform computes with PyTorch on the device; one that does not says `USES_TORCH = False`."""
    return getattr(import_module(f"speedgrid.transforms.{name}"), "USES_TORCH", True)
