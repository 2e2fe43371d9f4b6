"""The contract of a workload that does one thing again and again: training steps, forward passes, attention at a length."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module

from speedgrid.engines.base import Proof, Runtime
from speedgrid.outcomes import NotFinite


class Work(ABC):
    """What a cell does, by its engine, under the settings of the experiment.

    A job calls `load`, then for each size that `next_point` gives `prepare` and many times `run`, and in the end `prove`. A workload
    without sizes has the one point None.
    """

    # What `items` counts, and what a run is called.
    unit, noun = "pass", "pass"
    # Whether a series that was disturbed may be counted again. Not where each run changes the model: the losses would be of later steps.
    repeatable = True

    def __init__(self, engine: Runtime, settings: Mapping, seed: int):
        self.engine, self.settings, self.seed = engine, settings, seed

    @abstractmethod
    def load(self) -> None:
        """Load what is run onto the device and apply the technique. Raises outcomes.Unsupported where they do not go together."""

    def next_point(self, done: Sequence[tuple[int | None, bool]]) -> int | None:
        """The size to run at next, after those in `done`, each with whether it fitted into memory; None where there is none left."""
        return None

    def prepare(self, point: int | None) -> None:  # noqa: B027 - most workloads have one size
        """Make the inputs of a size."""

    @abstractmethod
    def run(self) -> object:
        """One step or pass: what is timed. What it returns goes to `columns`."""

    @abstractmethod
    def columns(self, result: object) -> dict:
        """Columns of schema.MEASURE of what `run` returned; `items` at least. Not timed."""

    def check_numbers(self, results: Sequence[float]) -> None:
        """Raise outcomes.NotFinite where a result of the counted runs, such as a loss, is no finite number: what overflows or diverges is
        no faster or slower, it is of no use. Called after the counted runs; `results` in their order."""
        first = next((number for number, result in enumerate(results, 1) if not math.isfinite(result)), None)
        if first is not None:
            raise NotFinite(f"the loss is no finite number from counted {self.noun} {first} on: it overflowed or diverged")

    @abstractmethod
    def prove(self) -> Proof:
        """See whether the technique was active, and that it computes what it should; called after the counted runs.

        Raises RuntimeError where a technique that keeps the arithmetic gave another result: its times would be those of something else.
        """

    def room(self) -> int | None:
        """Bytes that the runs may take beyond what the loaded model holds; None for all that is free."""
        return None

    def flop(self) -> float | None:
        """Operations that a run at the current size needs, whatever the technique computes twice; None where not known."""
        return None


def work_class(name: str) -> type[Work]:
    """The workload of this name; importing it imports nothing heavy."""
    return import_module(f"speedgrid.workloads.{name}").Work


def next_length(lengths: Sequence[int], done: Sequence[tuple[int | None, bool]]) -> int | None:
    """The next of `lengths` after those in `done`; None where there is none left, or the last one did not fit."""
    return lengths[len(done)] if len(done) < len(lengths) and all(fits for _, fits in done) else None


def relative_difference(found: Sequence, wanted: Sequence) -> float:
    """Norm of the difference of two lists of tensors over the norm of the second: 0 where they are equal."""
    apart = sum(((a.double() - b.double()) ** 2).sum().item() for a, b in zip(found, wanted, strict=True))
    norm = sum((b.double() ** 2).sum().item() for b in wanted)
    return (apart / norm) ** 0.5 if norm else apart**0.5
