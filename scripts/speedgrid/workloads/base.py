"""The contract of a workload, which does one thing again and again: replies, training steps, forward passes, attention at a length."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Generic, TypeVar

from speedgrid.engines.base import Proof, Runtime
from speedgrid.outcomes import NotFinite
from speedgrid.specification import Settings

Result = TypeVar("Result")


class Work(ABC, Generic[Result]):
    """What a cell does, by its engine, under the settings of the experiment; `Result` is what a run returns.

    A job calls `open` and `load`, then for each size that `next_point` gives `prepare` and many times `run`, and in the end `prove`. A
    workload without sizes has the one point None.
    """

    # The column that says how much a run did, and what a run is called.
    counts, noun = "items", "pass"
    # Whether a series that was disturbed may be counted again. Not where each run changes the model: the losses would be of later steps.
    repeatable = True
    # The name of the job's phase in which `look` is called; empty where there is nothing to look at.
    looks_at = ""

    def __init__(self, engine: Runtime, settings: Settings, seed: int):
        self.engine, self.settings, self.seed = engine, settings, seed

    @property
    def unit(self) -> str:
        """What is counted of a run."""
        return "pass"

    def open(self) -> None:
        """Read what is needed besides the weights, before they are loaded; the device is left alone."""

    def facts(self) -> dict:
        """Facts of schema.MEASURE that are known before anything is loaded."""
        return {"unit": self.unit}

    @abstractmethod
    def load(self) -> None:
        """Load what is run onto the device and apply the technique. Raises outcomes.Unsupported where they do not go together."""

    def next_point(self, done: Sequence[tuple[int | None, bool]]) -> int | None:
        """The size to run at next, after those in `done`, each with whether it fitted into memory; None where there is none left."""
        return None

    def prepare(self, point: int | None) -> None:
        """Make the inputs of a size."""

    @abstractmethod
    def run(self, number: int = 0) -> Result:
        """One reply, step or pass: what is timed. What it returns goes to `columns`. `number` counts from 1, and is 0 in a warm-up."""

    def seed_of(self, number: int) -> int:
        """The seed of a counted run."""
        return self.seed

    def seconds(self, result: Result) -> float | None:
        """How long a run took, where the engine has timed it; None where it is timed from outside."""
        return None

    @abstractmethod
    def columns(self, result: Result) -> dict[str, Any]:
        """Columns of schema.MEASURE of what `run` returned; the one that is counted at least. Not timed."""

    def point_columns(self, held: int) -> dict:
        """Columns that are the same for all runs of a size; `held` are the bytes that they took at most."""
        return {"point_memory": held, "flop": self.flop()}

    def check_numbers(self, rows: Sequence[Mapping]) -> None:
        """Raise outcomes.NotFinite where a result of the counted runs, such as a loss, is no finite number: the speed of what overflowed or
        diverged means nothing. Called after the counted runs; `rows` are theirs, in their order."""
        losses = [row["loss"] for row in rows if row.get("loss") is not None]
        first = next((number for number, loss in enumerate(losses, 1) if not math.isfinite(loss)), None)
        if first is not None:
            raise NotFinite(f"the loss is no finite number from counted {self.noun} {first} on: it overflowed or diverged")

    def ended_early(self, rows: Sequence[Mapping]) -> str:
        """Why the counted runs are too short to give a speed, though the technique works; empty where they are not."""
        return ""

    def look(self) -> None:
        """Raise outcomes.Unsupported for a model that the workload does not measure; called in a cold start, after the first runs."""

    @abstractmethod
    def prove(self) -> Proof:
        """See whether the technique was active, and that it computes what it should; called after the counted runs.

        Raises RuntimeError where a technique that keeps the arithmetic gave another result: its times would be those of something else.
        """

    def room(self) -> int | None:
        """Bytes that the runs may take beyond what the loaded model holds; None for all that is free."""
        return None

    def flop(self) -> float | None:
        """Operations that a run at the current size needs, recomputation left out; None where not known."""
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
